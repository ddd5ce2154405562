"""Pooling, means and sums, images of another size."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from cimq.bundle.onnx_import.building import Operation
from cimq.bundle.onnx_import.layers import window_pads
from cimq.bundle.onnx_import.values import Known, Value
from cimq.bundle.operations.registry import RefusedError

_LOWEST = float(np.finfo(np.float32).min)


def _image(op: Operation, x: Value) -> Value:
    """A signal [B, C, L] as an image of one row."""
    if len(x.shape) not in (2, 3):
        raise RefusedError(f"pools [B, C, H, W] and [B, C, L], got {len(x.shape) + 1} dimensions")
    return x if len(x.shape) == 3 else op.reshape(x, (x.shape[0], 1, x.shape[1]))


def _pool(op: Operation, average: bool) -> Known:
    x = op.plain(0) if average else op.moved(0)
    signal = len(x.shape) == 2
    x = _image(op, x)
    sides = 1 if signal else 2
    window = [tuple(op.attribute(key, [1] * sides)) for key in ("kernel_shape", "strides", "dilations")]
    if any(len(entry) != sides or min(entry) < 1 for entry in window):
        raise RefusedError("attributes kernel_shape, strides and dilations must be positive numbers, one per side")
    begin, end = window_pads(op, x.shape[3 - sides :], *window)
    kernel, strides, dilations = (entry if sides == 2 else (1, *entry) for entry in window)
    begin, end = (entry if sides == 2 else (0, *entry) for entry in (begin, end))
    ceil, op_counts = bool(op.attribute("ceil_mode", 0)), bool(op.attribute("count_include_pad", 0))
    if average and set(dilations) != {1}:
        raise RefusedError("attribute dilations must be 1")
    if average and ceil and op_counts:
        raise RefusedError("ceil_mode with count_include_pad: runtimes differ in what they divide by; use one of them")
    if begin != end or any(2 * pad > size for pad, size in zip(begin, kernel, strict=True)):
        # What a bundle's pooling does not pad itself becomes part of the image.
        if ceil or (average and not op_counts and max(*begin, *end) > 0):
            raise RefusedError(
                f"attribute pads {[*begin, *end]} must be alike on both sides, and at most half the kernel"
            )
        x = _bordered(op, x, begin, end, 0.0 if average else _LOWEST)
        begin = end = (0, 0)
    size = []
    for axis in range(2):
        reach = dilations[axis] * (kernel[axis] - 1) + 1
        room = x.shape[1 + axis] + begin[axis] + end[axis] - reach
        count = (-(-room // strides[axis]) if ceil else room // strides[axis]) + 1
        if ceil and (count - 1) * strides[axis] >= x.shape[1 + axis] + begin[axis]:
            count -= 1  # a window that starts in the padding behind the image
        if room < 0 or count < 1:
            raise RefusedError(f"its window of {reach} does not fit an image of {x.shape[1 + axis]}")
        size.append(count)
    attrs: dict[str, object] = {"kernel": [*kernel], "stride": [*strides], "padding": [*begin]}
    attrs |= {"count_include_pad": op_counts} if average else {"dilation": [*dilations]}
    if ceil:
        attrs["ceil_mode"] = True
    shape = (x.shape[0], *size)
    result = op.emit("avg_pool2d", [x], shape, attrs) if average else op.move("max_pool2d", x, shape, attrs)
    return op.reshape(result, (shape[0], size[1])) if signal else result


def _bordered(op: Operation, x: Value, begin: Sequence[int], end: Sequence[int], number: float) -> Value:
    shape = (x.shape[0], x.shape[1] + begin[0] + end[0], x.shape[2] + begin[1] + end[1])
    attrs = {"before": [0, *begin], "after": [0, *end], "value": number}
    # A maximum is never in the border, so that a quantiser may follow it.
    return op.move("pad", x, shape, attrs)


def max_pool(op: Operation) -> Known:
    """Windows' maxima; of integers as well."""
    op.only("storage_order", 0)
    return _pool(op, average=False)


def average_pool(op: Operation) -> Known:
    """Windows' means."""
    return _pool(op, average=True)


def global_average_pool(op: Operation) -> Known:
    """The mean of every channel."""
    return _global(op, op.plain(0), "avg_pool2d", {"count_include_pad": True})


def global_max_pool(op: Operation) -> Known:
    """The maximum of every channel."""
    return _global(op, op.moved(0), "max_pool2d", {"dilation": [1, 1]})


def _global(op: Operation, x: Value, kind: str, attrs: dict[str, object]) -> Known:
    signal = len(x.shape) == 2
    x = _image(op, x)
    size = [*x.shape[1:]]
    pooled = op.move(kind, x, (x.shape[0], 1, 1), {"kernel": size, "stride": size, "padding": [0, 0], **attrs})
    return op.reshape(pooled, (x.shape[0], 1)) if signal else pooled


# ---- reductions ----


def _reduced(op: Operation) -> tuple[Value, list[int], bool]:
    x = op.plain(0)
    keep = bool(op.attribute("keepdims", 1))
    axes = op.attribute("axes") if op.given(1) is None else op.integers(1)
    nothing = bool(op.attribute("noop_with_empty_axes", 0))
    if not axes:
        raise RefusedError(
            "needs axes"
            if nothing
            else "needs axes: without them it would take the batch, the first dimension, as well"
        )
    places = sorted({op.sample_axis(axis, x) for axis in axes})
    return x, places, keep


