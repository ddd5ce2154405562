"""Conv, Gemm and MatMul: on crossbars where input and weight are quantised, else in float32."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from onnx import TensorProto

from cimq.bundle.network import CrossbarFacts, window_shape
from cimq.bundle.onnx_import.building import Operation
from cimq.bundle.onnx_import.forms import input_form, stored_bits, weight_parts
from cimq.bundle.onnx_import.products import of_two
from cimq.bundle.onnx_import.values import Array, Constant, Known, Levels, Value
from cimq.bundle.operations.registry import RefusedError

# ---- one product ----


@dataclasses.dataclass(frozen=True)
class Product:
    """A product of a value with weights.

    Attributes:
        op: "conv2d" or "linear".
        x: Its input.
        weight: Output first.
        bias: float32 [outputs], or None.
        shape: Of the result.
        attrs: Of the node.
        factor: What the product is multiplied with (alpha of Gemm).
    """

    op: str
    x: Value
    weight: Levels | Constant
    bias: Array | None
    shape: tuple[int, ...]
    attrs: dict[str, Any]
    factor: float = 1.0


def _emit(op: Operation, product: Product) -> Value:
    weight, x = product.weight, product.x
    if isinstance(weight, Constant):
        return _in_float32(op, product, "its weight is not quantised")
    if x.grid is None:
        return _in_float32(op, product, "its input is not quantised")
    if weight.axis not in (None, 0):
        raise RefusedError("its weights must have one scale, or one per output; these have one per input")
    outputs = weight.integers.shape[0]
    scale = np.broadcast_to(weight.scale, (outputs,)).astype(np.float64)
    multiplier = (scale * x.grid.scale * product.factor).astype(np.float32)
    if not np.isfinite(multiplier).all():
        raise RefusedError("the product of its scales is no finite float32")
    parts = weight_parts(weight.integers, weight.low, weight.high)
    name = op.builder.layer_name(op.name)
    stated = stored_bits(weight.low, weight.high)
    if len(parts) > 1:
        text = f"weights of magnitude {int(np.abs(weight.integers).max())} as two matrices of {parts[0][1]} and "
        op.builder.widened[name] = f"{text}{parts[1][1]} bits"
    elif parts[0][1] > stated:
        op.builder.widened[name] = f"weights of {stated} bits that reach -2^{stated - 1} as {parts[0][1]} bits"
    bias = np.zeros(outputs, np.float32) if product.bias is None else product.bias
    result = _on_crossbars(op, product, name, parts[0], multiplier, bias)
    for part in parts[1:]:
        rest = op.builder.layer_name(f"{name}.rest")
        other = _on_crossbars(op, product, rest, part, multiplier, np.zeros(outputs, np.float32))
        result = op.emit("add", [result, other], product.shape)
    return result


def _on_crossbars(
    op: Operation, product: Product, name: str, part: tuple[Array, int], multiplier: Array, bias: Array
) -> Value:
    grid = product.x.grid
    assert grid is not None
    form = input_form(grid)
    x = Value(product.x.name, product.x.shape) if form.exact else op.builder.computed(product.x)
    integers, bits = part
    conv = product.op == "conv2d"
    groups = product.attrs["groups"] if conv else 1
    facts = CrossbarFacts(
        layer_name=name,
        layer_index=op.builder.layers,
        weight_bits=bits,
        act_bits=form.bits,
        act_signed=form.signed,
        outputs=integers.shape[0] // groups,
        inputs_per_output=math.prod(integers.shape[1:]),
        invocations=math.prod(product.shape[1:] if conv else product.shape[:-1]),
        repeats=groups,
        act_zero=form.zero,
    )
    tensors = {
        "weight": integers.astype(np.int8),
        "x_scale": np.float32(grid.scale),
        "multiplier": multiplier,
        "bias": bias,
    }
    kind = f"crossbar_{product.op}"
    hint = f"{op.hint}.{kind}"
    return op.builder.emit(kind, [x], product.shape, product.attrs, hint=hint, tensors=tensors, crossbar=facts)


def _in_float32(op: Operation, product: Product, why: str) -> Value:
    op.builder.in_float32[op.name] = why
    weight = product.weight
    array = weight.real() if isinstance(weight, Levels) else weight.array
    tensors = {"weight": _finite(array * np.float32(product.factor), "weight")}
    if product.bias is not None:
        tensors["bias"] = product.bias
    return op.emit(f"{product.op}_f32", [op.builder.computed(product.x)], product.shape, product.attrs, tensors)


def _finite(array: Array, what: str) -> Array:
    if not np.isfinite(array).all():
        raise RefusedError(f"its {what} must be finite float32")
    return array


def _weight(op: Operation, place: int) -> Levels | Constant:
    known = op.known(place)
    if isinstance(known, Value):
        raise RefusedError(f"input {place}, its weight, depends on the network's input")
    if isinstance(known, Constant) and known.element != TensorProto.FLOAT:
        op.floats(place)  # refuses the type
    array = known.integers if isinstance(known, Levels) else known.array
    if array.size == 0:
        raise RefusedError(f"its weight has no elements: {[*array.shape]}")
    return known


def _turned(weight: Levels | Constant, perm: Sequence[int]) -> Levels | Constant:
    if isinstance(weight, Constant):
        return dataclasses.replace(weight, array=weight.array.transpose(perm))
    axis = None if weight.axis is None else [*perm].index(weight.axis)
    return dataclasses.replace(weight, integers=weight.integers.transpose(perm), axis=axis)


def _shape(weight: Levels | Constant) -> tuple[int, ...]:
    return tuple(weight.integers.shape if isinstance(weight, Levels) else weight.array.shape)


# ---- convolutions ----


def conv(op: Operation) -> Known:
    """Of images [B, C, H, W], and of signals [B, C, L] as images of one row."""
    x, weight = op.value(0), _weight(op, 1)
    sides = len(_shape(weight)) - 2
    if sides not in (1, 2) or len(x.shape) != sides + 1:
        raise RefusedError(
            f"convolutions of [B, C, H, W] and [B, C, L] are known, not an input of {len(x.shape) + 1} dimensions with "
            f"a weight {[*_shape(weight)]}"
        )
    groups = op.attribute("group", 1)
    outputs, inputs = _shape(weight)[:2]
    if groups < 1 or x.shape[0] != inputs * groups or outputs % groups:
        raise RefusedError(f"{x.shape[0]} channels, {groups} groups and a weight {[*_shape(weight)]} do not fit")
    kernel = _shape(weight)[2:]
    if tuple(op.attribute("kernel_shape", kernel)) != kernel:
        raise RefusedError(f"attribute kernel_shape must be that of the weight, {[*kernel]}")
    strides, dilations = (_numbers(op, key, sides) for key in ("strides", "dilations"))
    begin, end = window_pads(op, x.shape[1:], kernel, strides, dilations)
    bias = _bias(op, 2, outputs)
    if sides == 1:
        x = op.reshape(x, (x.shape[0], 1, x.shape[1]))
        weight = _in_one_row(weight)
        kernel, strides, dilations = (1, *kernel), (1, *strides), (1, *dilations)
        begin, end = (0, *begin), (0, *end)
    padding = (begin[1], end[1], begin[0], end[0])
    size = window_shape(x.shape[1:], kernel, strides, padding, dilations)  # type: ignore[arg-type]
    attrs = {
        "kernel": [*kernel],
        "stride": [*strides],
        "padding": [*padding],
        "dilation": [*dilations],
        "groups": groups,
    }
    result = _emit(op, Product("conv2d", x, weight, bias, (outputs, *size), attrs))
    return result if sides == 2 else op.reshape(result, (outputs, size[1]))


def _in_one_row(weight: Levels | Constant) -> Levels | Constant:
    if isinstance(weight, Constant):
        return dataclasses.replace(weight, array=weight.array[:, :, None, :])
    axis = weight.axis if weight.axis is None or weight.axis < 2 else weight.axis + 1
    return dataclasses.replace(weight, integers=weight.integers[:, :, None, :], axis=axis)


def _numbers(op: Operation, key: str, count: int) -> tuple[int, ...]:
    values = tuple(op.attribute(key, [1] * count))
    if len(values) != count or min(values) < 1:
        raise RefusedError(f"attribute {key} must be {count} positive numbers, got {[*values]}")
    return values


def window_pads(
    op: Operation, sizes: Sequence[int], kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int]
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Padding before and after, per axis; that of `auto_pad` from the sizes."""
    count = len(sizes)
    stated = tuple(op.attribute("pads", [0] * (2 * count)))
    if len(stated) != 2 * count or min(stated) < 0:
        raise RefusedError(f"attribute pads must be {2 * count} numbers that are not negative, got {[*stated]}")
    mode = op.only("auto_pad", "NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER")
    if mode == "NOTSET":
        return stated[:count], stated[count:]
    if mode == "VALID":
        return (0,) * count, (0,) * count
    begin, end = [], []
    for size, window, stride, dilation in zip(sizes, kernel, strides, dilations, strict=True):
        total = max(0, (-(-size // stride) - 1) * stride + dilation * (window - 1) + 1 - size)
        less, more = total // 2, total - total // 2
        begin.append(less if mode == "SAME_UPPER" else more)
        end.append(more if mode == "SAME_UPPER" else less)
    return tuple(begin), tuple(end)


def _bias(op: Operation, place: int, outputs: int, factor: float = 1.0) -> Array | None:
    if op.given(place) is None:
        return None
    array = op.floats(place)
    if array.ndim > 2 or array.size not in (1, outputs) or (array.ndim == 2 and array.shape[0] != 1):
        raise RefusedError(f"its bias must have one value per output, {outputs}, got the shape {[*array.shape]}")
    vector = np.broadcast_to(array.reshape(-1), (outputs,)) * np.float32(factor)
    return _finite(np.asarray(vector, np.float32), "bias")


# ---- products with matrices ----


def gemm(op: Operation) -> Known:
    """alpha * x * weight + beta * bias."""
    if op.attribute("transA", 0):
        raise RefusedError("attribute transA: the batch must be the first dimension of its input")
    x, weight = op.value(0), _weight(op, 1)
    alpha, beta = float(op.attribute("alpha", 1.0)), float(op.attribute("beta", 1.0))
    if not math.isfinite(alpha) or not math.isfinite(beta):
        raise RefusedError("attributes alpha and beta must be finite")
    if len(_shape(weight)) != 2:
        raise RefusedError(f"its weight must be a matrix, got {[*_shape(weight)]}")
    if not op.attribute("transB", 0):
        weight = _turned(weight, (1, 0))
    return _linear(op, x, weight, _bias(op, 2, _shape(weight)[0], beta), alpha)


def _linear(op: Operation, x: Value, weight: Levels | Constant, bias: Array | None, factor: float = 1.0) -> Value:
    outputs, inputs = _shape(weight)
    if not x.shape or x.shape[-1] != inputs or (op.node.op_type == "Gemm" and len(x.shape) != 1):
        raise RefusedError(f"an input [B, {', '.join(map(str, x.shape))}] does not fit {inputs} inputs of its weight")
    return _emit(op, Product("linear", x, weight, bias, (*x.shape[:-1], outputs), {}, factor))


def matmul(op: Operation) -> Known:
    """With a known matrix on the right a layer; else a product of two values (products.py)."""
    if isinstance(op.known(0), Value) and not isinstance(op.known(1), Value):
        x, weight = op.value(0), _weight(op, 1)
        shape = _shape(weight)
        if len(shape) < 2 or math.prod(shape[:-2]) != 1 or len(shape) > len(x.shape) + 1:
            raise RefusedError(f"its weight must be one matrix, got {[*shape]}")
        matrix = _as_matrix(weight)
        return _linear(op, x, _turned(matrix, (1, 0)), None)
    return of_two(op)


def _as_matrix(weight: Levels | Constant) -> Levels | Constant:
    extra = len(_shape(weight)) - 2
    if isinstance(weight, Constant):
        return dataclasses.replace(weight, array=weight.array.reshape(weight.shape[extra:]))
    if weight.axis is not None and weight.axis < extra:
        raise RefusedError("its weights must have one scale, or one per output")
    axis = None if weight.axis is None else weight.axis - extra
    return dataclasses.replace(weight, integers=weight.integers.reshape(weight.integers.shape[extra:]), axis=axis)
