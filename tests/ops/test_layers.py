"""Float32 layers: the value in the order that the documentation gives, and their gradients."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from devices import each_device, opchecks, runs_kernels
from torch import Tensor

from cimq.ops import activation, avg_pool2d, conv2d_f32, linear_f32


def pooled_by_loops(
    x: Tensor, kernel: tuple[int, int], stride: tuple[int, int], padding: tuple[int, int], pads: bool
) -> Tensor:
    image = np.pad(x.numpy(), ((0, 0), (0, 0), (padding[0],) * 2, (padding[1],) * 2))
    inside = np.pad(np.ones(x.shape[2:], np.float32), ((padding[0],) * 2, (padding[1],) * 2))
    out_h = (image.shape[2] - kernel[0]) // stride[0] + 1
    out_w = (image.shape[3] - kernel[1]) // stride[1] + 1
    y = np.zeros((*x.shape[:2], out_h, out_w), np.float32)
    for oy in range(out_h):
        for ox in range(out_w):
            total = np.zeros(x.shape[:2], np.float32)
            count = 0
            for ky in range(kernel[0]):
                for kx in range(kernel[1]):
                    at = (oy * stride[0] + ky, ox * stride[1] + kx)
                    total = total + image[:, :, at[0], at[1]]
                    count += 1 if pads else int(inside[at])
            y[:, :, oy, ox] = total / np.float32(count)
    return torch.from_numpy(y)


@pytest.mark.parametrize("device", each_device())
@pytest.mark.parametrize("pads", [True, False])
@pytest.mark.parametrize(
    ("kernel", "stride", "padding"), [((2, 2), (2, 2), (0, 0)), ((3, 2), (1, 2), (1, 1)), ((7, 7), (7, 7), (0, 0))]
)
def test_avg_pool2d_sums_in_the_given_order(
    kernel: tuple[int, int], stride: tuple[int, int], padding: tuple[int, int], pads: bool, device: str
) -> None:
    x = torch.randn(3, 4, 7, 7)
    with runs_kernels(device, "average_windows"):
        y = avg_pool2d(x.to(device), kernel, stride, padding, pads).cpu()
    assert torch.equal(y, pooled_by_loops(x, kernel, stride, padding, pads))
    torch.testing.assert_close(
        y, torch.nn.functional.avg_pool2d(x, kernel, stride, padding, count_include_pad=pads), rtol=1e-5, atol=1e-6
    )


def test_avg_pool2d_defaults_and_gradient() -> None:
    x = torch.randn(2, 3, 6, 6, requires_grad=True)
    grad = torch.randn(2, 3, 3, 3)
    avg_pool2d(x, 2).backward(grad)
    expected = torch.nn.functional.interpolate(grad, scale_factor=2) / 4
    torch.testing.assert_close(x.grad, expected)


ACTIVATIONS = {
    "sigmoid": torch.sigmoid,
    "silu": torch.nn.functional.silu,
    "hardsigmoid": torch.nn.functional.hardsigmoid,
    "hardswish": torch.nn.functional.hardswish,
}


@pytest.mark.parametrize("device", each_device())
@pytest.mark.parametrize("kind", ACTIVATIONS)
def test_activations_are_those_of_pytorch_within_rounding(kind: str, device: str) -> None:
    values = torch.cat([torch.linspace(-20, 20, 4001), torch.tensor([-1e30, 1e30, 0.0, -0.0])])
    x = values.to(device).requires_grad_()
    wanted_x = x.detach().clone().requires_grad_()
    with runs_kernels(device, "activation_values"):
        y = activation(x, kind)
    assert torch.equal(y.cpu(), activation(values, kind))
    wanted = ACTIVATIONS[kind](wanted_x)
    torch.testing.assert_close(y, wanted, rtol=1e-6, atol=1e-7)
    y.sum().backward()
    wanted.sum().backward()
    torch.testing.assert_close(x.grad, wanted_x.grad)
    assert torch.equal(activation(x[:1001:7].reshape(1, 11, 13), kind).flatten(), y[:1001:7])


@pytest.mark.parametrize("kind", ["sigmoid", "silu"])
def test_activations_are_rounded_once(kind: str) -> None:
    x = torch.randn(5000, generator=torch.Generator().manual_seed(0)) * 6
    exact = torch.sigmoid(x.double()) * (x.double() if kind == "silu" else 1.0)
    assert int((activation(x, kind) != exact.float()).sum()) <= 1  # float64 of PyTorch is rounded as well


def test_activation_refusals() -> None:
    with pytest.raises(ValueError, match=r"kind must be sigmoid, silu, .* or elu, got 'mish'"):
        activation(torch.zeros(2), "mish")
    with pytest.raises(TypeError, match="activation: x must be float32"):
        activation(torch.zeros(2, dtype=torch.float64), "silu")
    torch.library.opcheck(
        torch.ops.cimq.activation, (torch.randn(2, 3, requires_grad=True), "silu"), test_utils=opchecks("cpu")
    )


def linear_by_loops(x: Tensor, w: Tensor, bias: Tensor | None) -> Tensor:
    total = np.zeros((x.shape[0], w.shape[0]))
    for k in range(w.shape[1]):
        total = total + x[:, k, None].double().numpy() * w[None, :, k].double().numpy()
    if bias is not None:
        total = total + bias.double().numpy()
    return torch.from_numpy(total.astype(np.float32))


@pytest.mark.parametrize("device", each_device())
@pytest.mark.parametrize("with_bias", [True, False])
def test_linear_f32(with_bias: bool, device: str) -> None:
    x = torch.randn(5, 300, device=device, requires_grad=True)
    w = torch.randn(7, 300, device=device, requires_grad=True)
    bias = torch.randn(7, device=device, requires_grad=True) if with_bias else None
    with runs_kernels(device, "sum_products"):
        y = linear_f32(x, w, bias)
    operands = [None if t is None else t.detach().cpu() for t in (x, w, bias)]
    assert torch.equal(y.cpu(), linear_by_loops(*operands))
    wanted = [t for t in (x, w, bias) if t is not None]
    grad = torch.randn_like(y)
    expected = torch.autograd.grad(torch.nn.functional.linear(x, w, bias), wanted, grad)
    for ours, theirs in zip(torch.autograd.grad(y, wanted, grad), expected, strict=True):
        torch.testing.assert_close(ours, theirs)
    assert linear_f32(torch.zeros(2, 0, 300, device=device), w, bias).shape == (2, 0, 7)


@pytest.mark.parametrize("device", each_device())
@pytest.mark.parametrize(("rows", "outputs"), [(0, 7), (3, 0), (0, 0)])
def test_linear_f32_without_rows_or_outputs_is_that_of_torch(rows: int, outputs: int, device: str) -> None:
    x = torch.randn(2, rows, 5, device=device, requires_grad=True)
    w = torch.randn(outputs, 5, device=device, requires_grad=True)
    bias = torch.randn(outputs, device=device, requires_grad=True)
    y = linear_f32(x, w, bias)
    expected = torch.nn.functional.linear(x, w, bias)
    assert y.shape == expected.shape == (2, rows, outputs)
    assert (y.dtype, y.device) == (expected.dtype, expected.device)
    for ours, theirs in zip(
        torch.autograd.grad(y.sum(), (x, w, bias)), torch.autograd.grad(expected.sum(), (x, w, bias)), strict=True
    ):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("device", each_device())
def test_conv2d_f32_without_images_is_empty_and_needs_outputs(device: str) -> None:
    w = torch.ones(3, 2, 3, 3, device=device)
    assert conv2d_f32(torch.ones(0, 2, 4, 4, device=device), w).shape == (0, 3, 2, 2)
    with pytest.raises(ValueError, match="conv2d_f32: out_channels must lie in"):
        conv2d_f32(torch.ones(1, 2, 4, 4, device=device), w[:0])


@pytest.mark.parametrize("device", each_device())
@pytest.mark.parametrize("outputs", [6, 20])
@pytest.mark.parametrize("padding", [0, (1, 0, 2, 1)])
def test_conv2d_f32(padding: int | tuple[int, int, int, int], outputs: int, device: str) -> None:
    x = torch.randn(2, 4, 9, 8, device=device, requires_grad=True)
    w = torch.randn(outputs, 2, 3, 3, device=device, requires_grad=True)
    bias = torch.randn(outputs, device=device, requires_grad=True)
    call = {"stride": (2, 1), "padding": padding, "dilation": (1, 2), "groups": 2}
    with runs_kernels(device, "sum_few_products" if outputs == 6 else "sum_products"):
        y = conv2d_f32(x, w, bias, **call)  # type: ignore[arg-type]
    on_cpu = [t.detach().cpu() for t in (x, w, bias)]
    assert torch.equal(y.cpu(), conv2d_f32(*on_cpu, **call))  # type: ignore[arg-type]
    four = (0, 0, 0, 0) if padding == 0 else padding
    padded = torch.nn.functional.pad(x, four)
    expected = torch.nn.functional.conv2d(padded, w, bias, stride=(2, 1), dilation=(1, 2), groups=2)
    torch.testing.assert_close(y, expected)
    grad = torch.randn_like(y)
    ours = torch.autograd.grad(y, (x, w, bias), grad)
    for mine, theirs in zip(ours, torch.autograd.grad(expected, (x, w, bias), grad), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("device", each_device())
def test_a_1x1_convolution_is_the_linear_layer(device: str) -> None:
    x, w, bias = (torch.randn(*shape, device=device) for shape in ((2, 30, 3, 3), (5, 30), (5,)))
    y = conv2d_f32(x, w[:, :, None, None], bias)
    assert torch.equal(y.permute(0, 2, 3, 1), linear_f32(x.permute(0, 2, 3, 1), w, bias))


def test_threads_do_not_change_a_bit() -> None:
    threads = torch.get_num_threads()
    x, w = torch.randn(64, 8, 12, 12), torch.randn(16, 8, 3, 3)
    results = []
    try:
        for count in (1, 3):
            torch.set_num_threads(count)
            flat = linear_f32(x.reshape(64, -1), torch.ones(5, 8 * 144))
            results.append((conv2d_f32(x, w, padding=1), avg_pool2d(x, 3, 1, 1), flat))
    finally:
        torch.set_num_threads(threads)
    for one, other in zip(*results, strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("device", each_device())
def test_opcheck(device: str) -> None:
    x, w, bias, rows, matrix = (
        torch.randn(*shape, device=device, requires_grad=True)
        for shape in ((2, 4, 6, 6), (6, 2, 3, 3), (6,), (3, 2, 5), (4, 5))
    )
    ops = torch.ops.cimq
    torch.library.opcheck(ops.avg_pool2d.default, (x, [3, 2], [1, 2], [1, 0], False), test_utils=opchecks(device))
    conv = (x, w, bias, [2, 1], [1, 0, 1, 2], [1, 1], 2)
    torch.library.opcheck(ops.conv2d_f32.default, conv, test_utils=opchecks(device), rtol=1e-4, atol=1e-4)
    torch.library.opcheck(
        ops.linear_f32.default, (rows, matrix, None), test_utils=opchecks(device), rtol=1e-4, atol=1e-4
    )


def test_compiles_without_graph_break() -> None:
    def network(x: Tensor, w: Tensor) -> Tensor:
        return linear_f32(avg_pool2d(conv2d_f32(x, w, padding=1), 2).flatten(1), torch.ones(3, 5 * 9))

    x, w = torch.randn(2, 4, 6, 6), torch.randn(5, 4, 3, 3)
    assert torch.equal(torch.compile(network, fullgraph=True, backend="aot_eager")(x, w), network(x, w))


BAD = [
    (lambda: avg_pool2d(torch.ones(1, 1, 4, 4).double(), 2), TypeError, "avg_pool2d: x must be float32, got Double"),
    (lambda: avg_pool2d(torch.ones(1, 4, 4), 2), ValueError, r"avg_pool2d: x must be \[batch, channels"),
    (lambda: avg_pool2d(torch.ones(1, 1, 4, 4), 0), ValueError, "avg_pool2d: kernel_size must be at least 1"),
    (lambda: avg_pool2d(torch.ones(1, 1, 4, 4), 5), ValueError, "avg_pool2d: the kernel .* is larger"),
    (lambda: avg_pool2d(torch.ones(1, 1, 4, 4), 2, padding=2), ValueError, "avg_pool2d: .*pad"),
    (lambda: avg_pool2d(torch.ones(1, 1, 4, 4), (1, 2, 3)), ValueError, "avg_pool2d: kernel_size must be one integer"),
    (lambda: linear_f32(torch.ones(2, 3), torch.ones(4, 2)), ValueError, r"linear_f32: needs x \[\.\.\., inputs\]"),
    (lambda: linear_f32(torch.ones(2, 3), torch.ones(4, 3), torch.ones(3)), ValueError, r"bias must have shape \[4\]"),
    (lambda: linear_f32(torch.ones(2, 3, dtype=torch.int8), torch.ones(4, 3)), TypeError, "x must be float32"),
    (
        lambda: conv2d_f32(torch.ones(1, 2, 4, 4), torch.ones(4, 3, 1, 1)),
        ValueError,
        "conv2d_f32: x must have 3 channels",
    ),
    (lambda: conv2d_f32(torch.ones(1, 3, 2, 2), torch.ones(4, 3, 3, 3)), ValueError, "conv2d_f32: "),
]


@pytest.mark.parametrize("device", each_device())
@pytest.mark.parametrize(("call", "error", "text"), BAD)
def test_bad_arguments_are_named(call: object, error: type[Exception], text: str, device: str) -> None:
    with torch.device(device), pytest.raises(error, match=text):
        call()