def reduce_mean(op: Operation) -> Known:
    """A mean over dimensions."""
    return _mean(op, *_reduced(op))


def _mean(op: Operation, x: Value, places: list[int], keep: bool) -> Value:
    kept = tuple(1 if place in places else size for place, size in enumerate(x.shape))
    shape = kept if keep else tuple(size for place, size in enumerate(x.shape) if place not in places)
    if len(x.shape) == 3 and places == [1, 2]:  # the sums of a convolutional network's last pooling
        size = [*x.shape[1:]]
        attrs = {"kernel": size, "stride": size, "padding": [0, 0], "count_include_pad": True}
        return op.reshape(op.emit("avg_pool2d", [x], kept, attrs), shape)
    return op.emit("mean", [x], shape, {"dims": places})


def reduce_sum(op: Operation) -> Known:
    """The mean times the number of elements."""
    x, places, keep = _reduced(op)
    mean = _mean(op, x, places, keep)
    count = float(math.prod(x.shape[place] for place in places))
    factor = op.builder.constant(np.full((1,) * len(mean.shape), count, np.float32), f"{op.hint}.count")
    return op.emit("mul", [mean, factor], mean.shape)


def reduce_max(op: Operation) -> Known:
    """Over height and width."""
    x, places, keep = _reduced(op)
    if len(x.shape) != 3 or places != [1, 2]:
        raise RefusedError("a maximum is known over height and width of [B, C, H, W]")
    pooled = _global(op, x, "max_pool2d", {"dilation": [1, 1]})
    assert isinstance(pooled, Value)
    return pooled if keep else op.reshape(pooled, (x.shape[0],))


# ---- images of another size ----


def resize(op: Operation) -> Known:
    """Nearest by whole factors, and bilinear."""
    for key in ("cubic_coeff_a", "exclude_outside", "extrapolation_value"):  # of other modes
        op.attribute(key)
    op.only("antialias", 0)
    op.only("keep_aspect_ratio_policy", "stretch")
    mode = op.only("mode", "nearest", "linear")
    turning = op.attribute("coordinate_transformation_mode", "half_pixel")
    rounding = op.attribute("nearest_mode", "round_prefer_floor")
    x = op.moved(0)
    if len(x.shape) != 3:
        raise RefusedError("resizes [B, C, H, W]")
    size = _new_size(op, x)
    if size == x.shape[1:]:
        return x
    height, width = x.shape[1:]
    if mode == "nearest":
        whole = size[0] % height == 0 and size[1] % width == 0
        known = (turning, rounding) == ("asymmetric", "floor") or (
            turning in ("half_pixel", "pytorch_half_pixel") and rounding in ("round_prefer_floor", "round_prefer_ceil")
        )
        if not whole or not known:
            raise RefusedError(
                f"nearest from {height} x {width} to {size[0]} x {size[1]} ({turning}, {rounding}): whole factors, "
                "with asymmetric and floor or with half_pixel, are known"
            )
        return _repeated(op, x, size)
    if turning not in ("half_pixel", "pytorch_half_pixel", "align_corners") or (
        turning == "pytorch_half_pixel" and 1 in size
    ):
        raise RefusedError(
            f"attribute coordinate_transformation_mode {turning!r} is not known for {size[0]} x {size[1]}"
        )
    attrs = {
        "size": [*size],
        "row_step": float(np.float32(height / size[0])),
        "column_step": float(np.float32(width / size[1])),
        "align_corners": turning == "align_corners",
    }
    return op.emit("resize_bilinear", [op.builder.computed(x)], (x.shape[0], *size), attrs)


def _repeated(op: Operation, x: Value, size: tuple[int, int]) -> Value:
    """Every pixel several times, whole numbers of them."""
    channels, height, width = x.shape
    apart = op.reshape(x, (channels, height, 1, width, 1))
    again = op.move("expand", apart, (channels, height, size[0] // height, width, size[1] // width))
    return op.reshape(again, (channels, *size))


def _new_size(op: Operation, x: Value) -> tuple[int, int]:
    rank = len(x.shape) + 1
    axes = op.attribute("axes")
    places = list(range(rank)) if axes is None else [op.axis(axis, rank) for axis in axes]
    full = [1, *x.shape]
    sizes, scales = op.given(3), op.given(2)
    if sizes is not None:
        wanted = list(op.integers(3))
    elif scales is not None:
        factors = op.floats(2).reshape(-1)
        if len(factors) != len(places) or not np.isfinite(factors).all() or factors.min() <= 0:
            raise RefusedError("its scales must be positive, one per dimension")
        wanted = [math.floor(full[place] * float(factor)) for place, factor in zip(places, factors, strict=True)]
        exact = all(want == full[place] * float(f) for place, want, f in zip(places, wanted, factors, strict=True))
        if not exact:
            raise RefusedError(f"its scales {factors.tolist()} do not give whole sizes; give sizes")
    else:
        raise RefusedError("needs sizes or scales")
    if len(wanted) != len(places):
        raise RefusedError("its sizes must be one per dimension")
    result = [*full]
    for place, want in zip(places, wanted, strict=True):
        result[place] = 1 if place == 0 and op.builder.is_batch(want) else want
    if result[:2] != [1, x.shape[0]] or min(result) < 1:
        raise RefusedError(f"resizes {['batch', *x.shape]} to {wanted}; batch and channels must stay")
    return result[2], result[3]
