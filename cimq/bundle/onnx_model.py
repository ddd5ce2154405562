"""model.onnx: the network as quantise / dequantise pairs, for any ONNX runtime. Independent of cimq's executor.

A crossbar layer becomes QuantizeLinear -> Clip -> DequantizeLinear on its input (Clip where the width is less than
8 bits: ONNX has no 3-, 5-, 6- or 7-bit types) and DequantizeLinear, per output channel, on its int8 weight. Batch
normalisation is folded: the weight's scale is |multiplier| / x_scale and its sign goes into the integers, whose range
is symmetric. A converter or cell variation has no form in ONNX: the model is the digital network.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from cimq.bundle.network import Network, Node
from cimq.bundle.operations import OPERATIONS

OPSET = 21
IR_VERSION = 10
FORCED = ".forced"
Array = npt.NDArray[Any]


def weight_and_scale(node: Node) -> tuple[Array, Array]:
    """int8 weights and float32 scale [O] whose product is weight * multiplier / x_scale."""
    weight = node.tensors["weight"].cpu().numpy()
    multiplier = node.tensors["multiplier"].double().cpu().numpy()
    scale = multiplier / float(node.tensors["x_scale"])
    sign = np.where(scale < 0, -1, 1).astype(np.int8).reshape(-1, *([1] * (weight.ndim - 1)))
    # A scale of zero (a pruned channel) is no valid ONNX scale: zero weights say the same.
    keep = (scale != 0).astype(np.int8).reshape(sign.shape)
    return weight * sign * keep, np.where(scale == 0, 1.0, np.abs(scale)).astype(np.float32)


def build(network: Network, *, metadata: dict[str, str] | None = None, forced: bool = False) -> onnx.ModelProto:
    """The ONNX model.

    Args:
        network: What to write.
        metadata: Further metadata_props.
        forced: For checks: every crossbar layer reads an input of its own, NODE.forced, instead of what the node before
            it computed, and every node's result is an output.
    """
    writer = _Writer(network, forced)
    for node in network.nodes:
        writer.add(node)
    results = [*network.nodes] if forced else [node for node in network.nodes if node.name == network.output]
    inputs = [_value(network.input_name, network.input_shape)]
    shapes = {network.input_name: network.input_shape} | {node.name: node.shape for node in network.nodes}
    if forced:
        inputs += [_value(node.name + FORCED, shapes[node.inputs[0]]) for node in network.crossbar_nodes()]
    graph = helper.make_graph(
        writer.nodes, "cimq", inputs, [_value(node.name, node.shape) for node in results], writer.initializers
    )
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION, producer_name="cimq"
    )
    facts = {
        f"cimq.{node.crossbar.layer_name}": f"w{node.crossbar.weight_bits}a{node.crossbar.act_bits}"
        for node in network.crossbar_nodes()
        if node.crossbar is not None
    }
    helper.set_model_props(model, facts | (metadata or {}))
    onnx.checker.check_model(model, full_check=True)
    return model


def _value(name: str, shape: tuple[int, ...]) -> Any:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", *shape])


class _Writer:
    def __init__(self, network: Network, forced: bool) -> None:
        self.nodes: list[Any] = []
        self.initializers: list[Any] = []
        self.forced = forced
        self.shapes = {network.input_name: network.input_shape} | {node.name: node.shape for node in network.nodes}

    def add(self, node: Node) -> None:
        """The ONNX nodes of one node."""
        write = OPERATIONS[node.op].write
        if write is None:  # a layer with weights
            getattr(self, f"_{node.op}")(node)
        else:
            write(self, node)

    def emit(self, op: str, inputs: list[str], output: str, **attributes: Any) -> str:
        """As `OnnxWriter.emit`."""
        self.nodes.append(helper.make_node(op, inputs, [output], name=output, **attributes))
        return output

    def constant(self, name: str, value: Array) -> str:
        """As `OnnxWriter.constant`."""
        self.initializers.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    _emit, _constant = emit, constant

    # ---- crossbar layers ----

    def _quantized_input(self, node: Node) -> str:
        facts, name = node.crossbar, node.name
        assert facts is not None
        source = name + FORCED if self.forced else node.inputs[0]
        kind = np.int8 if facts.act_signed else np.uint8
        scale = self._constant(f"{name}.x_scale", node.tensors["x_scale"].cpu().numpy().astype(np.float32))
        zero = self._constant(f"{name}.x_zero", np.array(-facts.act_zero, kind))
        value = self._emit("QuantizeLinear", [source, scale, zero], f"{name}.x_q")
        if facts.act_bits < 8:
            low = -(2 ** (facts.act_bits - 1)) if facts.act_signed else 0
            high = 2 ** (facts.act_bits - int(facts.act_signed)) - 1
            bounds = [
                self._constant(f"{name}.x_low", np.array(low, kind)),
                self._constant(f"{name}.x_high", np.array(high, kind)),
            ]
            value = self._emit("Clip", [value, *bounds], f"{name}.x_clipped")
        return self._emit("DequantizeLinear", [value, scale, zero], f"{name}.x_hat")

    def _quantized_weight(self, node: Node) -> str:
        weight, scale = weight_and_scale(node)
        inputs = [
            self._constant(f"{node.name}.weight", weight),
            self._constant(f"{node.name}.weight_scale", scale),
            self._constant(f"{node.name}.weight_zero", np.zeros(len(scale), np.int8)),
        ]
        return self._emit("DequantizeLinear", inputs, f"{node.name}.weight_hat", axis=0)

    def _crossbar_conv2d(self, node: Node) -> None:
        self._conv(node, self._quantized_input(node), self._quantized_weight(node))

    def _crossbar_linear(self, node: Node) -> None:
        self._linear(node, self._quantized_input(node), self._quantized_weight(node))

    # ---- float layers ----

    def _conv2d_f32(self, node: Node) -> None:
        self._conv(node, node.inputs[0], self._constant(f"{node.name}.weight", node.tensors["weight"].cpu().numpy()))

    def _linear_f32(self, node: Node) -> None:
        self._linear(node, node.inputs[0], self._constant(f"{node.name}.weight", node.tensors["weight"].cpu().numpy()))

    def _bias(self, node: Node) -> list[str]:
        if "bias" not in node.tensors:
            return []
        return [self._constant(f"{node.name}.bias", node.tensors["bias"].cpu().numpy())]

    def _conv(self, node: Node, x: str, weight: str) -> None:
        attrs = node.attrs
        left, right, top, bottom = attrs["padding"]
        self._emit(
            "Conv",
            [x, weight, *self._bias(node)],
            node.name,
            kernel_shape=attrs["kernel"],
            strides=attrs["stride"],
            dilations=attrs["dilation"],
            group=attrs["groups"],
            pads=[top, left, bottom, right],
        )

    def _linear(self, node: Node, x: str, weight: str) -> None:
        transposed = self._emit("Transpose", [weight], f"{node.name}.weight_t", perm=[1, 0])
        bias = self._bias(node)
        product = self._emit("MatMul", [x, transposed], f"{node.name}.product" if bias else node.name)
        if bias:
            self._emit("Add", [product, *bias], node.name)
