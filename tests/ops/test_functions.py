"""Smooth activations, softmax and normalisations: their formulas, bounds against PyTorch, gradients, operators."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from devices import each_device, opchecks, runs_kernels
from torch import Tensor

from cimq.ops import activation, group_norm, layer_norm, softmax

SMOOTH: dict[str, tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]] = {
    "tanh": (lambda x: activation(x, "tanh"), torch.tanh),
    "gelu": (lambda x: activation(x, "gelu"), F.gelu),
    "gelu_tanh": (lambda x: activation(x, "gelu_tanh"), lambda x: F.gelu(x, approximate="tanh")),
    "elu": (lambda x: activation(x, "elu"), F.elu),
    "elu 0.375": (lambda x: activation(x, "elu", 0.375), lambda x: F.elu(x, 0.375)),
    "elu -2": (lambda x: activation(x, "elu", -2.0), lambda x: F.elu(x, -2.0)),
    "softmax": (lambda x: softmax(x, -1), lambda x: F.softmax(x, -1)),
    "log_softmax": (lambda x: softmax(x, -1, True), lambda x: F.log_softmax(x, -1)),
}


def ulps(a: Tensor, b: Tensor) -> Tensor:
    """Distance in representable numbers."""

    def place(x: Tensor) -> Tensor:
        bits = x.view(torch.int32).long()
        return torch.where(bits < 0, -(2**31) - bits, bits)

    return (place(a) - place(b)).abs()


def on(device: str, *tensors: Tensor | None) -> list[Tensor | None]:
    return [None if tensor is None else tensor.to(device) for tensor in tensors]


def samples(count: int = 20000) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    small = torch.randn(count // 2, generator=generator) * torch.logspace(-6, 0, count // 2)
    return torch.cat([torch.linspace(-15.0, 15.0, count // 2), small])


@pytest.mark.parametrize("device", each_device())
@pytest.mark.parametrize("name", SMOOTH)
def test_one_step_from_the_exact_value(name: str, device: str) -> None:
    """Rounded once: the float64 value of PyTorch, rounded, but for one in 10^5 at the edge between two numbers.

    F.gelu of float64 cancels for negative arguments: there the bound is that of its own formula.
    """
    x = samples(20000 if device == "cpu" else 2000)
    ours, reference = SMOOTH[name]
    with runs_kernels(device):
        y = ours(x.to(device)).cpu()
    assert torch.equal(y, ours(x))
    exact = reference(x.double())
    if name.startswith("gelu"):
        wanted = x.double() * (
            0.5 * torch.special.erfc(-x.double() / 2**0.5)
            if name == "gelu"
            else torch.sigmoid(1.5957691216057308 * (x.double() + 0.044715 * x.double() ** 3))
        )
        assert float((exact - wanted).abs().max()) < 1e-14
        exact = wanted
    distance = ulps(y, exact.float())
    assert int(distance.max()) <= 1
    assert int((distance > 0).sum()) <= 4


@pytest.mark.parametrize("device", each_device())
@pytest.mark.parametrize("name", SMOOTH)
def test_values_and_gradients_are_those_of_pytorch(name: str, device: str) -> None:
    """1e-6 relative, or absolute where PyTorch's own float32 formula cancels; gradients by PyTorch's formulas."""
    x = samples(2000).reshape(50, 40).to(device).requires_grad_()
    other = x.detach().clone().requires_grad_()
    ours, reference = SMOOTH[name]
    y, wanted = ours(x), reference(other)
    torch.testing.assert_close(y, wanted, rtol=1e-6, atol=1e-6)
    grad = torch.randn(50, 40, generator=torch.Generator().manual_seed(1)).to(device)
    y.backward(grad)
    wanted.backward(grad)
    torch.testing.assert_close(x.grad, other.grad, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("device", each_device())
def test_ends_of_the_range(device: str) -> None:
    x = torch.tensor([float("-inf"), -1e30, -0.0, 0.0, 1e30, float("inf"), float("nan")], device=device)
    for kind, low, high in (("tanh", -1.0, 1.0), ("gelu", 0.0, None), ("gelu_tanh", 0.0, None), ("elu", -1.0, None)):
        y = activation(x, kind)
        assert y[:2].tolist() == [low, low]
        assert y[2:4].tolist() == [0.0, 0.0]
        assert y[4:6].tolist() == ([high, high] if high is not None else x[4:6].tolist())
        assert bool(torch.isnan(y[6]))
    tiny = torch.tensor([1e-40, -1e-40, 1e-20, -1e-20], device=device)
    assert torch.equal(activation(tiny, "tanh"), tiny)
    assert torch.equal(activation(tiny, "elu"), tiny)
    assert torch.equal(activation(tiny, "gelu"), tiny / 2)


@pytest.mark.parametrize("device", each_device())
def test_softmax_of_special_values(device: str) -> None:
    masked = torch.tensor([[0.0, float("-inf"), 1.0], [float("-inf")] * 3, [float("inf"), 0.0, 1.0]], device=device)
    y = softmax(masked, 1)
    assert y[0, 1] == 0
    torch.testing.assert_close(y, F.softmax(masked, 1), equal_nan=True)
    torch.testing.assert_close(softmax(masked, 1, True), F.log_softmax(masked, 1), equal_nan=True)
    big = torch.tensor([[3e38, -3e38, 3e38]], device=device)
    assert softmax(big, 1).tolist() == [[0.5, 0.0, 0.5]]
    assert softmax(torch.zeros(0, 3, device=device), 1).shape == (0, 3)
    assert softmax(torch.zeros(3, 0, device=device), 1).shape == (3, 0)
    assert softmax(torch.zeros(1, device=device), 0).tolist() == [1.0]


@pytest.mark.parametrize("device", each_device())
@pytest.mark.parametrize("logarithm", [False, True])
@pytest.mark.parametrize("dim", [0, 1, 2, -1])
def test_softmax_along_every_dimension(dim: int, logarithm: bool, device: str) -> None:
    x = torch.randn(4, 5, 6) * 5
    wanted = F.log_softmax(x.double(), dim) if logarithm else F.softmax(x.double(), dim)
    x = x.to(device)
    with runs_kernels(device, "softmax_rows" if dim in (2, -1) else "softmax_columns"):
        y = softmax(x, dim, logarithm)
    assert int(ulps(y.cpu(), wanted.float()).max()) <= 1
    assert torch.equal(y.cpu(), softmax(x.cpu(), dim, logarithm))
    assert torch.equal(softmax(x.transpose(0, 2), 2 - dim % 3, logarithm), y.transpose(0, 2))


def normalised(x: np.ndarray, weight: Any, bias: Any, eps: float) -> np.ndarray:
    """Rows of x by loops, in the order that the documentation gives."""
    y = np.zeros(x.shape, np.float32)
    for row, values in enumerate(x.astype(np.float64)):
        total = 0.0
        for value in values:
            total += value
        mean = total / len(values)
        squares = 0.0
        for value in values:
            squares += (value - mean) * (value - mean)
        r = 1.0 / np.sqrt(squares / len(values) + eps)
        for i, value in enumerate(values):
            scale = 1.0 if weight is None else np.float64(weight[row, i])
            shift = 0.0 if bias is None else np.float64(bias[row, i])
            y[row, i] = np.float32(((value - mean) * r) * scale + shift)
    return y


@pytest.mark.parametrize("device", each_device())
@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("shape", [(7,), (3, 7), (5, 3, 7)])
def test_layer_norm(shape: tuple[int, ...], affine: bool, device: str) -> None:
    x = torch.randn(2, 5, 3, 7) * 3 + 1
    weight, bias = (torch.randn(shape), torch.randn(shape)) if affine else (None, None)
    with runs_kernels(device, "normalise_rows"):
        y = layer_norm(*on(device, x), shape, *on(device, weight, bias), 1e-3).cpu()
    rows = x.reshape(-1, int(np.prod(shape))).numpy()
    flat = [None if p is None else np.broadcast_to(p.numpy().reshape(-1), rows.shape) for p in (weight, bias)]
    assert np.array_equal(y.numpy().reshape(rows.shape), normalised(rows, *flat, 1e-3))
    torch.testing.assert_close(y, F.layer_norm(x, shape, weight, bias, 1e-3), rtol=1e-6, atol=2e-6)


@pytest.mark.parametrize("device", each_device())
@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize(
    ("groups", "rest"), [(1, ()), (2, ()), (1, (4,)), (2, (4,)), (6, (4,)), (1, (3, 5)), (3, (3, 5)), (6, (3, 5))]
)
def test_group_norm(groups: int, rest: tuple[int, ...], affine: bool, device: str) -> None:
    x = torch.randn(3, 6, *rest) * 3 + 1
    weight, bias = (torch.randn(6), torch.randn(6)) if affine else (None, None)
    with runs_kernels(device, "normalise_rows"):
        y = group_norm(*on(device, x), groups, *on(device, weight, bias)).cpu()
    rows = x.reshape(3 * groups, -1).numpy()
    inner = int(np.prod(rest, dtype=int))
    flat = [
        None if p is None else np.tile(np.repeat(p.numpy(), inner).reshape(groups, -1), (3, 1)) for p in (weight, bias)
    ]
    assert np.array_equal(y.numpy().reshape(rows.shape), normalised(rows, *flat, 1e-5))
    torch.testing.assert_close(y, F.group_norm(x, groups, weight, bias), rtol=1e-6, atol=2e-6)


@pytest.mark.parametrize("device", each_device())
@pytest.mark.parametrize("affine", [True, False])
def test_gradients_of_normalisations(affine: bool, device: str) -> None:
    x = torch.randn(3, 6, 4, device=device, requires_grad=True)
    parameters = [torch.randn(6, device=device, requires_grad=True) for _ in range(2)]
    weight, bias = parameters if affine else (None, None)
    grad = torch.randn(3, 6, 4, device=device)
    inputs = [tensor for tensor in (x, weight, bias) if tensor is not None]
    pairs = [(group_norm(x, 3, weight, bias), F.group_norm(x, 3, weight, bias))]
    moved = x.transpose(1, 2)
    pairs.append((layer_norm(moved, (6,), weight, bias), F.layer_norm(moved, (6,), weight, bias)))
    for ours, theirs in pairs:
        upstream = grad.reshape(ours.shape)
        for a, b in zip(
            torch.autograd.grad(ours, inputs, upstream), torch.autograd.grad(theirs, inputs, upstream), strict=True
        ):
            torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)
    only = torch.randn(6, device=device, requires_grad=True)
    layer_norm(torch.randn(2, 6, device=device), (6,), only).sum().backward()
    assert only.grad is not None


def test_threads_and_batches_do_not_change_a_bit() -> None:
    x = torch.randn(64, 8, 9, 9) * 4
    threads = torch.get_num_threads()
    calls: list[Callable[[Tensor], Tensor]] = [
        lambda x: softmax(x, 1),
        lambda x: softmax(x, -1, True),
        lambda x: layer_norm(x, (9, 9)),
        lambda x: group_norm(x, 4),
        lambda x: activation(x, "gelu"),
    ]
    try:
        torch.set_num_threads(1)
        one = [call(x) for call in calls]
        torch.set_num_threads(3)
        for call, expected in zip(calls, one, strict=True):
            assert torch.equal(call(x), expected)
            assert torch.equal(torch.cat([call(x[:1]), call(x[1:])]), expected)
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize("device", each_device())
def test_opcheck(device: str) -> None:
    ops = torch.ops.cimq
    x = torch.randn(2, 6, 5, device=device, requires_grad=True)
    weight, bias = (torch.randn(6, device=device, requires_grad=True) for _ in range(2))
    for kind in ("tanh", "gelu", "gelu_tanh"):
        torch.library.opcheck(ops.activation.default, (x, kind), test_utils=opchecks(device))
    torch.library.opcheck(ops.activation.default, (x, "elu", 0.5), test_utils=opchecks(device))
    for logarithm in (False, True):
        torch.library.opcheck(ops.softmax.default, (x, 1, logarithm), test_utils=opchecks(device))
    for parameters in ((weight, bias), (weight, None), (None, None)):
        torch.library.opcheck(ops.group_norm.default, (x, 3, *parameters), test_utils=opchecks(device))
        moved = (x.detach().transpose(1, 2).requires_grad_(), [6], *parameters)
        torch.library.opcheck(ops.layer_norm.default, moved, test_utils=opchecks(device))


def test_compiles_without_graph_break() -> None:
    def network(x: Tensor) -> Tensor:
        return softmax(activation(group_norm(layer_norm(x, (5,)), 2), "elu", 0.2), 1)

    x = torch.randn(2, 4, 5)
    assert torch.equal(torch.compile(network, fullgraph=True, backend="aot_eager")(x), network(x))


BAD = [
    (lambda: activation(torch.zeros(2), "elu", float("nan")), ValueError, "activation: alpha must be a finite float32"),
    (lambda: activation(torch.zeros(2), "elu", 1e300), ValueError, "activation: alpha must be a finite float32"),
    (lambda: softmax(torch.zeros(2, 3), 2), ValueError, "softmax: dim must be a dimension of x, got 2"),
    (lambda: softmax(torch.tensor(1.0), 0), ValueError, "softmax: dim must be a dimension of x"),
    (lambda: softmax(torch.zeros(2, dtype=torch.int64), 0), TypeError, "softmax: x must be float32"),
    (lambda: layer_norm(torch.zeros(2, 3), (2,)), ValueError, "layer_norm: normalized_shape must be the last"),
    (lambda: layer_norm(torch.zeros(2, 3), ()), ValueError, "layer_norm: normalized_shape must be the last"),
    (lambda: layer_norm(torch.zeros(3), (2, 3)), ValueError, "layer_norm: normalized_shape must be the last"),
    (lambda: layer_norm(torch.zeros(2, 3), (3,), torch.ones(2)), ValueError, r"weight must have shape \[3\]"),
    (lambda: layer_norm(torch.zeros(2, 3), (3,), eps=-1.0), ValueError, "layer_norm: eps must be a number of at least"),
    (lambda: layer_norm(torch.zeros(2, 3).double(), (3,)), TypeError, "layer_norm: x must be float32"),
    (lambda: group_norm(torch.zeros(2, 6), 4), ValueError, "group_norm: groups must divide the channels, got 4 for 6"),
    (lambda: group_norm(torch.zeros(2, 6), 0), ValueError, "group_norm: groups must divide the channels"),
    (lambda: group_norm(torch.zeros(6), 2), ValueError, r"group_norm: x must be \[batch, channels"),
    (lambda: group_norm(torch.zeros(2, 6), 2, None, torch.ones(5)), ValueError, r"bias must have shape \[6\]"),
    (lambda: group_norm(torch.zeros(2, 6), 2, torch.ones(6).half()), TypeError, "weight must be float32"),
]


@pytest.mark.parametrize("device", each_device())
@pytest.mark.parametrize(("call", "error", "text"), BAD)
def test_bad_arguments_are_named(call: Any, error: type[Exception], text: str, device: str) -> None:
    with torch.device(device), pytest.raises(error, match=text):
        call()


@pytest.mark.parametrize("device", each_device("emulated", "cuda"))
def test_parameters_must_be_on_the_device_of_x(device: str) -> None:
    x = torch.zeros(2, 6, device=device)
    with pytest.raises(ValueError, match="layer_norm: weight must be a dense CUDA tensor, got device cpu"):
        layer_norm(x, (6,), torch.ones(6))
    with pytest.raises(ValueError, match="group_norm: bias must be a dense CUDA tensor, got device cpu"):
        group_norm(x, 2, None, torch.ones(6))
