"""A file in onnxruntime, operator by operator, beside the same file on crossbars."""

from __future__ import annotations

import dataclasses
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch

import cimq
from cimq.bundle.contents import write_network
from cimq.bundle.folder import write_manifest
from cimq.bundle.network import Network, Node
from cimq.bundle.onnx_import import read_onnx
from cimq.bundle.operations.registry import UNIT_ROUNDOFF
from cimq.errors import CimqWarning

Array = np.ndarray[Any, Any]


def session(model: onnx.ModelProto) -> onnxruntime.InferenceSession:
    """Without optimisations: every node is computed as the file has it."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def run(path: Path, x: Array) -> Array:
    """The output in onnxruntime."""
    opened = session(onnx.load(path))
    return np.asarray(opened.run(None, {opened.get_inputs()[0].name: x})[0])


def every_tensor(path: Path, x: Array) -> dict[str, Array]:
    """All float values that onnxruntime computes, by name."""
    model = onnx.load(path)
    inferred = onnx.shape_inference.infer_shapes(model)
    kinds = {info.name: info.type.tensor_type.elem_type for info in inferred.graph.value_info}
    outputs = {entry.name for entry in model.graph.output}
    for node in model.graph.node:
        for name in node.output:
            # Behind operators of other domains types are not inferred; integers come from QuantizeLinear alone.
            plain = (
                kinds.get(name, onnx.TensorProto.FLOAT) == onnx.TensorProto.FLOAT and node.op_type != "QuantizeLinear"
            )
            if name and name not in outputs and plain:
                model.graph.output.append(onnx.ValueInfoProto(name=name))
    opened = session(model)
    names = [entry.name for entry in opened.get_outputs()]
    feed = opened.get_inputs()[0].name
    values = dict(zip(names, opened.run(names, {feed: x}), strict=True))
    initializers = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    return initializers | values | {feed: x}


@dataclasses.dataclass
class LayerCheck:
    """One crossbar layer on the input that onnxruntime computed for it.

    Attributes:
        name: Of the layer.
        integers: How many results were compared, all equal.
        deviation: Largest difference of the re-scaled result, as a share of its rounding bound.
    """

    name: str
    integers: int
    deviation: float


def load(network: Network, folder: Path, hardware: cimq.Hardware | str = "paper") -> cimq.bundle.Bundle:
    """The network as a bundle."""
    folder.mkdir(parents=True)
    write_network(folder, network, cimq.hardware.resolve(hardware))
    write_manifest(folder, [file.name for file in folder.iterdir()], {})
    return cimq.load_bundle(folder, threads=1)


def check_layers(path: Path, x: Array, folder: Path) -> list[LayerCheck]:
    """Every crossbar layer: integers exactly those of the file's numbers, the result within rounding.

    The integers come from onnxruntime's own tensors, de-quantised: input and weight divided by their scales must be
    whole numbers, and their product, in exact arithmetic, is the layer's.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CimqWarning)
        network = read_onnx(path)
    tensors = every_tensor(path, x)
    graph = onnx.load(path).graph
    sources = {node.name or node.output[0]: node for node in graph.node}
    checks = []
    for number, (name, nodes) in enumerate(_layers(network).items()):
        source = sources[name]
        feed, chains = _chains(network, nodes, tensors)
        parts = []
        for chain in chains:
            part = Network(feed, _shape(network, feed), chain[-1].name, tuple(chain))
            bundle = load(part, folder / f"{number}.{len(parts)}.cimq")
            output, layers = bundle.run_layers(tensors[feed])
            parts.append((chain[-1], np.asarray(output), *layers.values()))
        checks.append(_check_layer(name, source, parts, tensors))
    return checks


def _layers(network: Network) -> dict[str, list[Node]]:
    """Name of the file's node -> its crossbar nodes, two where its weights need two matrices."""
    found: dict[str, list[Node]] = {}
    for node in network.crossbar_nodes():
        assert node.crossbar is not None
        if node.op == "crossbar_matmul":  # of two values; test_products.py
            continue
        found.setdefault(node.crossbar.layer_name.removesuffix(".rest"), []).append(node)
    return found


def _shape(network: Network, name: str) -> tuple[int, ...]:
    if name == network.input_name:
        return network.input_shape
    return next(node.shape for node in network.nodes if node.name == name)


