"""Every operator that can be read, beside onnxruntime: a layer on crossbars, the operator, the values of the run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from comparison import run
from graphs import Graph, integers, samples
from onnx import TensorProto

import cimq
from cimq.bundle.onnx_import import read_onnx
from cimq.bundle.onnx_import.table import HANDLERS

Build = Callable[[Graph, str], str]
CHANNELS = 4


def layered(shape: tuple[int, ...] = (CHANNELS, 6, 6), opset: int = 20, batch: Any = "batch") -> tuple[Graph, str]:
    """A graph whose first layer gives values of a shape, without rounding: scales are powers of two."""
    graph = Graph([batch, *shape], opset)
    x = graph.qcdq("x", 2.0**-5)
    if len(shape) == 3:
        w = graph.weight(integers((shape[0], shape[0], 1, 1), 4), 2.0**-4, 4)
        return graph, graph.add("Conv", [x, w])
    w = graph.weight(integers((shape[-1], shape[-1]), 4), 2.0**-4, 4)
    return graph, graph.add("MatMul", [x, w])


def plain(op: str, *constants: Any, **attributes: Any) -> Build:
    """The operator on the value, with further constant inputs."""

    def build(graph: Graph, x: str) -> str:
        return graph.add(op, [x, *(graph.tensor(value) for value in constants)], **attributes)

    return build


def int64(*values: int) -> Any:
    return np.array(values, np.int64)


def floats(*shape: int, seed: int = 3, positive: bool = False) -> Any:
    drawn = samples(*shape, seed=seed)
    return np.abs(drawn) + 0.5 if positive else drawn


def _split(graph: Graph, x: str) -> str:
    graph.add("Split", [x, graph.tensor(int64(1, 3))], outputs=2, axis=1)
    a, b = graph.nodes[-1].output
    return graph.add("Concat", [b, a, b], axis=-3)


def _shape_of(graph: Graph, x: str) -> str:
    """What exporters write for x.view(x.size(0), -1, x.size(3))."""
    shape = graph.add("Shape", [x])
    batch = graph.add("Gather", [shape, graph.tensor(np.int64(0))], axis=0)
    width = graph.add("Slice", [shape, graph.tensor(int64(3)), graph.tensor(int64(4))])
    batch = graph.add("Unsqueeze", [batch, graph.tensor(int64(0))])
    target = graph.add("Concat", [batch, graph.tensor(int64(-1)), width], axis=0)
    return graph.add("Reshape", [x, target])


def _attention(graph: Graph, x: str) -> str:
    """Queries, keys and values taken out of one tensor whose batch is not first, as timm writes it."""
    x = graph.add("Reshape", [x, graph.tensor(int64(0, 6, 3, 2, 4))])  # [B, 6, 24]
    x = graph.add("Transpose", [x], perm=[2, 0, 3, 1, 4])
    q, k, v = (graph.add("Gather", [x, graph.tensor(np.int64(i))], axis=0) for i in range(3))
    k = graph.add("Transpose", [k], perm=[0, 1, 3, 2])
    weights = graph.add("Softmax", [graph.add("MatMul", [q, k])])
    return graph.add("MatMul", [weights, v])


def _token(graph: Graph, x: str) -> str:
    """A class token, repeated for the batch, before the others."""
    shape = graph.add("Shape", [x], end=1)
    target = graph.add("Concat", [shape, graph.tensor(int64(1, 8))], axis=0)
    token = graph.add("Expand", [graph.tensor(floats(1, 1, 8)), target])
    return graph.add("Concat", [token, x], axis=1)


def _gelu(graph: Graph, x: str) -> str:
    scaled = graph.add("Div", [x, graph.tensor(np.float32(2**0.5))])
    grown = graph.add("Add", [graph.add("Erf", [scaled]), graph.tensor(np.float32(1))])
    return graph.add("Mul", [graph.add("Mul", [x, grown]), graph.tensor(np.float32(0.5))])


def _layer_norm(graph: Graph, x: str) -> str:
    """As exporters write it below opset 17."""
    centred = graph.add("Sub", [x, graph.add("ReduceMean", [x], axes=[-1])])
    square = graph.add("Pow", [centred, graph.tensor(np.float32(2))])
    variance = graph.add("Add", [graph.add("ReduceMean", [square], axes=[-1]), graph.tensor(np.float32(1e-5))])
    return graph.add("Div", [centred, graph.add("Sqrt", [variance])])


def _between(op: str, **attributes: Any) -> Build:
    """Between QuantizeLinear and DequantizeLinear."""

    def build(graph: Graph, x: str) -> str:
        scale, zero = graph.tensor(np.float32(0.25)), graph.tensor(np.int8(3))
        q = graph.add("QuantizeLinear", [x, scale, zero])
        return graph.add("DequantizeLinear", [graph.add(op, [q], **attributes), scale, zero])

    return build


def _quantiser_of_microsoft(graph: Graph, x: str) -> str:
    grid = [graph.tensor(np.float32(0.1)), graph.tensor(np.uint8(9))]
    q = graph.add("QuantizeLinear", [x, *grid], domain="com.microsoft")
    return graph.add("DequantizeLinear", [q, *grid], domain="com.microsoft")


IMAGES: dict[str, Build] = {
    "Identity": plain("Identity"),
    "Dropout": plain("Dropout"),
    "Cast": plain("Cast", to=TensorProto.FLOAT),
    "Relu": plain("Relu"),
    "Clip": plain("Clip", np.float32(-0.75), np.float32(1.5)),
    "Clip, above": lambda g, x: g.add("Clip", [x, "", g.tensor(np.float32(0.5))]),
    "Clip on the grid": lambda g, x: plain("Clip", np.float32(0), np.float32(6))(g, g.qcdq(x, 0.25)),
    "Clip off the grid": lambda g, x: plain("Clip", np.float32(0), np.float32(0.6))(g, g.qcdq(x, 0.25)),
    "Relu on the grid": lambda g, x: g.add("Relu", [g.qcdq(x, 0.25, 5, zero=3)]),
    "Sigmoid": plain("Sigmoid"),
    "Tanh": plain("Tanh"),
    "Erf": plain("Erf"),
    "Sqrt": lambda g, x: g.add("Sqrt", [g.add("Abs", [x])]),
    "HardSigmoid": plain("HardSigmoid"),
    "HardSigmoid of PyTorch": plain("HardSigmoid", alpha=1 / 6, beta=0.5),
    "HardSwish": plain("HardSwish"),
    "LeakyRelu": plain("LeakyRelu", alpha=0.2),
    "PRelu": plain("PRelu", floats(CHANNELS, 1, 1)),
    "PRelu of one slope": plain("PRelu", np.float32([0.3])),
    "Elu": plain("Elu", alpha=0.7),
    "Gelu": plain("Gelu"),
    "Gelu by tanh": plain("Gelu", approximate="tanh"),
    "Neg": plain("Neg"),
    "Reciprocal": lambda g, x: g.add("Reciprocal", [g.add("Add", [g.add("Abs", [x]), g.tensor(np.float32(1))])]),
    "Pow 3": plain("Pow", np.float32(3)),
    "Pow 1": plain("Pow", np.float32(1)),
    "Pow 0.5": lambda g, x: g.add("Pow", [g.add("Abs", [x]), g.tensor(np.float32(0.5))]),
    "Add": lambda g, x: g.add("Add", [x, g.add("Relu", [x])]),
    "Add of a constant": plain("Add", floats(CHANNELS, 1, 1)),
    "Sub from a constant": lambda g, x: g.add("Sub", [g.tensor(floats(1, CHANNELS, 1, 6)), x]),
    "Mul": plain("Mul", np.float32(0.3)),
    "Div": plain("Div", floats(6, positive=True)),
    "Sum": lambda g, x: g.add("Sum", [x, g.tensor(floats(6)), x]),
    "Max": lambda g, x: g.add("Max", [x, g.tensor(np.float32(0.2)), g.add("Neg", [x])]),
    "Min": plain("Min", np.float32(0.2)),
    "Mul per channel of the run": lambda g, x: g.add("Mul", [x, g.add("GlobalAveragePool", [x])]),
    "BatchNormalization": lambda g, x: g.add(
        "BatchNormalization",
        [x, *(g.tensor(floats(CHANNELS, seed=i, positive=i in (0, 3))) for i in range(4))],
        epsilon=1e-3,
    ),
    "InstanceNormalization": plain("InstanceNormalization", floats(CHANNELS), floats(CHANNELS, seed=4)),
    "Softmax of channels": plain("Softmax", axis=1),
    "LogSoftmax": plain("LogSoftmax"),
    "LayerNormalization of all": plain("LayerNormalization", floats(CHANNELS, 6, 6), axis=1),
    "MaxPool": plain("MaxPool", kernel_shape=[3, 2], strides=[2, 2], pads=[1, 1, 1, 1]),
    "MaxPool, one side": plain("MaxPool", kernel_shape=[2, 2], strides=[2, 2], pads=[0, 0, 1, 1]),
    "MaxPool, same": plain("MaxPool", kernel_shape=[3, 3], strides=[2, 2], auto_pad="SAME_UPPER"),
    "MaxPool, rounded up": plain("MaxPool", kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1),
    "MaxPool, dilated": plain("MaxPool", kernel_shape=[2, 2], dilations=[2, 3]),
    "AveragePool": plain("AveragePool", kernel_shape=[3, 3], strides=[2, 1], pads=[1, 1, 1, 1]),
    "AveragePool with padding": plain("AveragePool", kernel_shape=[2, 2], pads=[1, 0, 0, 1], count_include_pad=1),
    "AveragePool, rounded up": plain("AveragePool", kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1),
    "GlobalAveragePool": plain("GlobalAveragePool"),
    "GlobalMaxPool": plain("GlobalMaxPool"),
    "ReduceMean": plain("ReduceMean", int64(2, 3)),
    "ReduceMean of channels": plain("ReduceMean", int64(1), keepdims=0),
    "ReduceSum": plain("ReduceSum", int64(-1)),
    "ReduceMax": plain("ReduceMax", int64(2, 3), keepdims=0),
    "Resize nearest": lambda g, x: g.add(
        "Resize", [x, "", g.tensor(np.float32([1, 1, 2, 3]))], mode="nearest", nearest_mode="floor",
        coordinate_transformation_mode="asymmetric",
    ),
    "Resize nearest, half pixel": lambda g, x: g.add("Resize", [x, "", "", g.tensor(int64(18, 12))], axes=[2, 3]),
    "Resize linear": lambda g, x: g.add("Resize", [x, "", g.tensor(np.float32([1, 1, 2, 1.5]))], mode="linear"),
    "Resize linear, corners": lambda g, x: g.add(
        "Resize", [x, "", "", g.tensor(int64(5, 11))], mode="linear", axes=[2, 3],
        coordinate_transformation_mode="align_corners",
    ),
    "Shape": _shape_of,
    "Reshape": plain("Reshape", int64(0, 2, -1, 6)),
    "Flatten": plain("Flatten"),
    "Squeeze": lambda g, x: g.add("Squeeze", [g.add("GlobalAveragePool", [x]), g.tensor(int64(-1, 2))]),
    "Unsqueeze": plain("Unsqueeze", int64(2, -1)),
    "Transpose": plain("Transpose", perm=[0, 2, 3, 1]),
    "DepthToSpace": plain("DepthToSpace", blocksize=2),
    "DepthToSpace CRD": plain("DepthToSpace", blocksize=2, mode="CRD"),
    "SpaceToDepth": plain("SpaceToDepth", blocksize=2),
    "Slice": plain("Slice", int64(1, -5), int64(4, 100), int64(1, 2), int64(1, 2)),
    "Slice of all samples": plain("Slice", int64(0, 1), int64(2**62, 2), int64(0, 3)),
    "Slice backwards": plain("Slice", int64(-1), int64(-(2**62)), int64(3), int64(-1)),
    "Split": _split,
    "Gather": plain("Gather", int64(3, 1, 2, -4), axis=1),
    "Gather one": plain("Gather", np.int64(-2), axis=2),
    "Gather a table": plain("Gather", np.array([[0, 2], [4, 1]], np.int64), axis=3),
    "Concat": lambda g, x: g.add("Concat", [x, g.add("Relu", [x])], axis=2),
    "Concat on a grid": lambda g, x: g.add("Concat", [g.qcdq(x, 0.25), g.qcdq(g.add("Neg", [x]), 0.25)], axis=1),
    "Expand": lambda g, x: g.add("Expand", [g.add("GlobalMaxPool", [x]), g.tensor(int64(4, 3, 2))]),
    "Tile": plain("Tile", int64(1, 2, 1, 3)),
    "Pad": plain("Pad", int64(0, 1, 0, 2, 0, 0, 3, 1), np.float32(-0.5)),
    "Pad of some axes": lambda g, x: g.add("Pad", [x, g.tensor(int64(2, 1)), "", g.tensor(int64(-1))]),
    "Pad by reflection": plain("Pad", int64(0, 0, 2, 1, 0, 0, 3, 1), mode="reflect"),
    "Pad by the edge": plain("Pad", int64(0, 0, 2, 1, 0, 0, 3, 1), mode="edge"),
    "Pad around": plain("Pad", int64(0, 0, 2, 1, 0, 0, 3, 1), mode="wrap"),
    "Pad on a grid": lambda g, x: plain("Pad", int64(0, 0, 1, 1, 0, 0, 0, 0))(g, g.qcdq(x, 0.25, zero=-7)),
    "MaxPool of integers": _between("MaxPool", kernel_shape=[2, 2]),
    "Transpose of integers": _between("Transpose", perm=[0, 3, 1, 2]),
    "two quantisers": lambda g, x: g.qcdq(g.qcdq(x, 0.25, 4), 0.25, 6, signed=False),
    "two other quantisers": lambda g, x: g.qcdq(g.qcdq(x, 0.25, 4), 0.375, 6),
    "quantiser of another domain": _quantiser_of_microsoft,
    "Conv with a float32 weight": lambda g, x: g.add("Conv", [x, g.tensor(floats(3, CHANNELS, 2, 2))]),
}  # fmt: skip
TOKENS: dict[str, Build] = {
    "attention": _attention,
    "Gelu by Erf": _gelu,
    "LayerNormalization": plain("LayerNormalization", floats(24), floats(24, seed=4), epsilon=1e-4),
    "MatMul from the left": lambda g, x: g.add("MatMul", [g.tensor(floats(1, 3, 6)), x]),
    "MatMul of a float32 matrix": plain("MatMul", floats(24, 5)),
    "Gemm after a mean": lambda g, x: g.add(
        "Gemm", [g.add("ReduceMean", [x, g.tensor(int64(1))], keepdims=0), g.tensor(floats(24, 3))]
    ),
    "Transpose away and back": lambda g, x: g.add(
        "Transpose", [g.add("Transpose", [x], perm=[1, 0, 2])], perm=[1, 2, 0]
    ),
}
OTHER_OPSETS: dict[str, tuple[int, tuple[int, ...], Build]] = {
    "ReduceMean by attribute": (17, (6, 24), plain("ReduceMean", axes=[1])),
    "LayerNormalization in parts": (13, (6, 24), _layer_norm),
    "GroupNormalization per channel": (21, (4, 6, 6), plain("GroupNormalization", floats(4), floats(4), num_groups=2)),
    "Split without sizes": (13, (4, 6, 6), lambda g, x: g.add("Split", [x], outputs=2, axis=1)),
    "Split by number": (18, (5, 6, 6), lambda g, x: g.add("Split", [x], outputs=2, axis=1, num_outputs=2)),
    "class token": (15, (5, 8), _token),
    "Gelu of onnxruntime": (17, (4, 6, 6), plain("Gelu", domain="com.microsoft")),
}


def compared(graph: Graph, output: str, x: Any, folder: Path) -> None:
    path = graph.save(output, folder / "net.onnx")
    wanted = run(path, x)
    got = cimq.load_onnx(path, threads=1).run(x)
    assert got.shape == wanted.shape
    # The layer gives the same bits; functions and sums differ in how they are rounded.
    assert np.abs(got - wanted).max() <= 1e-5 * max(1.0, np.abs(wanted).max())


@pytest.mark.filterwarnings("ignore:ONNX model")  # what stays in float32
@pytest.mark.parametrize("name", IMAGES)
def test_on_images(name: str, tmp_path: Path) -> None:
    graph, x = layered()
    compared(graph, IMAGES[name](graph, x), samples(2, CHANNELS, 6, 6), tmp_path)


@pytest.mark.filterwarnings("ignore:ONNX model")
@pytest.mark.parametrize("name", TOKENS)
def test_on_tokens(name: str, tmp_path: Path) -> None:
    graph, x = layered((6, 24))
    compared(graph, TOKENS[name](graph, x), samples(2, 6, 24), tmp_path)


@pytest.mark.parametrize("name", OTHER_OPSETS)
def test_of_other_opsets(name: str, tmp_path: Path) -> None:
    opset, shape, build = OTHER_OPSETS[name]
    graph, x = layered(shape, opset)
    compared(graph, build(graph, x), samples(2, *shape), tmp_path)


@pytest.mark.parametrize("name", ["MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool"])
def test_on_signals(name: str, tmp_path: Path) -> None:
    graph = Graph(["batch", 3, 9])
    w = graph.weight(integers((4, 3, 2), 4), 2.0**-4, 4)
    x = graph.add("Conv", [graph.qcdq("x", 2.0**-5), w])
    attributes = {} if name.startswith("Global") else {"kernel_shape": [3], "strides": [2], "pads": [1, 1]}
    compared(graph, graph.add(name, [x], **attributes), samples(2, 3, 9), tmp_path)


def test_a_fixed_batch_of_one(tmp_path: Path) -> None:
    """Exporters write it into shapes and constants; the network runs with any."""
    graph, x = layered((6, 24), batch=1)
    x = graph.add("Reshape", [x, graph.tensor(int64(1, 144))])
    x = graph.add("Concat", [x, graph.tensor(floats(1, 3))], axis=1)
    path = graph.save(x, tmp_path / "net.onnx")
    images = samples(3, 6, 24)
    wanted = np.concatenate([run(path, image[None]) for image in images])
    assert np.array_equal(cimq.load_onnx(path).run(images), wanted)


def test_a_quantiser_is_computed_once(tmp_path: Path) -> None:
    """However many read it; a layer quantises its input itself."""
    graph, x = layered()
    q = graph.qcdq(x, 0.25, 5)
    w = graph.weight(integers((4, 4, 1, 1), 4), 0.1, 4)
    y = graph.add("Add", [graph.add("Sigmoid", [q]), graph.add("Tanh", [q])])
    network = read_onnx(graph.save(graph.add("Add", [y, graph.add("Conv", [q, w])]), tmp_path / "net.onnx"))
    assert [node.op for node in network.nodes].count("fake_quantize") == 1
    assert network.crossbar_nodes()[1].inputs == (x,)


def test_every_operator_is_met(tmp_path: Path) -> None:
    """In the graphs of this file."""
    met = set()
    for shape, builds in (((CHANNELS, 6, 6), IMAGES), ((6, 24), TOKENS)):
        for build in builds.values():
            graph, x = layered(shape)
            build(graph, x)
            met |= {f"{node.domain}.{node.op_type}".lstrip(".") for node in graph.nodes}
    for opset, other, build in OTHER_OPSETS.values():
        graph, x = layered(other, opset)
        build(graph, x)
        met |= {f"{node.domain}.{node.op_type}".lstrip(".") for node in graph.nodes}
    assert HANDLERS.keys() - met == {"Swish"}  # of opset 24, which onnxruntime need not know
