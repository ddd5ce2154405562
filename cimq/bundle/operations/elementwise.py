"""Operations on single values: comparisons, functions, quantisation, scale and shift per channel."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F

from cimq import ops
from cimq.bundle.network import Node
from cimq.bundle.operations.registry import (
    UNIT_ROUNDOFF,
    Call,
    OnnxWriter,
    Operand,
    Operation,
    RefusedError,
    finite_constant,
    float32,
)
from cimq.quantization.conversion.fp32_layers import Affine
from cimq.quantization.exact.functions import activation


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


def _activation(call: Call) -> list[Node]:
    kind, alpha = (*call.rest, 1.0)[:2]
    return call.node(str(kind), {"alpha": float32(alpha)} if kind == "elu" else {})


def _leaky_relu(call: Call) -> list[Node]:
    return call.node("leaky_relu", {"slope": float32(call.rest[0])})


def _prelu(call: Call) -> list[Node]:
    weight = call.rest[0]
    if call.operands[1] is not None:
        raise RefusedError("the slopes of prelu must be a parameter or buffer")
    if not call.shape:
        raise RefusedError("prelu needs [B, C, ...]")
    return call.node("prelu", tensors={"weight": finite_constant(weight).reshape(-1)})


def _write_relu(writer: OnnxWriter, node: Node) -> None:
    writer.emit("Relu", [node.inputs[0]], node.name)


def _write_clamp(writer: OnnxWriter, node: Node) -> None:
    bounds = [
        "" if node.attrs[key] is None else writer.constant(f"{node.name}.{key}", np.float32(node.attrs[key]))
        for key in ("min", "max")
    ]
    writer.emit("Clip", [node.inputs[0], *bounds], node.name)


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


def _write_leaky_relu(writer: OnnxWriter, node: Node) -> None:
    writer.emit("LeakyRelu", [node.inputs[0]], node.name, alpha=node.attrs["slope"])


def _write_prelu(writer: OnnxWriter, node: Node) -> None:
    slopes = node.tensors["weight"].cpu().numpy().reshape(-1, *([1] * (len(node.shape) - 1)))
    writer.emit("PRelu", [node.inputs[0], writer.constant(f"{node.name}.weight", slopes)], node.name)


def _write_elu(writer: OnnxWriter, node: Node) -> None:
    writer.emit("Elu", [node.inputs[0]], node.name, alpha=node.attrs["alpha"])


def _write_tanh(writer: OnnxWriter, node: Node) -> None:
    writer.emit("Tanh", [node.inputs[0]], node.name)


def _write_gelu(writer: OnnxWriter, node: Node) -> None:
    writer.emit("Gelu", [node.inputs[0]], node.name, approximate="tanh" if node.op == "gelu_tanh" else "none")


def _write_erf(writer: OnnxWriter, node: Node) -> None:
    writer.emit("Erf", [node.inputs[0]], node.name)


def _write_sqrt(writer: OnnxWriter, node: Node) -> None:
    writer.emit("Sqrt", [node.inputs[0]], node.name)


def _write_fake_quantize(writer: OnnxWriter, node: Node) -> None:
    """With scale 1, as `onnx_model` writes the inputs of crossbar layers, so that no optimiser finds a pattern."""
    name = node.name
    scale = writer.constant(f"{name}.scale", node.tensors["scale"].cpu().numpy())
    one, zero = writer.constant(f"{name}.one", np.float32(1)), writer.constant(f"{name}.zero", np.array(0, np.int16))
    steps = writer.emit("Div", [node.inputs[0], scale], f"{name}.steps")
    quantized = writer.emit("QuantizeLinear", [steps, one, zero], f"{name}.q")
    integers = writer.emit("DequantizeLinear", [quantized, one, zero], f"{name}.float")
    bounds = [writer.constant(f"{name}.{key}", np.float32(node.attrs[key])) for key in ("low", "high")]
    levels = writer.emit("Clip", [integers, *bounds], f"{name}.levels")
    writer.emit("Mul", [levels, scale], name)


# Largest slope, and whether the error grows with the argument. onnxruntime approximates the sigmoid to a few 1e-7.
_ACTIVATIONS = {
    "sigmoid": (0.25, False),
    "silu": (1.1, True),
    "hardsigmoid": (0.17, False),
    "hardswish": (1.5, True),
    "tanh": (1.0, False),
    "gelu": (1.13, True),
    "gelu_tanh": (1.13, True),
}
_ACTIVATION_ERROR = 16 * UNIT_ROUNDOFF


def _activation_bound(node: Node, operands: Sequence[Operand]) -> float:
    slope, relative = _ACTIVATIONS[node.op]
    return slope * operands[0].error + _ACTIVATION_ERROR * (operands[0].size if relative else 1.0)


def _leaky_bound(node: Node, operands: Sequence[Operand]) -> float:
    slope = float(node.tensors["weight"].abs().max()) if "weight" in node.tensors else abs(float(node.attrs["slope"]))
    return max(1.0, slope) * operands[0].error + 2 * UNIT_ROUNDOFF * slope * operands[0].size


def _elu_bound(node: Node, operands: Sequence[Operand]) -> float:
    alpha = abs(float(node.attrs["alpha"]))
    return max(1.0, alpha) * operands[0].error + _ACTIVATION_ERROR * alpha


def _affine_bound(node: Node, operands: Sequence[Operand]) -> float:
    scale, shift = (float(node.tensors[role].abs().max()) for role in ("scale", "shift"))
    return scale * operands[0].error + 2 * UNIT_ROUNDOFF * (scale * operands[0].size + shift)


def _erf_bound(node: Node, operands: Sequence[Operand]) -> float:
    return 1.13 * operands[0].error + _ACTIVATION_ERROR


def _sqrt_bound(node: Node, operands: Sequence[Operand]) -> float:
    return float(np.sqrt(operands[0].error) + 2 * UNIT_ROUNDOFF * np.sqrt(operands[0].size + operands[0].error))


def _fake_quantize_bound(node: Node, operands: Sequence[Operand]) -> float:
    """Inputs that differ may fall into the next step."""
    error = operands[0].error
    return error + float(node.tensors["scale"]) if error > 0 else 0.0


ROWS: tuple[Operation, ...] = (
    Operation("relu", {F.relu: _relu}, _write_relu),
    Operation("clamp", {torch.clamp: _clamp}, _write_clamp),
    Operation("sigmoid", {ops.activation: _activation, activation: _activation}, _write_sigmoid, _activation_bound),
    Operation("silu", {}, _write_silu, _activation_bound),
    Operation("hardsigmoid", {}, _write_hardsigmoid, _activation_bound),
    Operation("hardswish", {}, _write_hardswish, _activation_bound),
    Operation("leaky_relu", {F.leaky_relu: _leaky_relu}, _write_leaky_relu, _leaky_bound),
    Operation("prelu", {torch.prelu: _prelu}, _write_prelu, _leaky_bound, takes_constants=True),
    Operation("elu", {}, _write_elu, _elu_bound),
    Operation("tanh", {}, _write_tanh, _activation_bound),
    Operation("gelu", {}, _write_gelu, _activation_bound),
    Operation("gelu_tanh", {}, _write_gelu, _activation_bound),
    Operation("erf", {}, _write_erf, _erf_bound),
    Operation("sqrt", {}, _write_sqrt, _sqrt_bound, rounds_once=True),
    Operation("fake_quantize", {}, _write_fake_quantize, _fake_quantize_bound, rounds_once=True),
    Operation("affine", {Affine: _affine}, _write_affine, _affine_bound, rounds_once=True),  # a product, then a sum
)
