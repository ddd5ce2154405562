"""fake_quantize and quantize against a reference written in plain PyTorch."""

from __future__ import annotations

import contextlib
import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

import cimq
from cimq.ops import fake_quantize, quantize

OPCHECKS = ("test_schema", "test_autograd_registration", "test_faketensor", "test_aot_dispatch_dynamic")


def shaped(scale: Tensor, x: Tensor, axis: int | None) -> Tensor:
    if axis is None:
        return scale.reshape([])
    shape = [1] * x.dim()
    shape[axis] = -1
    return scale.reshape(shape)


def reference_forward(x: Tensor, scale: Tensor, qmin: int, qmax: int, axis: int | None, binary: bool) -> Tensor:
    s = shaped(scale, x, axis)
    if binary:
        return torch.where(x >= 0, s, -s)
    return torch.round(x / s).clamp(qmin, qmax) * s


def reference_backward(
    grad: Tensor, x: Tensor, scale: Tensor, qmin: int, qmax: int, axis: int | None, binary: bool, factor: float | None
) -> tuple[Tensor, Tensor]:
    s = shaped(scale, x, axis)
    u = x / s
    inside = (u >= qmin) & (u <= qmax)
    if binary:
        per_value = torch.where(x >= 0, 1.0, -1.0).to(x.dtype)
    else:
        outside = torch.where(u < qmin, float(qmin), float(qmax)).to(x.dtype)
        per_value = torch.where(inside, torch.round(u) - u, outside)
    term = (grad * per_value).double()
    if axis is None:
        total, count = term.sum(), x.numel()
    else:
        total = term.movedim(axis, 0).reshape(x.shape[axis], -1).sum(1)
        count = x.numel() // x.shape[axis]
    factor = 1 / math.sqrt(count * qmax) if factor is None else factor
    return grad * inside, (total * factor).to(scale.dtype).reshape(scale.shape)


@st.composite
def quantizer_cases(draw: st.DrawFn) -> dict[str, object]:
    shape = draw(st.lists(st.integers(1, 7), min_size=1, max_size=4))
    bits = draw(st.integers(1, 8))
    signed = draw(st.booleans())
    binary = signed and bits == 1
    if binary:
        qmin, qmax = -1, 1
    elif signed:
        qmin, qmax = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    else:
        qmin, qmax = 0, 2**bits - 1
    return {
        "shape": shape,
        "qmin": qmin,
        "qmax": max(qmax, 1),
        "binary": binary,
        "axis": draw(st.one_of(st.none(), st.integers(-len(shape), len(shape) - 1))),
        "dtype": draw(st.sampled_from([torch.float32, torch.float64])),
        "seed": draw(st.integers(0, 2**31)),
        "factor": draw(st.one_of(st.none(), st.just(1.0))),
        "permuted": draw(st.booleans()),
    }


@settings(max_examples=200)
@given(quantizer_cases())
def test_equals_reference(case: dict[str, object]) -> None:
    generator = torch.Generator().manual_seed(case["seed"])
    x = torch.randn(case["shape"], generator=generator, dtype=case["dtype"]) * 3
    if case["permuted"]:
        x = x.transpose(0, -1).contiguous().transpose(0, -1)
    axis = case["axis"]
    channels = [] if axis is None else [x.shape[axis]]
    scale = torch.rand(channels, generator=generator, dtype=case["dtype"]) + 0.05
    # Values on ties and on the bounds, where the conventions show.
    flat = x.reshape(-1)
    if axis is None:
        flat[0] = scale * (case["qmax"] + 0.5)
        flat[-1] = scale * case["qmin"]
        x = flat.reshape(x.shape)
    args = (case["qmin"], case["qmax"])
    grad = torch.randn(x.shape, generator=generator, dtype=case["dtype"])

    x_leaf, scale_leaf = x.clone().requires_grad_(), scale.clone().requires_grad_()
    y = fake_quantize(x_leaf, scale_leaf, *args, axis=axis, grad_scale=case["factor"], binary=case["binary"])
    y.backward(grad)

    assert torch.equal(y, reference_forward(x, scale, *args, axis, case["binary"]))
    dx, dscale = reference_backward(grad, x, scale, *args, axis, case["binary"], case["factor"])
    assert torch.equal(x_leaf.grad, dx)
    tight = 1e-5 if case["dtype"] == torch.float32 else 1e-12
    torch.testing.assert_close(scale_leaf.grad, dscale, rtol=tight, atol=tight * case["qmax"])


