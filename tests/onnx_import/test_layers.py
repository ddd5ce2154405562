"""Single layers of every geometry, width and form of quantiser: integers exactly those of the file."""

from __future__ import annotations

import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from comparison import check_layers, run
from graphs import Graph, integers, samples
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto

import cimq
from cimq.bundle.onnx_import import read_onnx
from cimq.bundle.onnx_import.forms import input_form, stored_bits, symmetric_bits, weight_parts
from cimq.bundle.onnx_import.values import Grid
from cimq.errors import CimqWarning

FEW = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def checked(graph: Graph, output: str, x: Any) -> Any:
    """Compared with onnxruntime, layer by layer; the network."""
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore", CimqWarning)
        path = graph.save(output, Path(folder) / "net.onnx")
        assert check_layers(path, x, Path(folder) / "layers")
        return read_onnx(path)


@st.composite
def quantisers(draw: st.DrawFn) -> dict[str, Any]:
    """Of an input: a width, a sign, a zero point, perhaps one integer less."""
    signed = draw(st.booleans())
    bits = draw(st.integers(2, 8))
    zero = 0
    if draw(st.booleans()):  # inside of the range, so that padding can be 0
        zero = draw(st.integers(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else st.integers(0, 2**bits - 1))
    return {
        "scale": draw(st.floats(0.0078125, 0.5, width=32)),
        "bits": bits,
        "signed": signed,
        "zero": zero,
        "narrow": draw(st.booleans()) and zero == 0,
    }


@FEW
@given(quantisers(), st.integers(2, 8), st.data())
def test_convolutions(quantiser: dict[str, Any], bits: int, data: st.DataObject) -> None:
    draw = data.draw
    groups, each, per_group = draw(st.integers(1, 3)), draw(st.integers(1, 2)), draw(st.integers(1, 2))
    channels, outputs = groups * each, groups * per_group
    kernel = (draw(st.integers(1, 3)), draw(st.integers(1, 3)))
    size = (draw(st.integers(6, 8)), draw(st.integers(6, 8)))
    x = samples(2, channels, *size, seed=draw(st.integers(0, 99)))
    graph = Graph(["batch", channels, *size], opset=draw(st.sampled_from([13, 17, 19, 20])))
    attributes: dict[str, Any] = {
        "group": groups,
        "strides": [draw(st.integers(1, 2)), draw(st.integers(1, 2))],
        "dilations": [draw(st.integers(1, 2)), draw(st.integers(1, 2))],
    }
    if draw(st.booleans()):
        attributes["pads"] = [draw(st.integers(0, 2)) for _ in range(4)]
    elif set(attributes["dilations"]) == {1}:  # onnxruntime knows SAME without dilation only
        attributes["auto_pad"] = draw(st.sampled_from(["SAME_UPPER", "SAME_LOWER", "VALID"]))
    per_channel = draw(st.booleans())
    scale = np.linspace(0.01, 0.3, outputs) if per_channel else 0.02
    w = integers((outputs, each, *kernel), bits, draw(st.integers(0, 99)), lowest=draw(st.booleans()))
    inputs = [
        graph.qcdq("x", quantiser.pop("scale"), **quantiser),
        graph.weight(w, scale, bits, axis=0 if per_channel else None),
    ]
    if draw(st.booleans()):
        inputs.append(graph.tensor(samples(outputs)))
    checked(graph, graph.add("Conv", inputs, **attributes), x)


@FEW
@given(quantisers(), st.integers(2, 8), st.data())
def test_matrices(quantiser: dict[str, Any], bits: int, data: st.DataObject) -> None:
    draw = data.draw
    inputs, outputs = draw(st.integers(1, 9)), draw(st.integers(1, 5))
    kind = draw(st.sampled_from(["Gemm", "Gemm transposed", "MatMul", "MatMul of tokens", "MatMul, turned"]))
    x = samples(*((3, 4, inputs) if kind == "MatMul of tokens" else (3, inputs)), seed=draw(st.integers(0, 99)))
    graph = Graph(["batch", *x.shape[1:]])
    per_channel = draw(st.booleans())
    scale = np.linspace(0.01, 0.3, outputs) if per_channel else 0.02
    drawn = integers((outputs, inputs), bits, draw(st.integers(0, 99)), lowest=draw(st.booleans()))
    outputs_first = kind in ("Gemm transposed", "MatMul, turned")
    axis = None if not per_channel else 0 if outputs_first else 1
    w = graph.weight(drawn if outputs_first else drawn.T, scale, bits, axis=axis)
    a = graph.qcdq("x", quantiser.pop("scale"), **quantiser)
    if kind == "MatMul, turned":
        w = graph.add("Transpose", [w], perm=[1, 0])
    if kind.startswith("MatMul"):
        checked(graph, graph.add("MatMul", [a, w]), x)
        return
    attributes = {"transB": int(outputs_first), "alpha": draw(st.sampled_from([1.0, 0.5, 3.0])), "beta": 0.25}
    bias = draw(st.sampled_from([None, (outputs,), (1, outputs), (1,)]))
    operands = [a, w, *([] if bias is None else [graph.tensor(samples(*bias))])]
    checked(graph, graph.add("Gemm", operands, **attributes), x)


def test_signals_are_images_of_one_row() -> None:
    graph = Graph([1, 4, 9])
    w = graph.weight(integers((6, 2, 3), 4), np.linspace(0.1, 0.2, 6), 4, axis=0)
    y = graph.add("Conv", [graph.qcdq("x", 0.1, 5), w], group=2, strides=[2], pads=[2, 1], dilations=[2])
    network = checked(graph, y, samples(1, 4, 9))
    (layer,) = network.crossbar_nodes()
    assert (layer.crossbar.weight_bits, layer.crossbar.act_bits, layer.crossbar.repeats) == (4, 5, 2)


TYPES = {
    "int4": (TensorProto.INT4, -8, 7, None, 5),
    "int4 without -8": (TensorProto.INT4, -7, 7, None, 4),
    "uint4 with a zero point": (TensorProto.UINT4, 0, 15, 8, 5),
    "uint4 within 4 bits": (TensorProto.UINT4, 1, 15, 8, 4),
    "int2": (26, -1, 1, None, 2),
    "uint8 with a zero point": (TensorProto.UINT8, 30, 255, 128, 8),
}


@pytest.mark.parametrize("name", TYPES)
def test_types_of_weights(name: str, tmp_path: Path) -> None:
    """Types narrower than a byte, packed; INT2 came with opset 25, which onnxruntime need not know."""
    element, low, high, zero, bits = TYPES[name]
    graph = Graph(["batch", 5], opset=25 if element == 26 else 21)
    w = np.random.default_rng(0).integers(low, high + 1, (5, 3))
    w[0, 0], w[1, 1] = low, high
    matrix = graph.weight(w, [0.1, 0.2, 0.3], axis=1, element=element, zero=zero)
    output = graph.add("MatMul", [graph.qcdq("x", 0.1, signed=True), matrix])
    if element == 26:
        network = read_onnx(graph.save(output, tmp_path / "net.onnx"))
    else:
        network = checked(graph, output, samples(2, 5))
    (layer,) = network.crossbar_nodes()
    assert np.array_equal(layer.tensors["weight"].numpy().T, w - (zero or 0))
    assert layer.crossbar.weight_bits == bits


def test_bias_of_integers() -> None:
    graph = Graph(["batch", 6])
    bias = graph.tensor(np.array([1000, -70000, 3], np.int32))
    q = graph.add("DequantizeLinear", [bias, graph.tensor(np.float32(0.001)), graph.tensor(np.int32(0))])
    w = graph.weight(integers((3, 6), 8), 0.01)
    network = checked(graph, graph.add("Gemm", [graph.qcdq("x", 0.1), w, q], transB=1), samples(2, 6))
    (layer,) = network.crossbar_nodes()
    assert layer.tensors["bias"].numpy().tolist() == [np.float32(v) * np.float32(0.001) for v in (1000, -70000, 3)]


def test_dyadic_scales_give_the_same_bits_from_end_to_end(tmp_path: Path) -> None:
    """Where no operation rounds, executor and onnxruntime agree to the last bit, over several layers of all widths."""
    for width in range(2, 9):
        graph = Graph(["batch", 3, 8, 8])
        x = graph.qcdq("x", 2.0**-5, 8)
        for i, (inputs, outputs) in enumerate([(3, 4), (4, 6)]):
            w = graph.weight(integers((outputs, inputs, 3, 3), width, i), 2.0**-width, width)
            x = graph.add("Relu", [graph.add("Conv", [x, w], pads=[1, 1, 1, 1])])
            x = graph.qcdq(x, 2.0 ** (2 - width), width, signed=False)
            x = graph.add("MaxPool", [x], kernel_shape=[2, 2], strides=[2, 2])
        x = graph.add("Flatten", [x])
        shortcut = graph.qcdq(graph.add("Gemm", [x, graph.weight(integers((24, 24), width, 7), 0.125, width)]), 0.5)
        x = graph.qcdq(graph.add("Add", [x, shortcut]), 0.25, width)
        x = graph.add("Gemm", [x, graph.weight(integers((24, 5), width, 9), 0.25, width)])
        path = graph.save(x, tmp_path / f"{width}.onnx")
        net, images = cimq.load_onnx(path), samples(5, 3, 8, 8)
        assert net.policy.pairs()[1:] == [(width, width), (width, width), (width, width)]
        assert np.array_equal(net.run(images), run(path, images)), width


# ---- forms ----


@given(st.integers(-255, 255), st.integers(0, 255))
def test_every_range_of_an_input_has_a_form(low: int, extent: int) -> None:
    grid = Grid(0.1, low, low + extent)
    whole = (min(low, 0), max(low + extent, 0))
    if whole[1] - whole[0] > 255:
        return
    form = input_form(grid)
    first = -(2 ** (form.bits - 1)) if form.signed else form.zero
    last = first + 2**form.bits - 1
    assert first <= whole[0] <= 0 <= whole[1] <= last  # 0, which padding needs, is among the integers
    assert form.exact == ((first, last) == (grid.low, grid.high))
    assert 2 ** (form.bits - 1) <= whole[1] - whole[0] or form.bits == 1
    assert form.zero == 0 if form.signed else -(2**form.bits - 1) <= form.zero <= 0


@given(st.integers(1, 254), st.integers(0, 999))
def test_weights_of_every_magnitude_are_held(largest: int, seed: int) -> None:
    drawn = np.random.default_rng(seed).integers(-largest, largest + 1, 20).astype(np.int32)
    drawn[0] = -largest
    parts = weight_parts(drawn, -largest, largest)
    assert np.array_equal(sum(part for part, _ in parts), drawn)
    for part, bits in parts:
        assert 2 <= bits <= 8
        assert np.abs(part).max() <= 2 ** (bits - 1) - 1
    assert len(parts) == 1 + int(largest > 127)


def test_widths() -> None:
    assert [stored_bits(*bounds) for bounds in [(-8, 7), (-7, 7), (0, 7), (-1, 1), (-1, 0), (0, 255)]] == [
        4,
        4,
        4,
        2,
        2,
        9,
    ]
    assert [symmetric_bits(largest) for largest in (0, 1, 2, 7, 8, 127, 128)] == [2, 2, 3, 4, 5, 8, 9]
