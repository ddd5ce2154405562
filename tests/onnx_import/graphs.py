"""ONNX graphs written node by node, among them the QCDQ form that Brevitas documents: Quantize, Clip, Dequantize."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

Array = np.ndarray[Any, Any]


class Graph:
    """A model in the making. Every method that adds a node returns the name of its result."""

    def __init__(self, shape: Sequence[Any], opset: int = 17, name: str = "x") -> None:
        self.opset = opset
        self.nodes: list[Any] = []
        self.tensors: list[Any] = []
        self.inputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)]
        self.count = 0

    def tensor(self, value: Any, element: int | None = None) -> str:
        """An initializer; with `element` of a type that numpy has not."""
        name = f"t{len(self.tensors)}"
        if element is None:
            self.tensors.append(numpy_helper.from_array(np.asarray(value), name))
        else:
            array = np.asarray(value)
            self.tensors.append(helper.make_tensor(name, element, array.shape, array.reshape(-1).tolist()))
        return name

    def add(self, op: str, inputs: Sequence[str], *, outputs: int = 1, domain: str = "", **attributes: Any) -> str:
        self.count += 1
        names = [f"{op.lower()}{self.count}" + (f"_{i}" if i else "") for i in range(outputs)]
        self.nodes.append(helper.make_node(op, list(inputs), names, f"n_{names[0]}", domain=domain, **attributes))
        return names[0]

    def qcdq(
        self,
        x: str,
        scale: Any,
        bits: int = 8,
        *,
        signed: bool = True,
        narrow: bool = False,
        zero: int = 0,
        axis: int | None = None,
    ) -> str:
        """QuantizeLinear, Clip where the width is less than 8 bits (or narrow), DequantizeLinear."""
        kind = np.int8 if signed else np.uint8
        shape = np.shape(scale)
        s, z = self.tensor(np.asarray(scale, np.float32)), self.tensor(np.full(shape, zero, kind))
        attributes = {} if axis is None else {"axis": axis}
        q = self.add("QuantizeLinear", [x, s, z], **attributes)
        low = -(2 ** (bits - 1)) + int(narrow) if signed else 0
        high = 2 ** (bits - int(signed)) - 1 - int(narrow and not signed)
        if bits < 8 or narrow:
            q = self.add("Clip", [q, self.tensor(np.array(low, kind)), self.tensor(np.array(high, kind))])
        return self.add("DequantizeLinear", [q, s, z], **attributes)

    def weight(
        self,
        integers: Any,
        scale: Any,
        bits: int = 8,
        *,
        axis: int | None = None,
        element: int = TensorProto.INT8,
        zero: Any = None,
        clip: bool = True,
    ) -> str:
        """Integers, Clip where they are narrower than their type, DequantizeLinear."""
        integers = np.asarray(integers)
        wide = element == TensorProto.INT8
        q = self.tensor(integers.astype(np.int8)) if wide else self.tensor(integers, element)
        if wide and bits < 8 and clip:
            low, high = np.array(-(2 ** (bits - 1)), np.int8), np.array(2 ** (bits - 1) - 1, np.int8)
            q = self.add("Clip", [q, self.tensor(low), self.tensor(high)])
        inputs = [q, self.tensor(np.asarray(scale, np.float32))]
        if zero is not None:
            points = np.broadcast_to(np.asarray(zero), np.shape(scale))
            inputs.append(self.tensor(points, element))
        return self.add("DequantizeLinear", inputs, **({} if axis is None else {"axis": axis}))

    def model(self, output: str, *, ir_version: int = 8) -> onnx.ModelProto:
        return self.models([output], ir_version=ir_version)

    def models(self, outputs: Sequence[str], *, ir_version: int = 8) -> onnx.ModelProto:
        results = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs]
        graph = helper.make_graph(self.nodes, "g", self.inputs, results, self.tensors)
        domains = {node.domain for node in self.nodes if node.domain}
        opsets = [helper.make_opsetid("", self.opset)] + [helper.make_opsetid(domain, 1) for domain in domains]
        ir_version = max(ir_version, 10 if self.opset >= 21 else 8)
        model = helper.make_model(graph, opset_imports=opsets, ir_version=ir_version)
        inferred = onnx.shape_inference.infer_shapes(model)  # outputs need a shape
        for entry in inferred.graph.output:
            entry.type.tensor_type.shape.SetInParent()
        return inferred

    def save(self, output: str, path: Path) -> Path:
        onnx.save_model(self.model(output), path)
        return path


def integers(shape: Sequence[int], bits: int, seed: int = 0, *, lowest: bool = False) -> Array:
    """Weights of a width; `lowest` has -2^(bits-1) among them."""
    top = 2 ** (bits - 1) - 1
    drawn = np.random.default_rng(seed).integers(-top, top + 1, shape)
    if lowest:
        drawn.reshape(-1)[0] = -top - 1
    return drawn


def samples(*shape: int, seed: int = 1, scale: float = 1.0) -> Array:
    return (np.random.default_rng(seed).standard_normal(shape) * scale).astype(np.float32)
