"""Pooling, means and resizing: the definition, PyTorch's values, gradients, errors."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from devices import each_device, opchecks, runs_kernels
from hypothesis import example, given
from hypothesis import strategies as st
from torch import Tensor

from cimq.ops import adaptive_avg_pool2d, avg_pool2d, mean, resize2d


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


# ---- windows ----


@given(
    size=st.tuples(st.integers(1, 12), st.integers(1, 12)),
    kernel=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    stride=st.tuples(st.integers(1, 6), st.integers(1, 6)),
    padding=st.tuples(st.integers(0, 2), st.integers(0, 2)),
    counts=st.booleans(),
    divisor=st.none() | st.integers(1, 9),
)
def test_rounded_up_pooling_is_pytorchs(
    size: Any, kernel: Any, stride: Any, padding: Any, counts: bool, divisor: Any
) -> None:
    x = noise(2, 3, *size)
    padding = tuple(min(p, k // 2) for p, k in zip(padding, kernel, strict=True))
    try:
        wanted = F.avg_pool2d(x, kernel, stride, padding, True, counts, divisor)
    except RuntimeError:  # no window
        with pytest.raises(ValueError, match="larger than the padded image"):
            avg_pool2d(x, kernel, stride, padding, counts, True, divisor)
        return
    y = avg_pool2d(x, kernel, stride, padding, counts, True, divisor)
    torch.testing.assert_close(y, wanted, rtol=1e-5, atol=1e-6)
    fake = torch.ops.cimq.avg_pool2d(x.to("meta"), kernel, stride, padding, counts, True, divisor)
    assert fake.shape == y.shape


@given(size=st.tuples(st.integers(1, 12), st.integers(1, 12)), out=st.tuples(st.integers(1, 15), st.integers(1, 15)))
def test_adaptive_pooling_is_pytorchs_and_in_order(size: tuple[int, int], out: tuple[int, int]) -> None:
    x = noise(2, 3, *size)
    y = adaptive_avg_pool2d(x, out)
    torch.testing.assert_close(y, F.adaptive_avg_pool2d(x, out), rtol=1e-5, atol=1e-6)
    by_loops = torch.empty_like(y)
    for oy in range(out[0]):
        for ox in range(out[1]):
            rows = range(oy * size[0] // out[0], math.ceil((oy + 1) * size[0] / out[0]))
            columns = range(ox * size[1] // out[1], math.ceil((ox + 1) * size[1] / out[1]))
            total = torch.zeros(2, 3)
            for iy in rows:
                for ix in columns:
                    total = total + x[:, :, iy, ix]
            by_loops[:, :, oy, ox] = total / float(len(rows) * len(columns))
    assert torch.equal(y, by_loops)


def test_adaptive_pooling_keeps_what_is_none() -> None:
    x = noise(1, 2, 6, 8)
    assert torch.equal(adaptive_avg_pool2d(x, (None, 2)), avg_pool2d(x, (1, 4)))
    assert torch.equal(adaptive_avg_pool2d(x, 2), avg_pool2d(x, (3, 4)))


# ---- means ----


@pytest.mark.parametrize("device", each_device())
@pytest.mark.parametrize("dims", [0, -1, (1, 3), (0, 1, 2, 3), (2, 1), (-2,)])
@pytest.mark.parametrize("keepdim", [True, False])
def test_means_are_rounded_once(dims: Any, keepdim: bool, device: str) -> None:
    x = noise(3, 4, 5, 6) * 1000
    wanted = x.double().mean(dims, keepdim).float()
    with runs_kernels(device):
        y = mean(x.to(device), dims, keepdim).cpu()
    torch.testing.assert_close(y, wanted, rtol=1e-7, atol=0)
    assert torch.equal(y, mean(x, dims, keepdim))
    assert torch.equal(mean(x.transpose(0, 3), dims, keepdim), mean(x.transpose(0, 3).contiguous(), dims, keepdim))
    if dims == -1:
        total = np.zeros((3, 4, 5))
        for i in range(6):
            total = total + x[..., i].double().numpy()
        assert torch.equal(mean(x, -1), torch.from_numpy((total / 6).astype(np.float32)))


@pytest.mark.parametrize("device", each_device())
def test_means_of_nothing(device: str) -> None:
    assert mean(torch.zeros(0, 3, device=device), 1).shape == (0,)
    with pytest.raises(ValueError, match="must have an element"):
        mean(torch.zeros(0, 3, device=device), 0)


# ---- resizing ----

SIZES = st.tuples(st.integers(1, 40), st.integers(1, 40))


@given(size=SIZES, out=SIZES)
def test_nearest_to_a_size_is_exactly_pytorchs(size: tuple[int, int], out: tuple[int, int]) -> None:
    x = noise(1, 2, *size)
    assert torch.equal(resize2d(x, out), F.interpolate(x, out))


@example(size=(33, 15), factors=(3, 2.0625), recompute=False)
@given(
    size=SIZES,
    factors=st.tuples(*[st.sampled_from([0.3, 0.5, 1 / 3, 1.1, 1.5, 2, 2.1, 3]) | st.floats(0.1, 5)] * 2),
    recompute=st.booleans(),
)
def test_nearest_by_a_factor_is_exactly_pytorchs(size: Any, factors: Any, recompute: bool) -> None:
    x = noise(1, 2, *size)
    if any(math.floor(s * f) < 1 for s, f in zip(size, factors, strict=True)):
        with pytest.raises(ValueError, match="at least one row and column"):
            resize2d(x, scale_factor=factors)
        return
    y = resize2d(x, scale_factor=factors, recompute_scale_factor=recompute)
    if not recompute and any(
        math.floor(s * f) in (s, 2 * s) and f not in (1, 2) for s, f in zip(size, factors, strict=True)
    ):
        # PyTorch has two answers, by the size of the image: one of them is the definition.
        y_by_rule = x
        for dim, (s, f) in enumerate(zip(size, factors, strict=True), 2):
            out = math.floor(s * f)
            by_step = (torch.arange(out) * (1 / torch.tensor(f, dtype=torch.float64)).float()).floor().long()
            source = {s: torch.arange(out), 2 * s: torch.arange(out) // 2}.get(out, by_step.clamp_max(s - 1))
            y_by_rule = y_by_rule.index_select(dim, source)
        assert torch.equal(y, y_by_rule)
        return
    wanted = F.interpolate(x, scale_factor=factors, recompute_scale_factor=recompute)
    assert torch.equal(y, wanted)


@given(size=SIZES, out=SIZES, factor=st.none() | st.floats(0.2, 4), corners=st.booleans())
def test_bilinear_is_pytorchs_within_rounding(size: Any, out: Any, factor: float | None, corners: bool) -> None:
    x = noise(1, 2, *size)
    options: dict[str, Any] = {"scale_factor": factor} if factor is not None else {"size": out}
    if factor is not None and min(size) * factor < 1:
        return
    y = resize2d(x, **options, mode="bilinear", align_corners=corners)
    wanted = F.interpolate(x, **options, mode="bilinear", align_corners=corners)
    assert y.shape == wanted.shape
    assert (y - wanted).abs().max() <= 1e-5 * x.abs().max()


def test_bilinear_of_a_large_image() -> None:
    x = noise(1, 1, 3, 999)
    for options in ({"size": (5, 777)}, {"scale_factor": 1.37}):
        for corners in (False, True):
            y = resize2d(x, **options, mode="bilinear", align_corners=corners)  # type: ignore[arg-type]
            wanted = F.interpolate(x, **options, mode="bilinear", align_corners=corners)  # type: ignore[arg-type]
            assert (
                y - wanted
            ).abs().max() <= 1e-5 * x.abs().max() * 20  # positions of 10 bits have 14 behind the point


# ---- all of them ----

CALLS: dict[str, tuple[Any, ...]] = {
    "avg_pool2d": ([3, 3], [2, 2], [1, 1], True, True, None),
    "adaptive_avg_pool2d": ([4, 5],),
    "resize2d": ([4, 5], [1.5, 1.4], "bilinear", False),
    "mean": ([0, -1], True),
}


@pytest.mark.parametrize("device", each_device())
@pytest.mark.parametrize("name", CALLS)
def test_operators_are_complete(name: str, device: str) -> None:
    x = noise(2, 3, 6, 7).to(device).requires_grad_()
    torch.library.opcheck(getattr(torch.ops.cimq, name).default, (x, *CALLS[name]), test_utils=opchecks(device))


@pytest.mark.parametrize("device", each_device())
@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (lambda x: avg_pool2d(x, 3, 2, 1, False, True), lambda x: F.avg_pool2d(x, 3, 2, 1, True, False)),
        (
            lambda x: avg_pool2d(x, 3, 2, 1, True, True, 4),
            lambda x: F.avg_pool2d(x, 3, 2, 1, True, True, divisor_override=4),
        ),
        (lambda x: adaptive_avg_pool2d(x, (4, 5)), lambda x: F.adaptive_avg_pool2d(x, (4, 5))),
        (lambda x: resize2d(x, (9, 5)), lambda x: F.interpolate(x, (9, 5))),
        (
            lambda x: resize2d(x, scale_factor=1.7, mode="bilinear"),
            lambda x: F.interpolate(x, scale_factor=1.7, mode="bilinear"),
        ),
        (
            lambda x: resize2d(x, 9, mode="bilinear", align_corners=True),
            lambda x: F.interpolate(x, 9, mode="bilinear", align_corners=True),
        ),
        (lambda x: mean(x, (0, 2)), lambda x: x.mean((0, 2))),
        (lambda x: mean(x, -1, True), lambda x: x.mean(-1, True)),
    ],
)
def test_values_and_gradients_are_pytorchs(ours: Any, theirs: Any, device: str) -> None:
    x, other = (noise(2, 3, 6, 7).to(device).requires_grad_() for _ in range(2))
    with runs_kernels(device):
        y = ours(x)
    wanted = theirs(other)
    torch.testing.assert_close(y, wanted, rtol=1e-5, atol=1e-5)
    assert torch.equal(y.cpu(), ours(x.detach().cpu()))
    grad = noise(*y.shape, seed=1).to(device)
    y.backward(grad)
    wanted.backward(grad)
    torch.testing.assert_close(x.grad, other.grad, rtol=1e-5, atol=1e-6)


def test_results_do_not_depend_on_threads_or_layout() -> None:
    x = noise(5, 7, 30, 31)
    calls = [
        lambda x: avg_pool2d(x, 3, 2, 1, True, True),
        lambda x: adaptive_avg_pool2d(x, (7, 11)),
        lambda x: resize2d(x, scale_factor=1.7, mode="bilinear"),
        lambda x: mean(x, (1, 3)),
    ]
    threads = torch.get_num_threads()
    for call in calls:
        y = call(x)
        assert torch.equal(call(x.to(memory_format=torch.channels_last)), y)
        try:
            torch.set_num_threads(1)
            assert torch.equal(call(x), y)
        finally:
            torch.set_num_threads(threads)


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (lambda x: avg_pool2d(x, 3, divisor_override=0), ValueError, "avg_pool2d: divisor_override"),
        (lambda x: avg_pool2d(x, 2**32), ValueError, "avg_pool2d: kernel_size must be at least 1 and at most"),
        (lambda x: adaptive_avg_pool2d(x, 0), ValueError, "adaptive_avg_pool2d: output_size"),
        (lambda x: adaptive_avg_pool2d(x, (1, 2, 3)), ValueError, "adaptive_avg_pool2d: output_size"),
        (lambda x: adaptive_avg_pool2d(x[0], 1), ValueError, "adaptive_avg_pool2d: x must be"),
        (lambda x: adaptive_avg_pool2d(x.double(), 1), TypeError, "adaptive_avg_pool2d: x must be float32"),
        (lambda x: resize2d(x, 3, mode="bicubic"), ValueError, "resize2d: mode must be nearest or bilinear"),
        (lambda x: resize2d(x), ValueError, "resize2d: one of size and scale_factor"),
        (lambda x: resize2d(x, 3, 2.0), ValueError, "resize2d: one of size and scale_factor"),
        (lambda x: resize2d(x, scale_factor=-1.0), ValueError, "resize2d: scale_factor must be positive"),
        (lambda x: resize2d(x, scale_factor=math.nan), ValueError, "resize2d: scale_factor must be positive"),
        (lambda x: resize2d(x, (1, 2, 3)), ValueError, "resize2d: size must be one value or two"),
        (lambda x: resize2d(x, 0), ValueError, "resize2d: the result must have"),
        (lambda x: resize2d(x, 3, align_corners=True), ValueError, "resize2d: only bilinear"),
        (lambda x: resize2d(x.int(), 3), TypeError, "resize2d: x must be float32"),
        (lambda x: mean(x, 4), ValueError, "mean: dim must be in -4 .. 3, got 4"),
        (lambda x: mean(x, (1, -3)), ValueError, "mean: dim must not name a dimension twice"),
        (lambda x: mean(x, ()), ValueError, "mean: dim must name a dimension"),
        (lambda x: mean(x.half(), 1), TypeError, "mean: x must be float32"),
    ],
)
def test_bad_calls_name_the_op_and_what_must_hold(call: Any, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        call(noise(2, 3, 4, 5))