def _chains(network: Network, nodes: list[Node], tensors: dict[str, Array]) -> tuple[str, list[list[Node]]]:
    """From a value that onnxruntime has, to each of the nodes."""
    by_name = {node.name: node for node in network.nodes}
    chains, feeds = [], set()
    for node in nodes:
        chain = [node]
        while chain[0].inputs[0] not in tensors:
            chain.insert(0, by_name[chain[0].inputs[0]])
            assert len(chain[0].inputs) == 1
        feeds.add(chain[0].inputs[0])
        chains.append(chain)
    assert len(feeds) == 1
    return feeds.pop(), chains


def _whole(array: Array, scale: Array) -> torch.Tensor:
    steps = array.astype(np.float64) / scale.astype(np.float64)
    assert np.abs(steps - np.rint(steps)).max(initial=0.0) < 1e-3, "no whole numbers of steps"
    return torch.from_numpy(np.rint(steps))


def _check_layer(name: str, source: Any, parts: list[Any], tensors: dict[str, Array]) -> LayerCheck:
    first = parts[0][0]
    x_scale = first.tensors["x_scale"].numpy()
    factor = next((entry.f for entry in source.attribute if entry.name == "alpha"), 1.0)
    scales = first.tensors["multiplier"].numpy().astype(np.float64) / x_scale / factor
    x, w = tensors[source.input[0]], tensors[source.input[1]]
    x_int = _whole(x, np.asarray(x_scale))
    if source.op_type == "Conv":
        w_int = _whole(w, scales.reshape(-1, *([1] * (w.ndim - 1))))
        exact = _convolution(source, x_int, w_int)
    else:
        turned = source.op_type == "Gemm" and any(e.name == "transB" and e.i for e in source.attribute)
        w_int = _whole(w, scales.reshape(-1, 1) if turned else scales)
        exact = x_int @ (w_int.T if turned else w_int)
    found = torch.zeros_like(exact)
    result = np.zeros(exact.shape)
    for node, output, integers in parts:
        assert integers.dtype == np.int32
        zero = node.crossbar.act_zero * node.tensors["weight"].double().flatten(1).sum(1)
        conv = node.op == "crossbar_conv2d"
        found += (torch.from_numpy(integers).double() + (zero.reshape(-1, 1, 1) if conv else zero)).reshape(exact.shape)
        result += output.reshape(exact.shape)
    assert torch.equal(found, exact), f"{name}: integers differ"
    if source.op_type == "Conv":
        sizes = _convolution(source, x_int.abs(), w_int.abs())
    else:
        sizes = x_int.abs() @ (w_int.abs().T if turned else w_int.abs())
    shape = [1, -1, *([1] * (exact.dim() - 2))] if source.op_type == "Conv" else [-1]
    multiplier, bias = (first.tensors[role].double().reshape(shape) for role in ("multiplier", "bias"))
    products = w_int[0].numel() if source.op_type == "Conv" else x_int.shape[-1]
    bound = UNIT_ROUNDOFF * (2 * products + 16) * (sizes * multiplier + bias.abs()) + 1e-30
    deviation = float((np.abs(result - tensors[source.output[0]].astype(np.float64)) / bound.numpy()).max())
    assert deviation <= 1.0, f"{name}: {deviation} of the rounding bound"
    return LayerCheck(name, exact.numel(), deviation)


def _convolution(source: Any, x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
    attributes = {entry.name: onnx.helper.get_attribute_value(entry) for entry in source.attribute}
    sides = w.dim() - 2
    pads = attributes.get("pads", [0] * (2 * sides))
    if attributes.get("auto_pad", b"NOTSET") not in (b"NOTSET", b"VALID"):
        pads = _same_pads(attributes, x, w)
    ends = [amount for side in reversed(range(sides)) for amount in (pads[side], pads[side + sides])]
    padded = torch.nn.functional.pad(x, ends)
    function = torch.nn.functional.conv2d if sides == 2 else torch.nn.functional.conv1d
    return function(
        padded,
        w,
        stride=attributes.get("strides", [1] * sides),
        dilation=attributes.get("dilations", [1] * sides),
        groups=attributes.get("group", 1),
    )


def _same_pads(attributes: dict[str, Any], x: torch.Tensor, w: torch.Tensor) -> list[int]:
    begin, end = [], []
    for side in range(w.dim() - 2):
        stride = attributes.get("strides", [1] * 2)[side]
        reach = attributes.get("dilations", [1] * 2)[side] * (w.shape[2 + side] - 1) + 1
        size = x.shape[2 + side]
        total = max(0, ((size + stride - 1) // stride - 1) * stride + reach - size)
        upper = attributes["auto_pad"] == b"SAME_UPPER"
        begin.append(total // 2 if upper else total - total // 2)
        end.append(total - begin[-1])
    return [*begin, *end]
