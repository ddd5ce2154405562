"""fake_quantize and quantize against a reference written in plain PyTorch."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from devices import each_device, runs_kernels
from hypothesis import given, settings
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

import cimq
from cimq.ops import fake_quantize, quantize

sys.path.insert(0, str(Path(__file__).parent))
from quantizer_cases import quantizer_cases, reference_backward, reference_forward, shaped, values

OPCHECKS = ("test_schema", "test_autograd_registration", "test_faketensor", "test_aot_dispatch_dynamic")


@pytest.mark.parametrize("device", each_device())
@settings(max_examples=200)
@given(case=quantizer_cases())
def test_equals_reference(case: dict[str, Any], device: str) -> None:
    x, scale, grad = values(case)
    args = (case["qmin"], case["qmax"])
    x_leaf, scale_leaf = (t.to(device, copy=True).requires_grad_() for t in (x, scale))
    with runs_kernels(device):
        y = fake_quantize(
            x_leaf, scale_leaf, *args, axis=case["axis"], grad_scale=case["factor"], binary=case["binary"]
        )
        y.backward(grad.to(device))

    assert torch.equal(y.cpu(), reference_forward(x, scale, *args, case["axis"], case["binary"]))
    dx, dscale = reference_backward(grad, x, scale, *args, case["axis"], case["binary"], case["factor"])
    assert torch.equal(x_leaf.grad.cpu(), dx)
    tight = 1e-5 if case["dtype"] == torch.float32 else 1e-12
    torch.testing.assert_close(scale_leaf.grad.cpu(), dscale, rtol=tight, atol=tight * case["qmax"])


@pytest.mark.parametrize("device", each_device())
@settings(max_examples=100)
@given(case=quantizer_cases())
def test_integers_times_scale_are_the_fake_quantised_values(case: dict[str, Any], device: str) -> None:
    x, scale, _ = values(case | {"dtype": torch.float32}, spread=20)
    x, scale, axis = x.to(device), scale.to(device), case["axis"]
    args = (case["qmin"], case["qmax"])
    q = quantize(x, scale, *args, axis=axis, binary=case["binary"])
    assert q.dtype == (torch.uint8 if case["qmin"] >= 0 else torch.int8)
    y = fake_quantize(x, scale, *args, axis=axis, binary=case["binary"])
    assert torch.equal(q.float() * shaped(scale, x, axis), y)


@pytest.mark.parametrize("device", each_device())
def test_ties_go_to_even(device: str) -> None:
    x = torch.tensor([-2.5, -1.5, -0.5, 0.5, 1.5, 2.5, 3.5], device=device)
    assert quantize(x, torch.tensor(1.0, device=device), -4, 3).tolist() == [-2, -2, 0, 0, 2, 2, 3]


@pytest.mark.parametrize("device", each_device())
def test_every_float_near_a_tie_rounds_like_torch(device: str) -> None:
    ties = torch.arange(-129, 130, dtype=torch.float32) + 0.5
    near = torch.cat([ties, torch.nextafter(ties, ties + 1), torch.nextafter(ties, ties - 1)])
    found = quantize(near.to(device), torch.tensor(1.0, device=device), -128, 127)
    assert torch.equal(found.float().cpu(), torch.round(near).clamp(-128, 127))


def test_gradcheck_of_the_smooth_parts() -> None:
    # Clipped values follow the scale linearly; a sign does so everywhere.
    clipped = torch.tensor([-9.0, -8.0, 5.0, 30.0], dtype=torch.float64, requires_grad=True)
    scale = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x, s: fake_quantize(x, s, -4, 3, grad_scale=1.0), (clipped, scale))
    signs = torch.tensor([-9.0, -8.0, 5.0, 30.0], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda x, s: fake_quantize(x, s, -1, 1, grad_scale=1.0, binary=True), (signs, scale)
    )


@pytest.mark.parametrize("axis", [None, 0, 1, -1])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_opcheck(axis: int | None, dtype: torch.dtype) -> None:
    x = torch.randn(4, 6, 3).to(dtype)
    scale = torch.rand([] if axis is None else [x.shape[axis]]) + 0.1
    scale = scale.to(torch.float64 if dtype == torch.float64 else torch.float32)
    for leaf in (False, True):
        args = (x.clone().requires_grad_(leaf), scale.clone().requires_grad_(leaf), -4, 3, axis, None, False)
        torch.library.opcheck(torch.ops.cimq.fake_quantize.default, args, test_utils=OPCHECKS)
    torch.library.opcheck(
        torch.ops.cimq.fake_quantize_backward.default, (torch.randn_like(x), x, scale, -4, 3, axis), test_utils=OPCHECKS
    )
    if dtype != torch.float64:
        torch.library.opcheck(torch.ops.cimq.quantize.default, (x, scale, 0, 15, axis), test_utils=OPCHECKS)


def test_compiles_without_graph_break() -> None:
    def loss(x: Tensor, scale: Tensor) -> Tensor:
        return (fake_quantize(x, scale, -8, 7, axis=0) ** 2).sum() + quantize(
            x.detach(), scale.detach(), -8, 7, axis=0
        ).sum()

    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager", dynamic=True)
    for rows in (5, 7):
        results = []
        for function in (loss, compiled):
            x = torch.linspace(-3, 3, rows * 9).reshape(rows, 9).requires_grad_()
            scale = torch.linspace(0.2, 0.5, rows).requires_grad_()
            value = function(x, scale)
            value.backward()
            results.append((value.detach(), x.grad, scale.grad))
        for eager, traced in zip(*results, strict=True):
            assert torch.equal(eager, traced)


@pytest.mark.parametrize("device", each_device())
def test_half_precision_is_computed_in_float32(device: str) -> None:
    x = (torch.randn(1000) * 2).to(device, torch.bfloat16).requires_grad_()
    scale = torch.tensor(0.1, device=device, requires_grad=True)
    y = fake_quantize(x, scale, -128, 127)
    assert y.dtype == torch.bfloat16
    assert torch.equal(y, fake_quantize(x.float(), scale, -128, 127).to(torch.bfloat16))
    y.sum().backward()
    assert x.grad.dtype == torch.bfloat16
    assert scale.grad.dtype == torch.float32


@pytest.mark.parametrize("device", each_device())
def test_layouts_give_the_same_values(device: str) -> None:
    x = torch.randn(2, 8, 5, 5, device=device)
    scale = torch.rand(8, device=device) + 0.1
    for layout in (
        x.to(memory_format=torch.channels_last),
        x.expand(3, 2, 8, 5, 5)[1],
        x[..., ::1].transpose(0, 1).transpose(0, 1),
    ):
        assert torch.equal(fake_quantize(layout, scale, 0, 15, axis=1), fake_quantize(x, scale, 0, 15, axis=1))
        assert torch.equal(fake_quantize(layout, scale[0], 0, 15), fake_quantize(x, scale[0], 0, 15))
    weight = x.to(memory_format=torch.channels_last)
    kept = fake_quantize(weight, scale[:2], -7, 7, axis=0)
    assert torch.equal(kept, fake_quantize(x, scale[:2], -7, 7, axis=0))
    assert kept.stride() == weight.stride()
    leaf = x.to(memory_format=torch.channels_last).requires_grad_()
    fake_quantize(leaf, scale[0], 0, 15).sum().backward()
    assert torch.equal(leaf.grad, ((x / scale[0] >= 0) & (x / scale[0] <= 15)).float())


@pytest.mark.parametrize("device", each_device())
@pytest.mark.parametrize("axis", [None, 0, 1])
def test_empty_inputs_work(axis: int | None, device: str) -> None:
    x = torch.randn(0, 3, device=device, requires_grad=True)
    scale = torch.ones([] if axis is None else [x.shape[axis]], device=device, requires_grad=True)
    y = fake_quantize(x, scale, 0, 15, axis=axis)
    assert y.shape == (0, 3)
    y.sum().backward()
    assert torch.equal(scale.grad, torch.zeros_like(scale))
    assert quantize(x.detach(), scale.detach(), 0, 15, axis=axis).shape == (0, 3)


def test_the_sum_does_not_depend_on_threads() -> None:
    threads = torch.get_num_threads()
    x, grad = torch.randn(300_001), torch.randn(300_001)
    results = []
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            results.append(torch.ops.cimq.fake_quantize_backward(grad, x, torch.tensor(0.1), -8, 7))
    finally:
        torch.set_num_threads(threads)
    for dx, dscale in results[1:]:
        assert torch.equal(dx, results[0][0])
        assert torch.equal(dscale, results[0][1])


@pytest.mark.parametrize("device", each_device())
def test_nan_shows_in_training_and_is_refused_in_inference(device: str) -> None:
    x, one = torch.tensor([1.0, float("nan"), 2.0], device=device), torch.tensor(1.0, device=device)
    assert fake_quantize(x, one, -4, 3).isnan().tolist() == [False, True, False]
    with pytest.raises(ValueError, match=r"quantize: x must be finite, got 1 NaN or infinite values.*flat index 1"):
        quantize(x, one, -4, 3)
    big = torch.zeros(100, device=device)
    big[77] = float("-inf")
    with pytest.raises(ValueError, match=r"flat index 77"):
        quantize(big, one, 0, 3)


BAD = [
    ({"scale": torch.tensor(0.0)}, ValueError, "scale must be positive and finite, got 0 at index 0"),
    ({"scale": torch.tensor(float("nan"))}, ValueError, "scale must be positive and finite, got nan"),
    ({"scale": torch.ones(2)}, ValueError, r"scale must have one element without axis, got \[2\]"),
    ({"scale": torch.ones(2), "axis": 0}, ValueError, r"scale must have shape \[3\] for axis 0 of x \[3, 4\], got"),
    ({"axis": 2}, ValueError, r"axis must be in \[-2, 1\] for x \[3, 4\], got 2"),
    ({"qmin": 3}, ValueError, "needs qmin < qmax and qmax > 0, got qmin=3 qmax=3"),
    ({"qmin": -100000}, ValueError, "must be within"),
    ({"binary": True}, ValueError, "binary needs qmin=-1 and qmax=1"),
    ({"x": torch.ones(3, dtype=torch.int32)}, TypeError, r"x must be a floating-point tensor, got Int \[3\]"),
    ({"scale": torch.tensor(1.0, dtype=torch.float64)}, TypeError, "scale must be Float for a Float x, got Double"),
]


@pytest.mark.parametrize(("change", "error", "text"), BAD)
@pytest.mark.parametrize("op", [fake_quantize, quantize])
def test_bad_arguments_are_named(op: object, change: dict[str, object], error: type[Exception], text: str) -> None:
    args = {"x": torch.ones(3, 4), "scale": torch.tensor(1.0), "qmin": -4, "qmax": 3} | change
    with pytest.raises(error, match=f"^{op.__name__}: .*{text}"):
        op(args.pop("x"), args.pop("scale"), args.pop("qmin"), args.pop("qmax"), **args)


def test_quantize_refuses_what_does_not_fit() -> None:
    with pytest.raises(ValueError, match="range must fit int8 or uint8, got qmin=-129 qmax=3"):
        quantize(torch.ones(3), torch.tensor(1.0), -129, 3)
    with pytest.raises(TypeError, match="quantize: is defined in float32"):
        quantize(torch.ones(3, dtype=torch.float64), torch.tensor(1.0, dtype=torch.float64), 0, 3)


@pytest.mark.parametrize("device", each_device())
def test_second_derivatives_are_refused(device: str) -> None:
    x = torch.randn(5, device=device, requires_grad=True)
    scale = torch.tensor(0.5, device=device, requires_grad=True)
    (dx,) = torch.autograd.grad(cimq.ops.fake_quantize(x, scale, -4, 3).square().sum(), x, create_graph=True)
    with pytest.raises(NotImplementedError, match="second derivatives are not defined"):
        dx.sum().backward()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("axis", [None, 0, 1, -4])
@pytest.mark.parametrize("device", each_device())
def test_what_compilation_assumes_of_layouts_holds(dtype: torch.dtype, axis: int | None, device: str) -> None:
    """Queries of an attention are transposed slices of a larger tensor: with gaps, and in another order."""
    base = torch.randn(2, 3, 4, 12, dtype=torch.float32).to(device, dtype)
    layouts = {
        "row-major": base,
        "channels last": base.to(memory_format=torch.channels_last),
        "transposed": base.transpose(1, 3),
        "slice": base[..., 2:6],
        "transposed slice": base[..., 2:6].transpose(1, 2),
        "expanded": base[:, :1].expand(2, 3, 4, 12),
    }
    for name, x in layouts.items():
        wide = dtype if dtype == torch.float64 else torch.float32
        scale = torch.full([] if axis is None else [x.shape[axis]], 0.5, dtype=wide, device=device)
        grad = torch.ones(x.shape, dtype=dtype, device=device)

        def results(mode: Any, x: Tensor = x, scale: Tensor = scale, grad: Tensor = grad) -> list[Tensor]:
            x, scale, grad = (t if mode is None else mode.from_tensor(t) for t in (x, scale, grad))
            ops = torch.ops.cimq
            with contextlib.nullcontext() if mode is None else mode:
                found = [
                    ops.fake_quantize(x, scale, 0, 15, axis),
                    *ops.fake_quantize_backward(grad, x, scale, 0, 15, axis),
                ]
                return found if x.dtype == torch.float64 else [*found, ops.quantize(x, scale, 0, 15, axis)]

        for real, fake in zip(results(None), results(FakeTensorMode()), strict=True):
            assert (real.shape, real.dtype) == (fake.shape, fake.dtype), name
            assert real.stride() == fake.stride(), name
