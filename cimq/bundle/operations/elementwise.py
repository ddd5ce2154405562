"""Operations on single values: comparisons, sums and products, activation functions, scale and shift per channel."""

from __future__ import annotations

import operator
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from cimq import ops
from cimq.bundle.network import Node
from cimq.bundle.operations.registry import (
    UNIT_ROUNDOFF,
    Call,
    OnnxWriter,
    Operand,
    Operation,
    RefusedError,
    float32,
)
from cimq.quantization.converted import Affine


def _affine(call: Call) -> list[Node]:
    return call.node("affine", tensors={"scale": call.module.scale.float(), "shift": call.module.shift.float()})


def _relu(call: Call) -> list[Node]:
    return call.node("relu")


def _clamp(call: Call) -> list[Node]:
    low, high = (*call.rest, None, None)[:2]
    for bound in (low, high):
        if bound is not None and not isinstance(bound, (int, float)):
            raise RefusedError("clamp needs numbers as bounds")
    # float32 bounds, as PyTorch applies them to float32 values.
    return call.node("clamp", {"min": float32(low), "max": float32(high)})


def _add(call: Call) -> list[Node]:
    a, b = call.args
    if not isinstance(a, Tensor) or not isinstance(b, Tensor) or a.shape != b.shape:
        raise RefusedError("add needs two tensors of one shape")
    return call.node("add")


def _mul(call: Call) -> list[Node]:
    a, b = call.args
    if not isinstance(a, Tensor) or not isinstance(b, Tensor) or a.dim() != b.dim():
        raise RefusedError("mul needs two tensors with as many dimensions")
    return call.node("mul")


def _activation(call: Call) -> list[Node]:
    return call.node(str(call.rest[0]))


def _write_relu(writer: OnnxWriter, node: Node) -> None:
    writer.emit("Relu", [node.inputs[0]], node.name)


def _write_clamp(writer: OnnxWriter, node: Node) -> None:
    bounds = [
        "" if node.attrs[key] is None else writer.constant(f"{node.name}.{key}", np.float32(node.attrs[key]))
        for key in ("min", "max")
    ]
    writer.emit("Clip", [node.inputs[0], *bounds], node.name)


def _write_add(writer: OnnxWriter, node: Node) -> None:
    writer.emit("Add", [*node.inputs], node.name)


def _write_mul(writer: OnnxWriter, node: Node) -> None:
    writer.emit("Mul", [*node.inputs], node.name)


def _write_sigmoid(writer: OnnxWriter, node: Node) -> None:
    writer.emit("Sigmoid", [node.inputs[0]], node.name)


def _write_silu(writer: OnnxWriter, node: Node) -> None:
    gate = writer.emit("Sigmoid", [node.inputs[0]], f"{node.name}.gate")
    writer.emit("Mul", [node.inputs[0], gate], node.name)


def _write_hardsigmoid(writer: OnnxWriter, node: Node) -> None:
    writer.emit("HardSigmoid", [node.inputs[0]], node.name, alpha=1.0 / 6.0, beta=0.5)


def _write_hardswish(writer: OnnxWriter, node: Node) -> None:
    writer.emit("HardSwish", [node.inputs[0]], node.name)


def _write_affine(writer: OnnxWriter, node: Node) -> None:
    rank = len(node.shape)
    scale, shift = (
        writer.constant(f"{node.name}.{role}", node.tensors[role].cpu().numpy().reshape(-1, *([1] * (rank - 1))))
        for role in ("scale", "shift")
    )
    scaled = writer.emit("Mul", [node.inputs[0], scale], f"{node.name}.scaled")
    writer.emit("Add", [scaled, shift], node.name)


# Largest slope, and whether the error grows with the argument. onnxruntime approximates the sigmoid to a few 1e-7.
_ACTIVATIONS = {"sigmoid": (0.25, False), "silu": (1.1, True), "hardsigmoid": (0.17, False), "hardswish": (1.5, True)}
_ACTIVATION_ERROR = 16 * UNIT_ROUNDOFF


def _activation_bound(node: Node, operands: Sequence[Operand]) -> float:
    slope, relative = _ACTIVATIONS[node.op]
    return slope * operands[0].error + _ACTIVATION_ERROR * (operands[0].size if relative else 1.0)


def _affine_bound(node: Node, operands: Sequence[Operand]) -> float:
    scale, shift = (float(node.tensors[role].abs().max()) for role in ("scale", "shift"))
    return scale * operands[0].error + 2 * UNIT_ROUNDOFF * (scale * operands[0].size + shift)


def _add_bound(node: Node, operands: Sequence[Operand]) -> float:
    return sum(operand.error + 2 * UNIT_ROUNDOFF * operand.size for operand in operands)


def _mul_bound(node: Node, operands: Sequence[Operand]) -> float:
    a, b = operands
    return a.size * b.error + b.size * a.error + a.error * b.error + 2 * UNIT_ROUNDOFF * a.size * b.size


ROWS: tuple[Operation, ...] = (
    Operation("relu", {F.relu: _relu}, _write_relu),
    Operation("clamp", {torch.clamp: _clamp}, _write_clamp),
    Operation("add", {operator.add: _add}, _write_add, _add_bound),
    Operation("mul", {operator.mul: _mul}, _write_mul, _mul_bound),
    Operation("sigmoid", {ops.activation: _activation}, _write_sigmoid, _activation_bound),
    Operation("silu", {}, _write_silu, _activation_bound),
    Operation("hardsigmoid", {}, _write_hardsigmoid, _activation_bound),
    Operation("hardswish", {}, _write_hardswish, _activation_bound),
    Operation("affine", {Affine: _affine}, _write_affine, _affine_bound),
)
