"""fake_quantize of bfloat16 and float16: bit for bit that of float32, rounded at the end."""

from __future__ import annotations

import pytest
import torch
from devices import each_device
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from cimq.ops import fake_quantize

TYPES = (torch.bfloat16, torch.float16)
RANGES = ((0, 15, False), (-128, 127, False), (0, 1, False), (-1, 1, True))
backward = torch.ops.cimq.fake_quantize_backward


def bits(x: Tensor) -> Tensor:
    """NaN as one pattern: torch's conversions give several."""
    return torch.where(x.isnan(), torch.full_like(x, torch.nan), x).contiguous().view(torch.int16)


def check(x: Tensor, grad: Tensor, scale: Tensor, limits: tuple[int, int, bool], axis: int | None) -> None:
    low, high, binary = limits
    y = fake_quantize(x, scale, low, high, axis=axis, binary=binary)
    wanted = fake_quantize(x.float(), scale, low, high, axis=axis, binary=binary).to(x.dtype)
    assert (y.dtype, y.stride()) == (x.dtype, wanted.stride())
    assert torch.equal(bits(y), bits(wanted))

    dx, dscale = backward(grad, x, scale, low, high, axis, None, binary)
    wanted_dx, wanted_dscale = backward(grad.float(), x.float(), scale, low, high, axis, None, binary)
    assert (dx.dtype, dx.stride(), dscale.dtype) == (x.dtype, wanted_dx.stride(), torch.float32)
    assert torch.equal(bits(dx), bits(wanted_dx.to(x.dtype)))
    assert torch.equal(dscale, wanted_dscale)


@settings(max_examples=150)
@given(
    shape=st.lists(st.integers(0, 9), min_size=1, max_size=4),
    axis=st.one_of(st.none(), st.integers(-4, 3)),
    limits=st.sampled_from(RANGES),
    dtype=st.sampled_from(TYPES),
    seed=st.integers(0, 2**31),
    order=st.sampled_from(["row-major", "transposed", "every second", "expanded"]),
)
def test_equals_float32(
    shape: list[int], axis: int | None, limits: tuple[int, int, bool], dtype: torch.dtype, seed: int, order: str
) -> None:
    generator = torch.Generator().manual_seed(seed)
    x = (torch.randn(shape, generator=generator) * 3).to(dtype)
    if order == "transposed":
        x = x.transpose(0, -1)
    elif order == "every second":
        x = x.repeat_interleave(2, dim=-1)[..., ::2]
    elif order == "expanded":
        x = x[:1].expand_as(x)
    axis = None if axis is None else axis % x.dim()
    scale = torch.rand([] if axis is None else [x.shape[axis]], generator=generator) + 0.05
    grad = torch.randn(x.shape, generator=generator).to(dtype)
    check(x, grad, scale, limits, axis)
    check(x, grad[..., :1].expand_as(grad), scale, limits, axis)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("limits", RANGES)
@pytest.mark.parametrize("axis", [None, 0, 1])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_images(
    dtype: torch.dtype, limits: tuple[int, int, bool], axis: int | None, layout: torch.memory_format
) -> None:
    """More than one block of the kernel and of the operator, with rests of every kind."""
    torch.manual_seed(0)
    x = (torch.randn(3, 5, 61, 59) * 2).to(dtype).to(memory_format=layout)
    grad = torch.randn(x.shape).to(dtype)
    scale = torch.rand([] if axis is None else [x.shape[axis]]) + 0.1
    check(x, grad, scale, limits, axis)
    check(x, grad.to(memory_format=layout), scale, limits, axis)
    if axis is None:
        assert fake_quantize(x, scale, *limits[:2]).is_contiguous(memory_format=layout)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("limits", RANGES)
@pytest.mark.parametrize("scale", [1e-6, 0.37, 3e4])
@pytest.mark.parametrize("device", each_device())
def test_every_value(dtype: torch.dtype, limits: tuple[int, int, bool], scale: float, device: str) -> None:
    """All 65536 patterns: subnormal numbers, infinities, NaN, results that overflow."""
    x = torch.arange(-(2**15), 2**15, dtype=torch.int32).to(torch.int16).view(dtype).to(device)
    s = torch.tensor(scale, device=device)
    y = fake_quantize(x, s, *limits[:2], binary=limits[2])
    wanted = fake_quantize(x.float(), s, *limits[:2], binary=limits[2]).to(dtype)
    assert torch.equal(bits(y), bits(wanted))
    ones = torch.ones_like(x)
    dx, _ = backward(x, ones, s, *limits[:2], None, None, limits[2])
    wanted_dx, _ = backward(x.float(), ones.float(), s, *limits[:2], None, None, limits[2])
    assert torch.equal(bits(dx), bits(wanted_dx.to(dtype)))


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("other", [torch.float32, torch.float64])
def test_gradients_of_another_type_lose_no_bit(dtype: torch.dtype, other: torch.dtype) -> None:
    torch.manual_seed(0)
    x, grad = torch.randn(5000).to(dtype), torch.randn(5000, dtype=other)
    dx, dscale = backward(grad, x, torch.tensor(0.1), -8, 7)
    wanted_dx, wanted_dscale = backward(grad.float(), x.float(), torch.tensor(0.1), -8, 7)
    assert torch.equal(dx, wanted_dx.to(dtype))
    assert torch.equal(dscale, wanted_dscale)


@pytest.mark.parametrize("dtype", TYPES)
def test_no_float32_copy_is_made(dtype: torch.dtype) -> None:
    x = torch.randn(4, 8, 32, 32).to(dtype).to(memory_format=torch.channels_last).requires_grad_()
    scale = torch.tensor(0.1, requires_grad=True)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        y = fake_quantize(x, scale, 0, 15)
        y.backward(torch.ones_like(y))
    largest = max(event.cpu_memory_usage for event in profile.events())
    assert 2 * x.numel() <= largest < 4 * x.numel()  # results of the type of x, nothing of float32


@pytest.mark.parametrize("dtype", TYPES)
def test_compiles_to_the_same_bits(dtype: torch.dtype) -> None:
    def results(function: object) -> list[Tensor]:
        torch.manual_seed(0)
        x = torch.randn(2, 3, 7, 7).to(dtype).to(memory_format=torch.channels_last).requires_grad_()
        scale = torch.tensor(0.2, requires_grad=True)
        y = function(x, scale)  # type: ignore[operator]
        y.sum().backward()
        return [y.detach(), x.grad, scale.grad]  # type: ignore[list-item]

    def quantise(x: Tensor, scale: Tensor) -> Tensor:
        return fake_quantize(x, scale, -4, 3)

    compiled = torch.compile(quantise, fullgraph=True, backend="aot_eager")
    for eager, traced in zip(results(quantise), results(compiled), strict=True):
        assert torch.equal(eager, traced)
        assert eager.stride() == traced.stride()


@pytest.mark.parametrize("axis", [None, 1])
def test_opcheck_of_float16(axis: int | None) -> None:
    x = torch.randn(4, 6, 3).half()
    scale = torch.rand([] if axis is None else [6]) + 0.1
    checks = ("test_schema", "test_autograd_registration", "test_faketensor", "test_aot_dispatch_dynamic")
    args = (x.requires_grad_(), scale.requires_grad_(), -4, 3, axis, None, False)
    torch.library.opcheck(torch.ops.cimq.fake_quantize.default, args, test_utils=checks)
