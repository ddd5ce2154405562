"""Files that are damaged or lie: a sentence that names the file, never a crash, a hang or another exception."""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from foreign_models import DATA
from graphs import Graph, integers, samples
from onnx import TensorProto, helper

import cimq
from cimq.bundle.onnx_import import read_onnx

SOURCE = DATA / "brevitas_w4a4.onnx"


def refused(path: Path, message: str) -> None:
    with pytest.raises(ValueError, match=message) as raised:
        read_onnx(path)
    assert str(raised.value).startswith(f"ONNX model {path}: ")


def written(model: onnx.ModelProto, path: Path) -> Path:
    path.write_bytes(model.SerializeToString())
    return path


def dense() -> tuple[Graph, str]:
    graph = Graph(["batch", 4])
    return graph, graph.add("MatMul", [graph.qcdq("x", 0.1), graph.weight(integers((4, 3), 8), 0.1)])


def test_no_model(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="does not exist"):
        cimq.load_onnx(tmp_path / "none.onnx")
    (tmp_path / "empty.onnx").write_bytes(b"")
    refused(tmp_path / "empty.onnx", "has no graph")
    (tmp_path / "text.onnx").write_text("not a model at all, but a text that is long enough")
    refused(tmp_path / "text.onnx", "is no ONNX model, or is damaged|has no graph")
    (tmp_path / "folder.onnx").mkdir()
    refused(tmp_path / "folder.onnx", "is not a regular file")
    os.mkfifo(tmp_path / "pipe.onnx")
    refused(tmp_path / "pipe.onnx", "is not a regular file")


@pytest.mark.parametrize("text", ["input", "output", "name", "op_type"])
def test_texts_that_are_no_utf8(tmp_path: Path, text: str) -> None:
    content = SOURCE.read_bytes()
    model = onnx.load_from_string(content)
    node = model.graph.node[2]
    old = {"input": node.input[0], "output": node.output[0], "name": node.name, "op_type": node.op_type}[text].encode()
    (tmp_path / "bad.onnx").write_bytes(content.replace(old, b"\xff" + old[1:]))
    refused(tmp_path / "bad.onnx", r"is damaged: onnx\.\w+\.\w+ is no text in UTF-8, but b'.*\\xff")


def test_truncated(tmp_path: Path) -> None:
    content = SOURCE.read_bytes()
    for length in range(0, len(content), 97):
        path = tmp_path / "cut.onnx"
        path.write_bytes(content[:length])
        with pytest.raises(ValueError, match="ONNX model"):
            read_onnx(path)


def test_flipped_bytes(tmp_path: Path) -> None:
    """Whatever they become, a sentence or a network; a part of the networks also runs."""
    content, random = SOURCE.read_bytes(), np.random.default_rng(0)
    path, read = tmp_path / "flipped.onnx", 0
    for _ in range(250):
        changed = bytearray(content)
        for place in random.integers(0, len(changed), random.integers(1, 4)):
            changed[place] = random.integers(0, 256)
        path.write_bytes(changed)
        with warnings.catch_warnings(), contextlib.suppress(ValueError):
            warnings.simplefilter("ignore")
            read_onnx(path)
            read += 1
            if read % 8 == 0:
                cimq.load_onnx(path).run(samples(1, 3, 10, 10))
    assert 10 < read < 250  # weights and scales may change, the rest may not


def _changed(change: Callable[[onnx.ModelProto], None], path: Path) -> Path:
    graph, output = dense()
    model = graph.model(output)
    change(model)
    return written(model, path)


def _cycle(model: onnx.ModelProto) -> None:
    model.graph.node[0].input[0] = model.graph.node[-1].output[0]


def _scale(value: float) -> Callable[[onnx.ModelProto], None]:
    def change(model: onnx.ModelProto) -> None:
        tensor = model.graph.initializer[0]
        tensor.CopyFrom(onnx.numpy_helper.from_array(np.float32(value), tensor.name))

    return change


def _dims(*dims: int) -> Callable[[onnx.ModelProto], None]:
    def change(model: onnx.ModelProto) -> None:
        tensor = next(t for t in model.graph.initializer if len(t.dims) == 2)
        del tensor.dims[:]
        tensor.dims.extend(dims)

    return change


def _input(*dims: int) -> Callable[[onnx.ModelProto], None]:
    def change(model: onnx.ModelProto) -> None:
        shape = model.graph.input[0].type.tensor_type.shape
        del shape.dim[1:]
        for dim in dims:
            shape.dim.add().dim_value = dim

    return change


