"""Operations of two values, one of which may be a parameter, a buffer or a number: those become `constant` nodes."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cimq.bundle.network import Node
from cimq.bundle.operations.registry import (
    UNIT_ROUNDOFF,
    Call,
    OnnxWriter,
    Operand,
    Operation,
    RefusedError,
    finite_constant,
    passes_on,
)


def _binary(op: str) -> Callable[[Call], list[Node]]:
    def handler(call: Call) -> list[Node]:
        ranks = {len(shape) for shape in call.shapes}
        if len(call.args) != 2 or ranks != {len(call.shape)}:
            raise RefusedError(f"{op} needs two operands with as many dimensions")
        nodes: list[Node] = []
        names: list[str] = []
        for place, (name, value) in enumerate(zip(call.operands, call.args, strict=True)):
            if name is None:
                nodes.append(_constant(op, f"{call.name}.{place}", value, len(call.shape)))
                name = nodes[-1].name
            names.append(name)
        return [*nodes, Node(call.name, op, tuple(names), call.shape)]

    return handler


def _constant(op: str, name: str, value: Any, rank: int) -> Node:
    """A node without inputs; in `rank` dimensions, like the value it meets."""
    tensor = finite_constant(value if isinstance(value, Tensor) else torch.tensor(float(value)))
    if tensor.dim() > rank:
        if tensor.dim() > rank + 1 or tensor.shape[0] != 1:
            raise RefusedError(f"a constant of {op} must have one value for the whole batch, got {[*value.shape]}")
        tensor = tensor[0]
    tensor = tensor.reshape((1,) * (rank - tensor.dim()) + tuple(tensor.shape))
    if 0 in tensor.shape:
        raise RefusedError(f"a constant of {op} must have values, got shape {[*tensor.shape]}")
    return Node(name, "constant", (), tuple(tensor.shape), {}, {"value": tensor})


def _write_constant(writer: OnnxWriter, node: Node) -> None:
    value = node.tensors["value"].cpu().numpy()
    writer.emit("Identity", [writer.constant(f"{node.name}.value", value[np.newaxis])], node.name)


def _writer_of(name: str) -> Callable[[OnnxWriter, Node], None]:
    def write(writer: OnnxWriter, node: Node) -> None:
        writer.emit(name, [*node.inputs], node.name)

    return write


def _constant_bound(node: Node, operands: Sequence[Operand]) -> float:
    return 0.0


def _sum_bound(node: Node, operands: Sequence[Operand]) -> float:
    return sum(operand.error + 2 * UNIT_ROUNDOFF * operand.size for operand in operands)


def _mul_bound(node: Node, operands: Sequence[Operand]) -> float:
    a, b = operands
    return a.size * b.error + b.size * a.error + a.error * b.error + 2 * UNIT_ROUNDOFF * a.size * b.size


def _div_bound(node: Node, operands: Sequence[Operand]) -> float:
    a, b = operands
    smallest = float(np.abs(b.values).min(initial=np.inf)) - b.error
    if smallest <= 0.0:  # a divisor that may be zero
        return float("inf")
    quotient = a.size / smallest
    return (a.error + quotient * b.error) / smallest + 2 * UNIT_ROUNDOFF * quotient


def _write_matmul(writer: OnnxWriter, node: Node) -> None:
    writer.emit("MatMul", [*node.inputs], node.name)


def _matmul_bound(node: Node, operands: Sequence[Operand]) -> float:
    a, b = operands
    inner = a.values.shape[-1]
    passed_on = a.size * b.error + b.size * a.error + a.error * b.error
    return float(inner * (passed_on + UNIT_ROUNDOFF * (inner + 8) * a.size * b.size))


def _row(op: str, target: Any, name: str, bound: Callable[[Node, Sequence[Operand]], float]) -> Operation:
    return Operation(op, {target: _binary(op)}, _writer_of(name), bound, takes_constants=True, rounds_once=True)


ROWS: tuple[Operation, ...] = (
    Operation("constant", {}, _write_constant, _constant_bound, rounds_once=True),
    _row("add", operator.add, "Add", _sum_bound),
    _row("sub", operator.sub, "Sub", _sum_bound),
    _row("mul", operator.mul, "Mul", _mul_bound),
    _row("div", operator.truediv, "Div", _div_bound),
    _row("minimum", torch.minimum, "Min", passes_on),
    _row("maximum", torch.maximum, "Max", passes_on),
    Operation("matmul", {}, _write_matmul, _matmul_bound),
)