@settings(max_examples=100)
@given(quantizer_cases())
def test_integers_times_scale_are_the_fake_quantised_values(case: dict[str, object]) -> None:
    generator = torch.Generator().manual_seed(case["seed"])
    x = torch.randn(case["shape"], generator=generator) * 20
    axis = case["axis"]
    scale = torch.rand([] if axis is None else [x.shape[axis]], generator=generator) + 0.05
    args = (case["qmin"], case["qmax"])
    q = quantize(x, scale, *args, axis=axis, binary=case["binary"])
    assert q.dtype == (torch.uint8 if case["qmin"] >= 0 else torch.int8)
    y = fake_quantize(x, scale, *args, axis=axis, binary=case["binary"])
    assert torch.equal(q.float() * shaped(scale, x, axis), y)


def test_ties_go_to_even() -> None:
    x = torch.tensor([-2.5, -1.5, -0.5, 0.5, 1.5, 2.5, 3.5])
    assert quantize(x, torch.tensor(1.0), -4, 3).tolist() == [-2, -2, 0, 0, 2, 2, 3]


def test_every_float_near_a_tie_rounds_like_torch() -> None:
    ties = torch.arange(-129, 130, dtype=torch.float32) + 0.5
    near = torch.cat([ties, torch.nextafter(ties, ties + 1), torch.nextafter(ties, ties - 1)])
    assert torch.equal(quantize(near, torch.tensor(1.0), -128, 127).float(), torch.round(near).clamp(-128, 127))


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


def test_half_precision_is_computed_in_float32() -> None:
    x = (torch.randn(1000) * 2).to(torch.bfloat16).requires_grad_()
    scale = torch.tensor(0.1, requires_grad=True)
    y = fake_quantize(x, scale, -128, 127)
    assert y.dtype == torch.bfloat16
    assert torch.equal(y, fake_quantize(x.float(), scale, -128, 127).to(torch.bfloat16))
    y.sum().backward()
    assert x.grad.dtype == torch.bfloat16
    assert scale.grad.dtype == torch.float32


def test_layouts_give_the_same_values() -> None:
    x = torch.randn(2, 8, 5, 5)
    scale = torch.rand(8) + 0.1
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


@pytest.mark.parametrize("axis", [None, 0, 1])
def test_empty_inputs_work(axis: int | None) -> None:
    x = torch.randn(0, 3, requires_grad=True)
    scale = torch.ones([] if axis is None else [x.shape[axis]], requires_grad=True)
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


def test_nan_shows_in_training_and_is_refused_in_inference() -> None:
    x = torch.tensor([1.0, float("nan"), 2.0])
    assert fake_quantize(x, torch.tensor(1.0), -4, 3).isnan().tolist() == [False, True, False]
    with pytest.raises(ValueError, match=r"quantize: x must be finite, got 1 NaN or infinite values.*flat index 1"):
        quantize(x, torch.tensor(1.0), -4, 3)
    big = torch.zeros(100)
    big[77] = float("-inf")
    with pytest.raises(ValueError, match=r"flat index 77"):
        quantize(big, torch.tensor(1.0), 0, 3)


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


def test_second_derivatives_are_refused() -> None:
    x = torch.randn(5, requires_grad=True)
    scale = torch.tensor(0.5, requires_grad=True)
    (dx,) = torch.autograd.grad(cimq.ops.fake_quantize(x, scale, -4, 3).square().sum(), x, create_graph=True)
    with pytest.raises(NotImplementedError, match="second derivatives are not defined"):
        dx.sum().backward()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("axis", [None, 0, 1, -4])
def test_what_compilation_assumes_of_layouts_holds(dtype: torch.dtype, axis: int | None) -> None:
    """Queries of an attention are transposed slices of a larger tensor: with gaps, and in another order."""
    base = torch.randn(2, 3, 4, 12, dtype=torch.float32).to(dtype)
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
        scale = torch.full([] if axis is None else [x.shape[axis]], 0.5, dtype=wide)
        grad = torch.ones(x.shape, dtype=dtype)

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