def _type(element: int) -> Callable[[onnx.ModelProto], None]:
    def change(model: onnx.ModelProto) -> None:
        next(t for t in model.graph.initializer if len(t.dims) == 2).data_type = element

    return change


def _no_batch(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 0


def _twice(model: onnx.ModelProto) -> None:
    model.graph.node.append(model.graph.node[-1])


def _no_opset(model: onnx.ModelProto) -> None:
    del model.opset_import[:]


def _function(model: onnx.ModelProto) -> None:
    model.functions.add().name = "f"


def _float_weight(value: float) -> Callable[[onnx.ModelProto], None]:
    def change(model: onnx.ModelProto) -> None:
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.full((3, 3), value, np.float32), "w2"))
        last = model.graph.node[-1].output[0]
        model.graph.node.append(helper.make_node("MatMul", [last, "w2"], ["end"], "second"))
        model.graph.output[0].name = "end"

    return change


CHANGES: dict[str, tuple[Callable[[onnx.ModelProto], None], str]] = {
    "cycle": (_cycle, "not valid ONNX.*topologically sorted"),
    "scale nan": (_scale(float("nan")), r"\(QuantizeLinear\): its scale must be positive and finite, got \[nan\]"),
    "scale infinite": (_scale(float("inf")), r"positive and finite, got \[inf\]"),
    "scale zero": (_scale(0.0), r"positive and finite, got \[0.0\]"),
    "scale negative": (_scale(-1.0), r"positive and finite, got \[-1.0\]"),
    "huge weight": (_dims(2**40, 2**40), "damaged|at most 268435456 elements can be held|not valid"),
    "wrapping weight": (_dims(2**32, 2**32), "at most 268435456 elements can be held|not valid"),
    "negative weight": (_dims(-4, -3), "at most 268435456|damaged|not valid"),
    "weight of another size": (_dims(5, 3), "is damaged|not valid"),
    "weight of nothing": (_dims(0, 3), "damaged|no elements|not valid"),
    "weight of no rank": (_dims(), "damaged|not valid"),
    "weight of text": (_type(TensorProto.STRING), "not valid|no number"),
    "weight of an unknown type": (_type(99), "not valid|damaged"),
    "weight of float8": (_type(TensorProto.FLOAT8E4M3FN), "FLOAT8E4M3FN|not valid|zero point"),
    "weight of booleans": (_type(TensorProto.BOOL), "BOOL|not valid"),
    "weight of doubles": (_type(TensorProto.DOUBLE), "DOUBLE|not valid|damaged"),
    "input of nothing": (_input(0), r"the shape \[0\] per sample"),
    "huge input": (_input(2**40), "per sample; 1 to 268435456 elements"),
    "wrapping input": (_input(2**32, 2**32), "per sample; 1 to 268435456 elements"),
    "negative input": (_input(-3), "per sample"),
    "batch of nothing": (_no_batch, "input '.*' has the batch 0; it must be at least 1, or open"),
    "input without dimensions": (_input(), "must have a batch dimension and at least one more"),
    "node twice": (_twice, "not valid ONNX"),
    "no opset": (_no_opset, "does not say which version"),
    "functions": (_function, "onnx.inliner.inline_local_functions"),
    "weight nan": (_float_weight(float("nan")), r"node 'second' \(MatMul\): its weight must be finite"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_changed(name: str, tmp_path: Path) -> None:
    change, message = CHANGES[name]
    refused(_changed(change, tmp_path / "net.onnx"), message)


def _sized(*nodes: tuple[str, list[Any], dict[str, Any]]) -> Callable[[Graph, str], str]:
    def build(graph: Graph, x: str) -> str:
        for op, constants, attributes in nodes:
            x = graph.add(op, [x, *(graph.tensor(value) for value in constants)], **attributes)
        return x

    return build


def _ones(*shape: int) -> Any:
    return np.ones(shape, np.float32)


BOMBS: dict[str, tuple[Callable[[Graph, str], str], str]] = {
    "repeated": (_sized(("Tile", [np.array([1, 2**40], np.int64)], {})), "has the shape|elements"),
    "padded": (_sized(("Pad", [np.array([0, 2**33, 0, 0], np.int64)], {})), "elements"),
    "expanded": (
        _sized(("Unsqueeze", [np.array([1], np.int64)], {}), ("Expand", [np.array([1, 2**31, 3])], {})), "elements"
    ),
    "a constant of any size": (
        lambda g, x: g.add("Add", [x, g.add("ConstantOfShape", [g.tensor(np.array([2**20, 2**20], np.int64))])]),
        "at most 16777216 elements are made",
    ),
    "a long range": (
        lambda g, x: g.add(
            "Reshape", [x, g.add("Range", [g.tensor(np.int64(0)), g.tensor(np.int64(2**60)), g.tensor(np.int64(1))])]
        ),
        "at most 16777216 elements are made",
    ),
    "an outer product": (
        lambda g, x: g.add("Add", [x, g.add("Mul", [g.tensor(_ones(1, 2**13)), g.tensor(_ones(2**13, 1))])]),
        "at most 16777216 elements are made",
    ),
    "grown by gathering": (
        lambda g, x: g.add(
            "Add", [x, g.add("Gather", [g.tensor(_ones(1, 2**13)), g.tensor(np.zeros(2**13, np.int64))])]
        ),
        "at most 16777216 elements are made",
    ),
    "a thousand parts": (
        _sized(("Gather", [np.array([0, 2, 1] * 400, np.int64)], {"axis": 1})), "separate parts; at most 256 are known"
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BOMBS)
def test_bombs(name: str, tmp_path: Path) -> None:
    build, message = BOMBS[name]
    graph, x = dense()
    output = build(graph, x)
    result = helper.make_tensor_value_info(output, TensorProto.FLOAT, ["batch", 3])
    model = helper.make_model(
        helper.make_graph(graph.nodes, "g", graph.inputs, [result], graph.tensors),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
    )
    refused(written(model, tmp_path / "net.onnx"), message)


# ---- data in other files ----


def external(folder: Path, location: str, **more: str) -> Path:
    graph, output = dense()
    model = graph.model(output)
    tensor = next(t for t in model.graph.initializer if len(t.dims) == 2)
    (folder / "weights.bin").write_bytes(b"ab" + tensor.raw_data)
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    entries = {"location": location, "offset": "2", "length": "12", **more}
    for key, value in entries.items():
        tensor.external_data.add(key=key, value=value)
    return written(model, folder / "net.onnx")


def test_data_in_another_file(tmp_path: Path) -> None:
    graph, output = dense()
    inside = graph.save(output, tmp_path / "inside.onnx")
    x = samples(3, 4)
    assert np.array_equal(cimq.load_onnx(external(tmp_path, "weights.bin")).run(x), cimq.load_onnx(inside).run(x))


@pytest.mark.parametrize(
    ("location", "more", "message"),
    [
        ("../weights.bin", {}, "without '..'"),
        ("a/../../weights.bin", {}, "without '..'"),
        ("..\\weights.bin", {}, "without '..'"),
        ("/etc/passwd", {}, "must be a file in the folder of the model"),
        ("C:\\weights.bin", {}, "must be a file in the folder of the model"),
        ("", {}, "must be a file in the folder of the model"),
        ("none.bin", {}, "which does not exist"),
        ("link.bin", {}, "a link out of the model's folder"),
        (".", {}, "is not a regular file"),
        ("weights.bin", {"length": "99"}, "has 14 bytes, but 99 at 2 are asked for"),
        ("weights.bin", {"offset": "99"}, "12 at 99 are asked for"),
        ("weights.bin", {"offset": "-1"}, "offset of its data must be a whole number"),
        ("weights.bin", {"length": "1e3"}, "length of its data must be a whole number"),
        ("weights.bin", {"length": "9" * 40}, "must be a whole number"),
        ("weights.bin", {"length": "3"}, "is damaged"),
    ],
)
def test_data_elsewhere(location: str, more: dict[str, str], message: str, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (tmp_path / "weights.bin").write_bytes(bytes(14))
    (folder / "link.bin").symlink_to(tmp_path / "weights.bin")
    refused(external(folder, location, **more), message)


def test_names_cannot_forge_lines(tmp_path: Path) -> None:
    graph, output = dense()
    model = graph.model(output)
    node = model.graph.node.add()
    node.CopyFrom(helper.make_node("Selu", [output], ["end"], "evil\x1b[2J\nname" * 100))
    model.graph.output[0].name = "end"
    with pytest.raises(ValueError, match="this operator is not supported") as raised:
        read_onnx(written(model, tmp_path / "net.onnx"))
    assert "\n" not in str(raised.value)
    assert "\x1b" not in str(raised.value)
