"""What a graph computes from constants alone: shapes, scales, weights that are turned. With numpy, bounded."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
from onnx import TensorProto

from cimq.bundle.onnx_import.building import Operation
from cimq.bundle.onnx_import.quantise import clip_integers, dequantize, quantize
from cimq.bundle.onnx_import.values import INTEGER_RANGES, Array, Constant, Known, Levels, constant_of, type_name
from cimq.bundle.operations.registry import RefusedError

_MAX_MADE = 2**24
"""Elements at most of what is made larger: a graph of a few bytes can ask for any size."""

_DTYPES: dict[int, Any] = {
    TensorProto.FLOAT: np.float32,
    TensorProto.DOUBLE: np.float64,
    TensorProto.FLOAT16: np.float16,
    TensorProto.INT64: np.int64,
    TensorProto.INT32: np.int32,
    TensorProto.BOOL: np.bool_,
    **{code: np.int32 for code in INTEGER_RANGES if code != TensorProto.INT32},
}


def _array(op: Operation, place: int) -> Array:
    known = op.known(place)
    if isinstance(known, Levels):
        return known.real()
    return op.constant(place).array


def _element(op: Operation, place: int = 0) -> int:
    known = op.known(place)
    return TensorProto.FLOAT if isinstance(known, Levels) else op.constant(place).element


def _made(shape: tuple[int, ...]) -> tuple[int, ...]:
    count = 1
    for size in shape:
        if size < 0 or count * size > _MAX_MADE:
            raise RefusedError(f"makes a constant of the shape {[*shape]}; at most {_MAX_MADE} elements are made")
        count *= size
    return shape


def constant(op: Operation) -> Known:
    """The operator Constant."""
    if len(op.node.attribute) != 1:
        raise RefusedError("must have one attribute, its value")
    key = op.node.attribute[0].name
    value = op.attribute(key)
    if key == "value":
        return constant_of(value)
    if key in ("value_float", "value_floats"):
        return Constant(np.array(value, np.float32), TensorProto.FLOAT)
    if key in ("value_int", "value_ints"):
        return Constant(np.array(value, np.int64), TensorProto.INT64)
    raise RefusedError(f"attribute {key} is not known")


def constant_of_shape(op: Operation) -> Known:
    """One number in a shape."""
    value = op.attribute("value")
    number = Constant(np.zeros(1, np.float32), TensorProto.FLOAT) if value is None else constant_of(value)
    if number.array.size != 1:
        raise RefusedError("attribute value must be one number")
    return Constant(np.full(_made(op.integers(0)), number.array.reshape(-1)[0]), number.element)


def _cast(op: Operation) -> Known:
    target = op.attribute("to")
    op.attribute("saturate", 1)
    op.attribute("round_mode", "up")
    if target not in _DTYPES:
        raise RefusedError(f"attribute to: a constant of {type_name(target)} is not known")
    array = _array(op, 0)
    if target in INTEGER_RANGES:
        low, high = INTEGER_RANGES[target]
        if array.size and not (np.isfinite(array).all() and low <= array.min() and array.max() <= high):
            raise RefusedError(f"casts numbers that {type_name(target)} does not hold")
    return Constant(array.astype(_DTYPES[target]), target)


def _elementwise(function: Callable[..., Any], boolean: bool = False) -> Callable[[Operation], Known]:
    def fold(op: Operation) -> Known:
        arrays = [_array(op, place) for place in range(len(op.inputs))]
        _made(np.broadcast_shapes(*(array.shape for array in arrays)))
        element = TensorProto.BOOL if boolean else _element(op)
        return Constant(np.asarray(function(*arrays), _DTYPES.get(element)), element)

    return fold


def _divided(a: Array, b: Array) -> Array:
    if not np.issubdtype(a.dtype, np.integer):
        return np.asarray(a / b)
    if np.any(b == 0):
        raise RefusedError("divides an integer by 0")
    return np.asarray(np.trunc(a / b).astype(a.dtype) if np.any((a < 0) != (b < 0)) else a // b)


def _several(function: Callable[[Any, Any], Any]) -> Callable[[Operation], Known]:
    def joined(*arrays: Array) -> Array:
        result = arrays[0]
        for array in arrays[1:]:
            result = function(result, array)
        return result

    return _elementwise(joined)


def _shape(op: Operation) -> Known:
    shape = op.known(0)
    assert isinstance(shape, (Constant, Levels))
    sizes = shape.shape if isinstance(shape, Constant) else tuple(shape.integers.shape)
    part = sizes[slice(op.attribute("start", 0), op.attribute("end", len(sizes)))]
    return Constant(np.array(part, np.int64), TensorProto.INT64)


def _range(op: Operation) -> Known:
    start, limit, delta = (_array(op, place).reshape(-1)[:1] for place in range(3))
    if not start.size or not limit.size or not delta.size or delta[0] == 0:
        raise RefusedError("needs a start, a limit, and a delta that is not 0")
    count = max(0, int(np.ceil((float(limit[0]) - float(start[0])) / float(delta[0]))))
    _made((count,))
    return Constant((start[0] + np.arange(count) * delta[0]).astype(start.dtype), _element(op))


def _expand(op: Operation) -> Known:
    array = _array(op, 0)
    return Constant(np.broadcast_to(array, _made(np.broadcast_shapes(array.shape, op.integers(1)))), _element(op))


def _where(op: Operation) -> Known:
    arrays = [_array(op, place) for place in range(3)]
    _made(np.broadcast_shapes(*(array.shape for array in arrays)))
    return Constant(np.where(arrays[0].astype(bool), arrays[1], arrays[2]), _element(op, 1))


def _gather(op: Operation) -> Known:
    array, indices = _array(op, 0), _array(op, 1).astype(np.int64)
    axis = op.axis(op.attribute("axis", 0), array.ndim)
    size = array.shape[axis]
    if indices.size and not (-size <= indices.min() and indices.max() < size):
        raise RefusedError(f"indices {indices.reshape(-1)[:8].tolist()} are outside of {size} entries")
    _made((*array.shape[:axis], *indices.shape, *array.shape[axis + 1 :]))
    return Constant(np.take(array, indices, axis=axis), _element(op))


def _slice(op: Operation) -> Known:
    array = _array(op, 0)
    starts, ends = op.integers(1), op.integers(2)
    axes = tuple(range(len(starts))) if op.given(3) is None else op.integers(3)
    steps = (1,) * len(starts) if op.given(4) is None else op.integers(4)
    if not len(starts) == len(ends) == len(axes) == len(steps) or 0 in steps:
        raise RefusedError("starts, ends, axes and steps must be as many, and steps not 0")
    index = [slice(None)] * array.ndim
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        # A start below the front with a negative step, and an end there, mean the front itself.
        entry = range(*slice(start, end, step).indices(array.shape[op.axis(axis, array.ndim)]))
        stop = entry.stop if entry.stop >= 0 else None
        index[op.axis(axis, array.ndim)] = slice(entry.start, stop, step)
    return Constant(array[tuple(index)], _element(op))


def _concat(op: Operation) -> Known:
    arrays = [_array(op, place) for place in range(len(op.inputs))]
    axis = op.axis(op.attribute("axis"), arrays[0].ndim)
    return Constant(np.concatenate(arrays, axis), _element(op))


def _reduced(function: Callable[..., Any]) -> Callable[[Operation], Known]:
    def fold(op: Operation) -> Known:
        array = _array(op, 0)
        axes = op.attribute("axes") if op.given(1) is None else op.integers(1)
        if not axes and op.attribute("noop_with_empty_axes", 0):
            return op.known(0)
        keep = bool(op.attribute("keepdims", 1))
        places = None if not axes else tuple(op.axis(axis, array.ndim) for axis in axes)
        return Constant(np.asarray(function(array, axis=places, keepdims=keep), array.dtype), _element(op))

    return fold


# ---- weights in other shapes: quantised ones stay quantised ----


def _arranged(op: Operation, shape: tuple[int, ...], axis: int | None, change: Callable[[Array], Array]) -> Known:
    known = op.known(0)
    if isinstance(known, Levels):
        return dataclasses.replace(known, integers=change(known.integers), axis=axis)
    plain = op.constant(0)
    return dataclasses.replace(plain, array=change(plain.array))


def _transpose(op: Operation) -> Known:
    known = op.known(0)
    rank = len(_sizes(known))
    perm = tuple(op.attribute("perm", range(rank)[::-1]))
    if sorted(perm) != list(range(rank)):
        raise RefusedError(f"attribute perm {[*perm]} is no order of {rank} dimensions")
    axis = known.axis if isinstance(known, Levels) else None
    moved = None if axis is None else perm.index(axis)
    return _arranged(op, (), moved, lambda array: array.transpose(perm))


def _sizes(known: Known) -> tuple[int, ...]:
    return tuple(known.integers.shape) if isinstance(known, Levels) else known.shape


def _reshaped(op: Operation, target: tuple[int, ...]) -> Known:
    known = op.known(0)
    sizes = _sizes(known)
    axis = known.axis if isinstance(known, Levels) else None
    if axis is not None:
        # Scales stay with their axis where its size and what stands before it stay.
        places = [
            place
            for place, size in enumerate(target)
            if size == sizes[axis] and np.prod(target[:place], dtype=np.int64) == np.prod(sizes[:axis], dtype=np.int64)
        ]
        if not places:
            raise RefusedError(f"gives weights with scales along axis {axis} another shape, {[*sizes]} to {[*target]}")
        axis = places[0]
    return _arranged(op, target, axis, lambda array: array.reshape(target))


def _reshape(op: Operation) -> Known:
    sizes, target = _sizes(op.known(0)), op.integers(1)
    if not op.attribute("allowzero", 0):
        if any(size == 0 and place >= len(sizes) for place, size in enumerate(target)):
            raise RefusedError(f"the shape {[*target]} copies a dimension that is not there")
        target = tuple(sizes[place] if size == 0 else size for place, size in enumerate(target))
    count = int(np.prod(sizes, dtype=np.int64))
    known = int(np.prod([size for size in target if size != -1], dtype=np.float64))
    if target.count(-1) == 1 and known > 0 and count % known == 0:
        target = tuple(count // known if size == -1 else size for size in target)
    if min(target, default=1) < 0 or int(np.prod(target, dtype=np.float64)) != count:
        raise RefusedError(f"{[*sizes]} cannot have the shape {[*target]}")
    return _reshaped(op, target)


def _flatten(op: Operation) -> Known:
    sizes = _sizes(op.known(0))
    axis = op.axis(op.attribute("axis", 1), len(sizes) + 1)
    return _reshaped(op, (int(np.prod(sizes[:axis])), int(np.prod(sizes[axis:]))))


def _squeeze(op: Operation) -> Known:
    sizes = _sizes(op.known(0))
    axes = range(len(sizes)) if op.given(1) is None else [op.axis(axis, len(sizes)) for axis in op.integers(1)]
    if op.given(1) is not None and any(sizes[axis] != 1 for axis in axes):
        raise RefusedError(f"axes {[*axes]} of {[*sizes]} are not all 1")
    return _reshaped(op, tuple(size for axis, size in enumerate(sizes) if size != 1 or axis not in axes))


def _unsqueeze(op: Operation) -> Known:
    sizes, axes = _sizes(op.known(0)), op.integers(1)
    rank = len(sizes) + len(axes)
    places = {op.axis(axis, rank) for axis in axes}
    if len(places) != len(axes):
        raise RefusedError(f"axes {[*axes]} must be different")
    rest = iter(sizes)
    return _reshaped(op, tuple(1 if place in places else next(rest) for place in range(rank)))


def _clip(op: Operation) -> Known:
    known = op.known(0)
    if isinstance(known, Constant) and known.element in INTEGER_RANGES:
        return clip_integers(op, known)
    array = op.floats(0)
    low, high = (
        default if op.given(place) is None else op.number(place) for place, default in ((1, -np.inf), (2, np.inf))
    )
    return Constant(np.clip(array, low, high).astype(np.float32), TensorProto.FLOAT)


FOLDING: dict[str, Callable[[Operation], Known]] = {
    "QuantizeLinear": quantize,
    "DequantizeLinear": dequantize,
    "Clip": _clip,
    "Constant": constant,
    "ConstantOfShape": constant_of_shape,
    "Identity": lambda op: op.known(0),
    "Shape": _shape,
    "Cast": _cast,
    "Range": _range,
    "Expand": _expand,
    "Where": _where,
    "Gather": _gather,
    "Slice": _slice,
    "Concat": _concat,
    "Transpose": _transpose,
    "Reshape": _reshape,
    "Flatten": _flatten,
    "Squeeze": _squeeze,
    "Unsqueeze": _unsqueeze,
    "Add": _elementwise(np.add),
    "Sub": _elementwise(np.subtract),
    "Mul": _elementwise(np.multiply),
    "Div": _elementwise(_divided),
    "Pow": _elementwise(lambda a, b: np.power(a.astype(np.float64), b)),
    "Sqrt": _elementwise(np.sqrt),
    "Exp": _elementwise(np.exp),
    "Log": _elementwise(np.log),
    "Neg": _elementwise(np.negative),
    "Abs": _elementwise(np.abs),
    "Reciprocal": _elementwise(lambda a: 1 / a),
    "Floor": _elementwise(np.floor),
    "Ceil": _elementwise(np.ceil),
    "Round": _elementwise(np.rint),
    "Sign": _elementwise(np.sign),
    "Max": _several(np.maximum),
    "Min": _several(np.minimum),
    "Equal": _elementwise(np.equal, boolean=True),
    "Greater": _elementwise(np.greater, boolean=True),
    "Less": _elementwise(np.less, boolean=True),
    "Not": _elementwise(np.logical_not, boolean=True),
    "And": _elementwise(np.logical_and, boolean=True),
    "Or": _elementwise(np.logical_or, boolean=True),
    "ReduceMax": _reduced(np.max),
    "ReduceMin": _reduced(np.min),
    "ReduceProd": _reduced(np.prod),
    "ReduceSum": _reduced(np.sum),
    "ReduceMean": _reduced(np.mean),
}
"""Operators whose inputs are all constants -> what computes them."""


def fold(op: Operation) -> Known:
    """The result of a node without values of the run.

    Raises:
        RefusedError: For an operator that is not known, and whatever numpy refuses.
    """
    handler = FOLDING.get(op.node.op_type)
    if handler is None:
        raise RefusedError("computes from constants alone; let onnxruntime or the exporter fold constants first")
    try:
        with np.errstate(all="ignore"):
            return handler(op)
    except (ValueError, TypeError, IndexError, OverflowError, FloatingPointError) as error:
        raise RefusedError(f"its constants do not fit: {error}") from None
