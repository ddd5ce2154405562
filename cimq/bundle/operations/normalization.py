"""Softmax, layer and group normalisation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
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
)
from cimq.quantization.exact.functions import group_norm, layer_norm, softmax


def _softmax(call: Call) -> list[Node]:
    dim, logarithm = (*call.rest, False)[:2]
    rank = len(call.shape) + 1
    dim = int(dim) % rank
    if dim == 0:
        raise RefusedError("softmax must not be along the batch")
    return call.node("log_softmax" if logarithm else "softmax", {"dim": dim - 1})


def _layer_norm(call: Call) -> list[Node]:
    shape, weight, bias, eps = call.rest
    if len(shape) > len(call.shape):
        raise RefusedError("layer_norm must leave the batch alone")
    return call.node(
        "layer_norm", {"dims": len(shape), "eps": float(eps)}, tensors=_parameters(call, weight=weight, bias=bias)
    )


def _group_norm(call: Call) -> list[Node]:
    groups, weight, bias, eps = call.rest
    return call.node(
        "group_norm", {"groups": int(groups), "eps": float(eps)}, tensors=_parameters(call, weight=weight, bias=bias)
    )


def _parameters(call: Call, **given: Any) -> dict[str, Tensor]:
    if len(call.inputs) != 1:
        raise RefusedError("weight and bias of a normalisation must be parameters or buffers")
    return {role: finite_constant(value) for role, value in given.items() if value is not None}


def _write_softmax(writer: OnnxWriter, node: Node) -> None:
    name = "LogSoftmax" if node.op == "log_softmax" else "Softmax"
    writer.emit(name, [node.inputs[0]], node.name, axis=node.attrs["dim"] + 1)


def _write_layer_norm(writer: OnnxWriter, node: Node) -> None:
    normalised = node.shape[len(node.shape) - node.attrs["dims"] :]
    inputs = _written_parameters(writer, node, normalised)
    writer.emit(
        "LayerNormalization", [node.inputs[0], *inputs], node.name, axis=-len(normalised), epsilon=node.attrs["eps"]
    )


def _write_group_norm(writer: OnnxWriter, node: Node) -> None:
    inputs = _written_parameters(writer, node, node.shape[:1])
    writer.emit(
        "GroupNormalization",
        [node.inputs[0], *inputs],
        node.name,
        num_groups=node.attrs["groups"],
        epsilon=node.attrs["eps"],
    )


def _written_parameters(writer: OnnxWriter, node: Node, shape: tuple[int, ...]) -> list[str]:
    """Scale and shift, which ONNX wants in any case."""
    values: dict[str, npt.NDArray[Any]] = {"weight": np.ones(shape, np.float32), "bias": np.zeros(shape, np.float32)}
    values |= {role: value.cpu().numpy() for role, value in node.tensors.items()}
    return [writer.constant(f"{node.name}.{role}", value) for role, value in values.items()]


def _softmax_bound(node: Node, operands: Sequence[Operand]) -> float:
    """exp(x - m) is off by the factor exp(2 * error) at most, the sum by rounding."""
    (x,) = operands
    count: int = node.shape[node.attrs["dim"]]
    relative: float = float(np.expm1(min(4 * x.error, 50.0))) + UNIT_ROUNDOFF * (count + 32 + 4 * x.size)
    if node.op == "softmax":
        return min(1.0, relative)
    return relative + 4 * UNIT_ROUNDOFF * (2 * x.size + float(np.log(count)))


def _norm_bound(node: Node, operands: Sequence[Operand]) -> float:
    """From the smallest standard deviation that occurs: errors of the input grow by its inverse."""
    (x,) = operands
    values = x.values.astype(np.float64)
    if node.op == "layer_norm":
        rows = values.reshape(-1, int(np.prod(node.shape[len(node.shape) - node.attrs["dims"] :])))
    else:
        rows = values.reshape(len(values) * node.attrs["groups"], -1)
    if rows.size == 0:
        return 0.0
    inverse = float((1.0 / np.sqrt(rows.var(1) + node.attrs["eps"] + 1e-300)).max())
    largest = float(np.abs(rows - rows.mean(1, keepdims=True)).max()) * inverse
    count = rows.shape[1]
    scale, shift = (
        float(node.tensors[role].abs().max()) if role in node.tensors else default
        for role, default in (("weight", 1.0), ("bias", 0.0))
    )
    error = x.error + UNIT_ROUNDOFF * (count + 8) * x.size
    # A runtime may take the variance as the mean of the squares less the square of the mean.
    of_deviation = 2 * error * inverse * largest + UNIT_ROUNDOFF * (count + 8) * (x.size * inverse) ** 2
    return scale * (2 * error * inverse + largest * of_deviation) + 8 * UNIT_ROUNDOFF * (scale * largest + shift)


ROWS: tuple[Operation, ...] = (
    Operation("softmax", {softmax: _softmax}, _write_softmax, _softmax_bound),
    Operation("log_softmax", {}, _write_softmax, _softmax_bound),
    Operation("layer_norm", {layer_norm: _layer_norm}, _write_layer_norm, _norm_bound, takes_constants=True),
    Operation("group_norm", {group_norm: _group_norm}, _write_group_norm, _norm_bound, takes_constants=True),
)
