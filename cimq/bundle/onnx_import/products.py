"""MatMul of two values of the run: on crossbars where both are quantised, else in float32."""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from cimq.bundle.network import CrossbarFacts
from cimq.bundle.onnx_import.building import Operation, without_batch
from cimq.bundle.onnx_import.forms import LARGEST, MAX_BITS, InputForm, input_form, stored_bits, symmetric_bits
from cimq.bundle.onnx_import.values import Grid, Value
from cimq.bundle.operations.registry import RefusedError


def of_two(op: Operation) -> Value:
    """A product of two values, or of a constant on the left and a value."""
    if isinstance(op.known(0), Value):
        values = op.value(0), op.value(1)
        why = _why_not(*values)
    else:
        b = op.plain(1)
        values = op.builder.constant(without_batch(op.floats(0), len(b.shape)), f"{op.hint}.left"), b
        why = "its constant is on the left"
    a, b = values
    if len(a.shape) != len(b.shape) or len(a.shape) < 2 or a.shape[-1] != b.shape[-2]:
        raise RefusedError(f"products of {[*a.shape]} and {[*b.shape]} per sample do not fit or would mix samples")
    try:
        outer = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    except ValueError:
        raise RefusedError(f"{[*a.shape]} and {[*b.shape]} do not fit") from None
    if not why:
        return _on_crossbars(op, a, b, outer)
    op.builder.in_float32[op.name] = why
    a, b = (_expanded(op, op.builder.computed(value), outer) for value in values)
    return op.emit("matmul", [a, b], (*outer, a.shape[-2], b.shape[-1]))


def _expanded(op: Operation, value: Value, outer: tuple[int, ...]) -> Value:
    if value.shape[:-2] == outer:
        return value
    return op.emit("expand", [value], (*outer, *value.shape[-2:]))


def _why_not(a: Value, b: Value) -> str:
    """Why a product of two values is one of float32; empty where crossbars make it."""
    if a.grid is None or b.grid is None:
        return "a product of two values that are not both quantised"
    try:
        input_form(a.grid)
    except RefusedError as error:
        return str(error)
    largest = _largest(b.grid)
    if largest > 2 * LARGEST:
        return f"its second input is quantised to integers of up to {largest}; at most {2 * LARGEST} can be held"
    return ""


def _largest(grid: Grid) -> int:
    return max(abs(grid.low), abs(grid.high))


@dataclasses.dataclass(frozen=True)
class _Matrices:
    """Both inputs of a product, [matrices, rows, columns]; the second is turned, its rows are the outputs."""

    x: Value
    form: InputForm
    x_scale: float
    w_scale: float

    def multiply(self, op: Operation, name: str, w: Value, bits: int) -> Value:
        """The product with a second input whose integers have `bits` bits."""
        multiplier = np.float32(self.x_scale * self.w_scale)
        if not np.isfinite(multiplier):
            raise RefusedError("the product of its scales is no finite float32")
        (repeats, rows, inputs), outputs = self.x.shape, w.shape[1]
        facts = CrossbarFacts(
            layer_name=name,
            layer_index=op.builder.layers,
            weight_bits=bits,
            act_bits=self.form.bits,
            act_signed=self.form.signed,
            outputs=outputs,
            inputs_per_output=inputs,
            invocations=rows,
            repeats=repeats,
            act_zero=self.form.zero,
        )
        tensors = {"x_scale": np.float32(self.x_scale), "w_scale": np.float32(self.w_scale), "multiplier": multiplier}
        hint = f"{op.hint}.crossbar_matmul"
        return op.builder.emit(
            "crossbar_matmul", [self.x, w], (repeats, rows, outputs), hint=hint, tensors=tensors, crossbar=facts
        )


def _on_crossbars(op: Operation, a: Value, b: Value, outer: tuple[int, ...]) -> Value:
    """The second input is what crossbars hold; a second product for what 8 bits leave of its integers."""
    assert a.grid is not None
    assert b.grid is not None
    form = input_form(a.grid)
    x = Value(a.name, a.shape) if form.exact else op.builder.computed(a)
    largest, stated = _largest(b.grid), stored_bits(b.grid.low, b.grid.high)
    bits = min(symmetric_bits(largest), MAX_BITS)
    high = 2 ** (bits - 1) - 1
    exact = (b.grid.low, b.grid.high) == (-high, high)
    w = Value(b.name, b.shape) if exact else op.builder.computed(b)
    x, w = (_matrices(op, _expanded(op, value, outer)) for value in (x, w))
    w = op.emit("transpose", [w], (w.shape[0], w.shape[2], w.shape[1]), {"perm": [0, 2, 1]})
    both = _Matrices(x, form, a.grid.scale, b.grid.scale)
    name = op.builder.layer_name(op.name)
    result = both.multiply(op, name, w, bits)
    if largest > LARGEST:
        rest_bits = symmetric_bits(largest - LARGEST)
        op.builder.widened[name] = (
            f"a second input of magnitude {largest} as two matrices of {bits} and {rest_bits} bits"
        )
        end = float(np.float32(LARGEST * b.grid.scale))
        inside = op.emit("clamp", [w], w.shape, {"min": -end, "max": end})
        rest = op.emit("sub", [w, inside], w.shape)
        more = both.multiply(op, op.builder.layer_name(f"{name}.rest"), rest, rest_bits)
        result = op.emit("add", [result, more], result.shape)
    elif bits > stated:
        op.builder.widened[name] = f"a second input of {stated} bits that reaches -2^{stated - 1} as {bits} bits"
    return op.reshape(result, (*outer, a.shape[-2], b.shape[-1]))


def _matrices(op: Operation, value: Value) -> Value:
    shape = (math.prod(value.shape[:-2]), *value.shape[-2:])
    return value if shape == value.shape else op.emit("reshape", [value], shape)
