"""QuantizeLinear, DequantizeLinear, and the Clip between them that makes integers narrower."""

from __future__ import annotations

import dataclasses

import numpy as np
from onnx import TensorProto

from cimq.bundle.onnx_import.building import Operation
from cimq.bundle.onnx_import.values import INTEGER_RANGES, Array, Constant, Grid, Known, Levels, Value, type_name
from cimq.bundle.operations.registry import RefusedError


def _scale(op: Operation) -> Array:
    """float32, one entry or one per index of an axis."""
    known = op.known(1)
    if not isinstance(known, Constant):
        raise RefusedError("its scale is computed at run time; quantise statically, with scales from calibration")
    if known.element != TensorProto.FLOAT:
        raise RefusedError(f"its scale must be float32, got {type_name(known.element)}")
    scale = known.array
    if scale.ndim > 1:
        raise RefusedError(f"its scale has the shape {[*scale.shape]}: one per tensor or per index of an axis is known")
    if scale.size == 0 or not np.isfinite(scale).all() or scale.min() <= 0:
        raise RefusedError(f"its scale must be positive and finite, got {scale.reshape(-1)[:4].tolist()}")
    return scale


def _zero(op: Operation, scale: Array, default: int) -> tuple[Array, int]:
    """Zero points, int64, and the type of the integers."""
    known = op.given(2)
    stated = op.attribute("output_dtype", 0) if op.node.op_type == "QuantizeLinear" else 0
    if known is None:
        return np.zeros(scale.shape, np.int64), stated or default
    if not isinstance(known, Constant):
        raise RefusedError("its zero point must be a constant")
    if known.shape != scale.shape and known.array.size != scale.size:
        raise RefusedError(f"zero point and scale must have one shape, got {[*known.shape]} and {[*scale.shape]}")
    if stated and stated != known.element:
        raise RefusedError(f"output_dtype is {type_name(stated)}, but its zero point {type_name(known.element)}")
    return known.array.astype(np.int64).reshape(scale.shape), known.element


def _range(element: int) -> tuple[int, int]:
    if element not in INTEGER_RANGES:
        raise RefusedError(f"{type_name(element)} is no type of integers that crossbars could hold; use INT8 or UINT8")
    return INTEGER_RANGES[element]


def _check_options(op: Operation) -> None:
    op.attribute("saturate", 1)  # of float8, which is refused by type
    if op.attribute("block_size", 0):
        raise RefusedError("attribute block_size: scales of blocks are not known; use one per tensor or per output")
    op.only("precision", 0, TensorProto.FLOAT)


def _axis(op: Operation, shape: tuple[int, ...], scale: Array) -> int | None:
    """The axis of scales; None for one scale."""
    axis = op.attribute("axis", 1)
    if scale.size == 1:
        return None
    place = op.axis(axis, len(shape))
    if shape[place] != scale.size:
        raise RefusedError(f"has {scale.size} scales for axis {axis} with {shape[place]} entries")
    return place


def _along(array: Array, axis: int | None, rank: int) -> Array:
    return array.reshape(()) if axis is None else array.reshape([-1 if i == axis else 1 for i in range(rank)])


def quantize(op: Operation) -> Known:
    """A constant becomes integers; a value of the run is marked, and quantised when somebody needs it."""
    scale = _scale(op)
    _check_options(op)
    zero, element = _zero(op, scale, TensorProto.UINT8)
    low, high = _range(element)
    x = op.known(0)
    if isinstance(x, Value):
        return _quantize_value(op, x, scale, zero, element)
    array = op.floats(0)
    if not np.isfinite(array).all():
        raise RefusedError("quantises a constant that is not finite")
    axis = _axis(op, tuple(array.shape), scale)
    steps = np.rint(array / _along(scale, axis, array.ndim)).astype(np.float64)
    integers = np.clip(steps + _along(zero, axis, array.ndim), low, high)
    return Constant(integers.astype(np.int32), element)


def _quantize_value(op: Operation, x: Value, scale: Array, zero: Array, element: int) -> Value:
    op.attribute("axis", 1)
    if scale.size != 1:
        raise RefusedError("a value of the run must have one scale, not one per channel")
    if x.zero is not None:
        op.value(0)  # refuses integers
    low, high = _range(element)
    point = int(zero.reshape(-1)[0])
    grid = Grid(float(scale.reshape(-1)[0]), low - point, high - point)
    if x.grid is not None and x.grid.scale == grid.scale:
        return dataclasses.replace(x, grid=x.grid.within(grid.low, grid.high), zero=point, element=element)
    return dataclasses.replace(op.builder.computed(x), grid=grid, zero=point, element=element)


def dequantize(op: Operation) -> Known:
    """Integers with their scale."""
    scale = _scale(op)
    _check_options(op)
    if op.attribute("output_dtype", 0) not in (0, TensorProto.FLOAT):
        raise RefusedError("attribute output_dtype must be FLOAT")
    x = op.known(0)
    if isinstance(x, Levels):
        raise RefusedError("its input is no integer")
    zero, element = _zero(op, scale, x.element)
    if element != x.element:
        raise RefusedError(f"its input is {type_name(x.element)}, its zero point {type_name(element)}")
    if isinstance(x, Constant):
        return _levels(op, x, scale, zero)
    return _dequantize_value(op, x, scale, zero)


def _levels(op: Operation, x: Constant, scale: Array, zero: Array) -> Levels:
    low, high = x.bounds or _range(x.element)
    axis = _axis(op, x.shape, scale)
    points = (int(zero.min()), int(zero.max()))
    integers = x.array.astype(np.int64) - _along(zero, axis, x.array.ndim)
    if x.element == TensorProto.INT32 and points != (0, 0):
        raise RefusedError("the zero point of int32 must be 0")
    scale = scale.reshape(()) if axis is None else scale
    return Levels(integers.astype(np.int32), scale, axis, low - points[1], high - points[0])


def _dequantize_value(op: Operation, x: Value, scale: Array, zero: Array) -> Value:
    op.attribute("axis", 1)
    if x.grid is None or x.zero is None:
        raise RefusedError("its input is no result of QuantizeLinear; inputs of a network must be float32")
    if scale.size != 1 or float(scale.reshape(-1)[0]) != x.grid.scale or int(zero.reshape(-1)[0]) != x.zero:
        raise RefusedError("its scale and zero point must be those of the QuantizeLinear before it")
    return dataclasses.replace(x, zero=None, element=TensorProto.FLOAT)


def clip_integers(op: Operation, x: Value | Constant) -> Known:
    """Clip on integers: a narrower range of the same steps."""
    low, high = _range(x.element)
    bounds = []
    for place, default in ((1, low), (2, high)):
        known = op.given(place)
        if known is None:
            bounds.append(default)
            continue
        bound = op.constant(place)
        if bound.array.size != 1 or bound.element != x.element:
            raise RefusedError(f"bounds must be one {type_name(x.element)} each, got {type_name(bound.element)}")
        bounds.append(int(bound.array.reshape(-1)[0]))
    lower, upper = bounds
    if lower > upper:
        raise RefusedError(f"its bounds are {lower} and {upper}")
    if isinstance(x, Constant):
        known_bounds = x.bounds or (low, high)
        inside = (min(max(known_bounds[0], lower), upper), min(max(known_bounds[1], lower), upper))
        return Constant(np.clip(x.array.astype(np.int64), lower, upper).astype(np.int32), x.element, inside)
    assert x.grid is not None
    assert x.zero is not None
    return dataclasses.replace(x, grid=x.grid.within(lower - x.zero, upper - x.zero))
