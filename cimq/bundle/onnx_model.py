"""model.onnx: the network as quantise / dequantise pairs, for any ONNX runtime. Independent of cimq's executor.

A crossbar layer is written with the integers that the crossbars work on, as float32 numbers, and then re-scaled:

    x / x_scale -> QuantizeLinear -> DequantizeLinear -> Clip      integers of the input, q + z
    DequantizeLinear(weight)                                       integers of the weight, as in weights.safetensors
    Conv or MatMul -> Mul(multiplier) -> Add(bias)                 y = float32(Y) * multiplier[o] + bias[o]

The second operand of a product of two values is quantised like an input, to the integers of a weight.

All QuantizeLinear and DequantizeLinear have scale 1. A float32 sum of integers is exact, in every order, while it stays
below 2^24, so that a runtime gives the values of the executor, bit for bit, whatever it does for speed. With the usual
scales in their place it does not: products are rounded, and an optimiser that meets Dequantize -> Conv (or Gemm,
MatMul) may round the float bias to the grid x_scale * w_scale (onnxruntime), or take int8 instructions that saturate on
some processors. The Clip between the dequantised input and the product is there at 8 bits, too: no such pattern
matches. Weights of at most 4 bits are INT4 (other widths have no type in this opset).

Batch normalisation is folded into multiplier and bias. A converter or cell variation has no form in ONNX: the model is
the digital network.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from cimq.bundle.network import Network, Node
from cimq.bundle.operations import OPERATIONS
from cimq.mapping import weight_range

OPSET = 21
IR_VERSION = 10
INT4_BITS = 4  # widths up to this one are stored as INT4
FORCED = ".forced"
FORCED_OPERAND = ".forced_operand"
Array = npt.NDArray[Any]


def build(network: Network, *, metadata: dict[str, str] | None = None, forced: bool = False) -> onnx.ModelProto:
    """The ONNX model.

    Args:
        network: What to write.
        metadata: Further metadata_props.
        forced: For checks: every crossbar layer reads an input of its own, NODE.forced, instead of what the node before
            it computed (a product of two values also NODE.forced_operand), and every node's result is an output.
    """
    writer = _Writer(network, forced)
    for node in network.nodes:
        writer.add(node)
    results = [*network.nodes] if forced else [node for node in network.nodes if node.name == network.output]
    inputs = [_value(network.input_name, network.input_shape)]
    shapes = {network.input_name: network.input_shape} | {node.name: node.shape for node in network.nodes}
    if forced:
        for node in network.crossbar_nodes():
            names = [node.name + FORCED, node.name + FORCED_OPERAND]
            inputs += [_value(name, shapes[source]) for name, source in zip(names, node.inputs, strict=False)]
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


def _packed_int4(values: Array) -> bytes:
    """Two values per byte, the first in the lower half."""
    nibbles = values.astype(np.uint8).ravel() & 0xF
    if nibbles.size % 2:
        nibbles = np.append(nibbles, np.uint8(0))
    return bytes((nibbles[0::2] | nibbles[1::2] << 4).tobytes())


class _Writer:
    def __init__(self, network: Network, forced: bool) -> None:
        self.nodes: list[Any] = []
        self.initializers: list[Any] = []
        self.forced = forced
        self.shapes = {network.input_name: network.input_shape} | {node.name: node.shape for node in network.nodes}
        self.constants: set[str] = set()
        for node in network.nodes:
            if self.constants.issuperset(node.inputs):
                self.constants.add(node.name)

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
        """The integers q + z of a layer's input, as float32."""
        facts, name = node.crossbar, node.name
        assert facts is not None
        source = name + FORCED if self.forced else node.inputs[0]
        kind = np.int8 if facts.act_signed else np.uint8
        scale = self._constant(f"{name}.x_scale", node.tensors["x_scale"].cpu().numpy().astype(np.float32))
        one = self._constant(f"{name}.one", np.float32(1))
        zero = self._constant(f"{name}.x_zero", np.array(-facts.act_zero, kind))
        steps = self._emit("Div", [source, scale], f"{name}.x_steps")
        quantized = self._emit("QuantizeLinear", [steps, one, zero], f"{name}.x_q")
        integers = self._emit("DequantizeLinear", [quantized, one, zero], f"{name}.x_float")
        low = -(2 ** (facts.act_bits - 1)) if facts.act_signed else 0
        high = 2 ** (facts.act_bits - int(facts.act_signed)) - 1
        bounds = [
            self._constant(f"{name}.x_low", np.float32(low + facts.act_zero)),
            self._constant(f"{name}.x_high", np.float32(high + facts.act_zero)),
        ]
        return self._emit("Clip", [integers, *bounds], f"{name}.x_hat")

    def _quantized_weight(self, node: Node, weight: Array) -> str:
        """The integers of a layer's weight, as float32."""
        assert node.crossbar is not None
        name = f"{node.name}.weight"
        if node.crossbar.weight_bits <= INT4_BITS:
            self.initializers.append(
                helper.make_tensor(name, TensorProto.INT4, weight.shape, _packed_int4(weight), raw=True)
            )
        else:
            self._constant(name, weight)
        return self._emit("DequantizeLinear", [name, f"{node.name}.one"], f"{node.name}.weight_hat")

    def _crossbar_conv2d(self, node: Node) -> None:
        x = self._quantized_input(node)
        weight = self._quantized_weight(node, node.tensors["weight"].cpu().numpy())
        self._conv(node, [x, weight], f"{node.name}.Y")
        self._requantize(node, f"{node.name}.Y", (-1, 1, 1))

    def _crossbar_linear(self, node: Node) -> None:
        x = self._quantized_input(node)
        weight = self._quantized_weight(node, np.ascontiguousarray(node.tensors["weight"].cpu().numpy().T))
        product = self._emit("MatMul", [x, weight], f"{node.name}.Y")
        if node.shape[-1] == 1:
            # onnxruntime takes a single multiplier into its MatMul, which then scales parts of the sum. Integers stay
            # as they are, and apart.
            product = self._emit("Round", [product], f"{node.name}.Y_integer")
        self._requantize(node, product, (-1,))

    def _crossbar_matmul(self, node: Node) -> None:
        x = self._quantized_input(node)
        operand = self._quantized_operand(node)
        turned = self._emit("Transpose", [operand], f"{node.name}.w_t", perm=[0, 1, 3, 2])
        product = self._emit("MatMul", [x, turned], f"{node.name}.Y")
        integer = self._emit("Round", [product], f"{node.name}.Y_integer")  # as where a linear layer has one output
        multiplier = self._constant(f"{node.name}.multiplier", node.tensors["multiplier"].cpu().numpy())
        self._emit("Mul", [integer, multiplier], node.name)

    def _quantized_operand(self, node: Node) -> str:
        """The integers of the second input, as float32."""
        assert node.crossbar is not None
        name, bits = node.name, node.crossbar.weight_bits
        source = name + FORCED_OPERAND if self.forced else node.inputs[1]
        low, high = (np.float32(end) for end in weight_range(bits))
        bounds = [self._constant(f"{name}.w_low", low), self._constant(f"{name}.w_high", high)]
        if bits == 1:  # the sign
            positive = self._emit(
                "GreaterOrEqual", [source, self._constant(f"{name}.w_middle", np.float32(0))], f"{name}.w_sign"
            )
            return self._emit("Where", [positive, bounds[1], bounds[0]], f"{name}.w_hat")
        scale = self._constant(f"{name}.w_scale", node.tensors["w_scale"].cpu().numpy())
        zero = self._constant(f"{name}.w_zero", np.array(0, np.int8))
        one = f"{name}.one"
        steps = self._emit("Div", [source, scale], f"{name}.w_steps")
        quantized = self._emit("QuantizeLinear", [steps, one, zero], f"{name}.w_q")
        integers = self._emit("DequantizeLinear", [quantized, one, zero], f"{name}.w_float")
        return self._emit("Clip", [integers, *bounds], f"{name}.w_hat")

    def _requantize(self, node: Node, product: str, shape: tuple[int, ...]) -> None:
        """float32(Y) * multiplier[o] + bias[o]; not as bias of the product: see the head of this file."""
        multiplier, bias = (
            self._constant(f"{node.name}.{role}", node.tensors[role].cpu().numpy().astype(np.float32).reshape(shape))
            for role in ("multiplier", "bias")
        )
        scaled = self._emit("Mul", [product, multiplier], f"{node.name}.scaled")
        self._emit("Add", [scaled, bias], node.name)

    # ---- float layers ----

    def _conv2d_f32(self, node: Node) -> None:
        weight = self._constant(f"{node.name}.weight", node.tensors["weight"].cpu().numpy())
        self._conv(node, [node.inputs[0], weight, *self._bias(node)], node.name)

    def _linear_f32(self, node: Node) -> None:
        weight = self._constant(f"{node.name}.weight", node.tensors["weight"].cpu().numpy())
        transposed = self._emit("Transpose", [weight], f"{node.name}.weight_t", perm=[1, 0])
        bias = self._bias(node)
        product = self._emit("MatMul", [node.inputs[0], transposed], f"{node.name}.product" if bias else node.name)
        if bias:
            self._emit("Add", [product, *bias], node.name)

    def _bias(self, node: Node) -> list[str]:
        if "bias" not in node.tensors:
            return []
        return [self._constant(f"{node.name}.bias", node.tensors["bias"].cpu().numpy())]

    def _conv(self, node: Node, inputs: list[str], output: str) -> None:
        attrs = node.attrs
        left, right, top, bottom = attrs["padding"]
        self._emit(
            "Conv",
            inputs,
            output,
            kernel_shape=attrs["kernel"],
            strides=attrs["stride"],
            dilations=attrs["dilation"],
            group=attrs["groups"],
            pads=[top, left, bottom, right],
        )
