"""Functions of single values, and arithmetic of two."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
from onnx import TensorProto

from cimq.bundle.onnx_import.building import Operation, without_batch
from cimq.bundle.onnx_import.quantise import clip_integers
from cimq.bundle.onnx_import.values import Constant, Grid, Known, Levels, Value, type_name
from cimq.bundle.operations.registry import RefusedError

Handler = Callable[[Operation], Known]


def same(op: Operation) -> Known:
    """Identity."""
    return op.known(0)


def dropout(op: Operation) -> Known:
    """Nothing, outside of training."""
    op.attribute("seed")
    mode = op.given(2)
    if isinstance(mode, Constant) and not bool(mode.array.any()):
        mode = None
    if mode is not None:
        raise RefusedError("training_mode must be false: export the model in evaluation")
    return op.known(0)


def cast(op: Operation) -> Known:
    """Float32 to float32."""
    target = op.attribute("to")
    op.attribute("saturate", 1)
    op.attribute("round_mode", "up")
    if target != TensorProto.FLOAT:
        raise RefusedError(f"attribute to: values of the run are float32, got {type_name(target)}")
    return op.value(0)


# ---- one value ----


def function(kind: str, **attrs: Any) -> Handler:
    """An operation of the same name and no choices."""
    return lambda op: op.emit(kind, [op.plain(0)], op.value(0).shape, attrs)


def relu(op: Operation) -> Known:
    """Of a quantised value, its integers from 0 up: no node."""
    return _clamped(op, 0.0, None)


def clip(op: Operation) -> Known:
    """Of integers (between QuantizeLinear and DequantizeLinear) a narrower width, of float32 values a clamp."""
    x = op.known(0)
    if isinstance(x, Levels):
        raise RefusedError("clips a quantised constant; put Clip before its DequantizeLinear")
    if isinstance(x, Constant) or x.zero is not None:
        return clip_integers(op, x)
    low, high = (None if op.given(place) is None else op.number(place) for place in (1, 2))
    return _clamped(op, low, high)


def _clamped(op: Operation, low: float | None, high: float | None) -> Value:
    x = op.value(0)
    # Infinite bounds are none.
    low = None if low == -np.inf else low
    high = None if high == np.inf else high
    if any(bound is not None and not np.isfinite(bound) for bound in (low, high)) or (
        low is not None and high is not None and low > high
    ):
        raise RefusedError(f"its bounds are {low} and {high}")
    if low is None and high is None:
        return x
    if x.grid is not None:
        bounds = [None if bound is None else _level(x.grid, bound) for bound in (low, high)]
        if all(level is not None for level, bound in zip(bounds, (low, high), strict=True) if bound is not None):
            return dataclasses.replace(x, grid=x.grid.within(*bounds))
    x = op.builder.computed(x)
    if (low, high) == (0.0, None):
        return op.emit("relu", [x], x.shape)
    return op.emit("clamp", [x], x.shape, {"min": low, "max": high})


def _level(grid: Grid, bound: float) -> int | None:
    """The integer of a bound that lies on the grid."""
    level = np.rint(np.float32(bound) / np.float32(grid.scale))
    if abs(level) > 2**20 or np.float32(level) * np.float32(grid.scale) != np.float32(bound):
        return None
    return int(level)


def hard_sigmoid(op: Operation) -> Known:
    """max(0, min(1, alpha * x + beta))."""
    alpha, beta = (np.float32(op.attribute(key, default)) for key, default in (("alpha", 0.2), ("beta", 0.5)))
    x = op.plain(0)
    if (alpha, beta) == (np.float32(1 / 6), np.float32(0.5)):
        return op.emit("hardsigmoid", [x], x.shape)
    scaled = op.emit("mul", [x, _number(op, alpha, x)], x.shape)
    shifted = op.emit("add", [scaled, _number(op, beta, x)], x.shape)
    return op.emit("clamp", [shifted], x.shape, {"min": 0.0, "max": 1.0})


def leaky_relu(op: Operation) -> Known:
    """x, or alpha * x where x is negative."""
    return op.emit("leaky_relu", [op.plain(0)], op.value(0).shape, {"slope": _float(op, "alpha", 0.01)})


def elu(op: Operation) -> Known:
    """x, or alpha * (exp(x) - 1) where x is negative."""
    return op.emit("elu", [op.plain(0)], op.value(0).shape, {"alpha": _float(op, "alpha", 1.0)})


def gelu(op: Operation) -> Known:
    """Exact, or its approximation by tanh."""
    kind = {"none": "gelu", "tanh": "gelu_tanh"}[op.only("approximate", "none", "tanh")]
    return op.emit(kind, [op.plain(0)], op.value(0).shape)


def swish(op: Operation) -> Known:
    """x * sigmoid(x)."""
    op.only("alpha", 1.0)
    return op.emit("silu", [op.plain(0)], op.value(0).shape)


def _float(op: Operation, key: str, default: float) -> float:
    value = float(np.float32(op.attribute(key, default)))
    if not np.isfinite(value):
        raise RefusedError(f"attribute {key} must be finite, got {value}")
    return value


def _number(op: Operation, number: Any, x: Value) -> Value:
    """A constant number as an operand of `x`."""
    return op.builder.constant(np.full((1,) * len(x.shape), number, np.float32), f"{op.hint}.number")


def negated(op: Operation) -> Known:
    """-x, exactly."""
    x = op.plain(0)
    return op.emit("mul", [x, _number(op, -1.0, x)], x.shape)


def absolute(op: Operation) -> Known:
    """max(x, -x)."""
    x = op.plain(0)
    negative = op.emit("mul", [x, _number(op, -1.0, x)], x.shape)
    return op.emit("maximum", [x, negative], x.shape)


def reciprocal(op: Operation) -> Known:
    """1 / x."""
    x = op.plain(0)
    return op.emit("div", [_number(op, 1.0, x), x], x.shape)


def power(op: Operation) -> Known:
    """Squares, cubes, roots and inverses, as products, a root and a quotient."""
    exponent = op.constant(1)
    if exponent.array.size != 1 or float(exponent.array.reshape(-1)[0]) not in (-1.0, 0.5, 1.0, 2.0, 3.0):
        raise RefusedError("its exponent must be a constant: -1, 0.5, 1, 2 or 3")
    number = float(exponent.array.reshape(-1)[0])
    x = op.plain(0)
    if number == 1.0:
        return x
    if number == 0.5:
        return op.emit("sqrt", [x], x.shape)
    if number == -1.0:
        return reciprocal(op)
    square = op.emit("mul", [x, x], x.shape)
    return square if number == 2.0 else op.emit("mul", [square, x], x.shape)


# ---- two values ----


def binary(kind: str) -> Handler:
    """An operation of two values, or of several from left to right; constants may be among them."""

    def handler(op: Operation) -> Known:
        places = range(len(op.inputs))
        ranks = {len(op.value(place).shape) for place in places if isinstance(op.known(place), Value)}
        if len(ranks) != 1:
            raise RefusedError(
                "its values differ in their number of dimensions, so that the batch of one would meet another dimension"
            )
        rank = ranks.pop()
        operands = [_operand(op, place, rank) for place in places]
        result = operands[0]
        for other in operands[1:]:
            try:
                shape = np.broadcast_shapes(result.shape, other.shape)
            except ValueError:
                raise RefusedError(f"{[*result.shape]} and {[*other.shape]} per sample do not fit") from None
            result = op.emit(kind, [result, other], shape)
        return result

    return handler


def _operand(op: Operation, place: int, rank: int) -> Value:
    known = op.known(place)
    if isinstance(known, Value):
        return op.builder.computed(known)
    array = op.floats(place)
    if array.size == 0:
        raise RefusedError(f"input {place} has no elements")
    return op.builder.constant(without_batch(array, rank), f"{op.hint}.{place}")


def prelu(op: Operation) -> Known:
    """Slopes of the negative side: one, or one per channel."""
    x = op.plain(0)
    slopes = without_batch(op.floats(1), len(x.shape))
    channels = x.shape[0] if x.shape else 1
    if slopes.size not in (1, channels) or (slopes.size > 1 and slopes.shape[0] != channels):
        raise RefusedError(f"its slopes must be one or one per channel, got the shape {[*op.floats(1).shape]}")
    if not x.shape:
        raise RefusedError("needs a dimension beside the batch")
    if not np.isfinite(slopes).all():
        raise RefusedError("its slopes must be finite")
    return op.emit("prelu", [x], x.shape, tensors={"weight": slopes.reshape(-1)})
