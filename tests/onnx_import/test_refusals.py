"""What has no form on crossbars or in a bundle is named: node, operator, attribute, and what to do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from graphs import Graph, integers, samples
from onnx import TensorProto, helper

import cimq
from cimq.bundle.onnx_import import read_onnx

Build = Callable[[Graph, str], str]


def layered(shape: tuple[int, ...] = (4, 6, 6), opset: int = 20) -> tuple[Graph, str]:
    graph = Graph(["batch", *shape], opset)
    w = graph.weight(integers((shape[0], shape[0], 1, 1), 4), 0.125, 4)
    return graph, graph.add("Conv", [graph.qcdq("x", 0.1), w])


def then(op: str, *constants: Any, outputs: int = 1, domain: str = "", **attributes: Any) -> Build:
    def build(graph: Graph, x: str) -> str:
        inputs = [x, *(value if isinstance(value, str) else graph.tensor(value) for value in constants)]
        return graph.add(op, inputs, outputs=outputs, domain=domain, **attributes)

    return build


def int64(*values: int) -> Any:
    return np.array(values, np.int64)


def _gemm(**changes: Any) -> Build:
    def build(graph: Graph, x: str) -> str:
        graph.nodes.clear()
        options = {"scale": 0.1, "axis": None, "bits": 4} | changes
        x = graph.add("Flatten", [graph.qcdq("x", 0.1)])
        w = graph.weight(integers((144, 3), 4), options["scale"], options["bits"], axis=options["axis"])
        return graph.add("Gemm", [x, w], **options.get("attributes", {}))

    return build


def _blocks(graph: Graph, x: str) -> str:
    q, scale = graph.tensor(integers((6, 4), 4).astype(np.int8)), graph.tensor(samples(3, 4) ** 2 + 1)
    return graph.add("MatMul", [x, graph.add("DequantizeLinear", [q, scale], axis=0, block_size=2)])


def _sixteen_bits(graph: Graph, x: str) -> str:
    s, z = graph.tensor(np.float32(0.1)), graph.tensor(np.uint16(0))
    q = graph.add("DequantizeLinear", [graph.add("QuantizeLinear", [x, s, z]), s, z])
    return graph.add("Conv", [q, graph.weight(integers((2, 4, 1, 1), 4), 0.1)])


def _other_dequantiser(graph: Graph, x: str) -> str:
    z = graph.tensor(np.int8(0))
    q = graph.add("QuantizeLinear", [x, graph.tensor(np.float32(0.1)), z])
    return graph.add("DequantizeLinear", [q, graph.tensor(np.float32(0.2)), z])


CASES: dict[str, tuple[Build, str]] = {
    "an operator": (then("Selu"), r"node 'n_selu\d' \(Selu\): this operator is not supported; docs/onnx.md lists"),
    "another domain": (then("FastGelu", domain="com.microsoft"), "com.microsoft.FastGelu.*approximate='tanh'"),
    "one of nobody": (then("Warp", domain="my.own"), r"\(my.own.Warp\): this operator is not supported"),
    "an attribute": (then("Softmax", axis=0), r"\(Softmax\): works along the batch"),
    "ConvTranspose": (then("ConvTranspose", samples(4, 2, 3, 3)), "upsample with Resize and a Conv"),
    "dynamic quantisation": (then("DynamicQuantizeLinear", outputs=3), "statically, with calibrated scales"),
    "blocks": (_blocks, r"\(DequantizeLinear\): its scale has the shape \[3, 4\]: one per tensor"),
    "scale per input": (_gemm(scale=np.linspace(0.1, 0.2, 144), axis=0), "one per output; these have one per input"),
    "scale per channel of a value": (
        lambda g, x: g.qcdq(x, np.linspace(0.1, 0.2, 4), axis=1),
        r"\(QuantizeLinear\): a value of the run must have one scale",
    ),
    "scale of the run": (
        lambda g, x: g.add("QuantizeLinear", [x, g.add("ReduceMax", [x, g.tensor(int64(1, 2, 3))], keepdims=0)]),
        r"\(ReduceMax\): a maximum is known over height and width",
    ),
    "sixteen bits": (_sixteen_bits, r"\(Conv\): its input is quantised to 0 .. 65535, 16 bits; crossbars take up to 8"),
    "another dequantiser": (_other_dequantiser, "must be those of the QuantizeLinear before it"),
    "integers": (
        lambda g, x: g.add("Sigmoid", [g.add("QuantizeLinear", [x, g.tensor(np.float32(1))])]),
        "not valid ONNX|holds the integers of QuantizeLinear",
    ),
    "transA": (
        lambda g, x: g.add("Gemm", [g.add("Flatten", [x]), g.tensor(samples(144, 3))], transA=1),
        "attribute transA: the batch must be the first dimension",
    ),
    "samples mixed": (then("Reshape", int64(-1, 6)), r"reshapes \['batch', 4, 6, 6\] to \[-1, 6\]; the first"),
    "batch fixed": (then("Reshape", int64(1, 144)), "must stay the batch"),
    "batch squeezed": (then("Squeeze"), "needs axes"),
    "flattened with the batch": (then("Flatten", axis=2), "attribute axis must be 1"),
    "batch moved": (then("Transpose", perm=[1, 0, 2, 3]), "output .* has the batch as dimension 1"),
    "batch moved, used": (
        lambda g, x: g.add("Relu", [g.add("Transpose", [x], perm=[1, 0, 2, 3])]),
        r"\(Relu\): input 0 has the batch as dimension 1",
    ),
    "batch gathered": (then("Gather", int64(0), axis=0), "works along the batch"),
    "batch averaged": (then("ReduceMean"), "would take the batch"),
    "batch padded": (then("Pad", int64(1, 0, 0, 0, 0, 0, 0, 0)), "adds samples"),
    "batch repeated": (then("Tile", int64(2, 1, 1, 1)), "1 for the batch"),
    "ranks": (
        lambda g, x: g.add("Add", [x, g.add("ReduceMean", [x, g.tensor(int64(2, 3))], keepdims=0)]),
        "differ in their number of dimensions",
    ),
    "shapes": (then("Add", samples(5)), "4, 6, 6.*per sample do not fit|not valid"),
    "an exponent": (then("Pow", np.float32(2.5)), "exponent must be a constant: -1, 0.5, 1, 2 or 3"),
    "infinite mask": (then("Add", np.float32(-np.inf)), "must be finite; write masks with a large negative number"),
    "rounded up and counted": (
        then("AveragePool", kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1, count_include_pad=1),
        "ceil_mode with count_include_pad",
    ),
    "one-sided average": (then("AveragePool", kernel_shape=[2, 2], pads=[0, 0, 1, 1]), r"attribute pads \[0, 0, 1, 1"),
    "cubic": (then("Resize", "", np.float32([1, 1, 2, 2]), mode="cubic"), "mode must be 'nearest' or 'linear'"),
    "nearest by a fraction": (
        then("Resize", "", "", int64(9, 9), mode="nearest", axes=[2, 3]), "nearest from 6 x 6 to 9 x 9.*whole factors"
    ),
    "strange indices": (then("Gather", int64(7), axis=1), "its indices must be -4 to 3"),
    "training": (
        lambda g, x: g.add("Dropout", [x, g.tensor(np.float32(0.5)), g.tensor(np.bool_(True))]),
        "training_mode must be false",
    ),
    "a condition": (
        lambda g, x: g.add("Where", [g.add("Greater", [x, g.tensor(np.float32(0))]), x, x]),
        r"\(Greater\): this operator is not supported",
    ),
    "three dimensions": (
        lambda g, x: g.add("Conv", [g.add("Unsqueeze", [x, g.tensor(int64(2))]), g.tensor(samples(2, 4, 1, 1, 1))]),
        "convolutions of .* are known",
    ),
    "a table on the left": (
        lambda g, x: g.add("Gather", [g.tensor(samples(9, 3)), g.add("Cast", [x], to=TensorProto.INT64)]),
        "attribute to: values of the run are float32, got INT64",
    ),
    "random numbers": (
        lambda g, x: g.add("Add", [x, g.add("RandomNormal", [], shape=[1, 4, 6, 6])]),
        r"\(RandomNormal\): computes from constants alone",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_named(name: str, tmp_path: Path) -> None:
    build, message = CASES[name]
    graph, x = layered(opset=21 if name in ("blocks", "sixteen bits") else 20)
    path = graph.save(build(graph, x), tmp_path / "net.onnx")
    with pytest.raises(ValueError, match=message) as raised:
        read_onnx(path)
    assert str(raised.value).startswith(f"ONNX model {path}: ")
    assert "\n" not in str(raised.value)


def test_networks_without_quantised_layers(tmp_path: Path) -> None:
    graph = Graph(["batch", 4])
    path = graph.save(graph.add("Gemm", ["x", graph.tensor(samples(4, 3))]), tmp_path / "float.onnx")
    with pytest.raises(
        ValueError, match=r"no layer that could be on a crossbar.*'n_gemm1' .its weight is not quantised."
    ):
        read_onnx(path)
    graph = Graph(["batch", 4])
    path = graph.save(graph.add("Gemm", ["x", graph.weight(integers((4, 3), 4), 0.1)]), tmp_path / "weights.onnx")
    with pytest.raises(ValueError, match="its input is not quantised"):
        read_onnx(path)


def test_what_is_left_in_float32_is_named(tmp_path: Path) -> None:
    graph, x = layered()
    path = graph.save(graph.add("Conv", [x, graph.tensor(samples(2, 4, 1, 1))]), tmp_path / "net.onnx")
    with pytest.warns(cimq.CimqWarning, match=r"net.onnx: left in float32: 'n_conv\d' .its weight is not quantised."):
        cimq.load_onnx(path)
    graph = Graph(["batch", 4])
    w = graph.weight(integers((4, 3), 4, lowest=True), 0.1, 4)
    path = graph.save(graph.add("MatMul", [graph.qcdq("x", 0.1), w]), tmp_path / "low.onnx")
    with pytest.warns(cimq.CimqWarning, match=r"4 bits that reach -2\^3 as 5 bits"):
        cimq.load_onnx(path)


def test_weights_beyond_two_matrices(tmp_path: Path) -> None:
    graph = Graph(["batch", 2], opset=21)
    w = graph.weight([[300], [5]], 0.1, element=TensorProto.INT16)
    path = graph.save(graph.add("MatMul", [graph.qcdq("x", 0.1), w]), tmp_path / "net.onnx")
    with pytest.raises(ValueError, match="its weights reach 300; integers of at most 254 can be held"):
        read_onnx(path)


def _many(folder: Path) -> Path:
    graph, x = layered()
    path = folder / "two.onnx"
    onnx.save_model(graph.models([x, graph.add("Relu", [x])]), path)
    return path


def test_outputs_are_chosen(tmp_path: Path) -> None:
    path = _many(tmp_path)
    with pytest.raises(ValueError, match=r"has 2 outputs; say which with output=: conv.*, relu"):
        cimq.load_onnx(path)
    with pytest.raises(ValueError, match="has no output 'y'; it has conv"):
        cimq.load_onnx(path, output="y")
    names = [entry.name for entry in onnx.load(path).graph.output]
    x = samples(2, 4, 6, 6)
    first, second = (cimq.load_onnx(path, output=name).run(x) for name in names)
    assert np.array_equal(np.maximum(first, 0), second)


def test_inputs(tmp_path: Path) -> None:
    graph = Graph(["batch", 4, "h", 6])
    w = graph.weight(integers((2, 4, 3, 3), 4), 0.1)
    path = graph.save(graph.add("Conv", [graph.qcdq("x", 0.1), w]), tmp_path / "open.onnx")
    with pytest.raises(ValueError, match=r"leaves sizes open, \[4, '\?', 6\] per sample; give input_shape="):
        cimq.load_onnx(path)
    with pytest.raises(ValueError, match=r"input_shape \[4, 5\] does not fit the input 'x'"):
        cimq.load_onnx(path, input_shape=(4, 5))
    assert cimq.load_onnx(path, input_shape=(4, 9, 6)).run(samples(1, 4, 9, 6)).shape == (1, 2, 7, 4)

    graph = Graph(["batch", 4])
    graph.inputs.append(helper.make_tensor_value_info("z", TensorProto.FLOAT, ["batch", 4]))
    path = graph.save(graph.add("Add", ["x", "z"]), tmp_path / "two.onnx")
    with pytest.raises(ValueError, match=r"has 2 inputs that 'add1' depends on \(x, z\); one is known"):
        read_onnx(path)

    graph = Graph(["batch", 4])
    graph.inputs[0].type.tensor_type.elem_type = TensorProto.INT8
    path = graph.save(graph.add("DequantizeLinear", ["x", graph.tensor(np.float32(1))]), tmp_path / "int.onnx")
    with pytest.raises(ValueError, match="input 'x' must be a float32 tensor, got INT8"):
        read_onnx(path)


@pytest.mark.parametrize(("opset", "known"), [(12, False), (13, True), (25, True), (26, False)])
def test_opsets(opset: int, known: bool, tmp_path: Path) -> None:
    graph = Graph(["batch", 4], opset=opset)
    path = tmp_path / "net.onnx"
    output = graph.add("MatMul", [graph.qcdq("x", 0.1), graph.weight(integers((4, 3), 8), 0.1)])
    onnx.save_model(graph.model(output), path)
    if known:
        assert len(read_onnx(path).crossbar_nodes()) == 1
    else:
        with pytest.raises(ValueError, match=f"uses opset {opset}; 13 to 25 are known"):
            read_onnx(path)
