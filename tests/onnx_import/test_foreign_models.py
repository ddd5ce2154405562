"""Models that other tools made: executed, compared with onnxruntime, compiled, costed."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from comparison import check_layers, run
from foreign_models import MADE, images

import cimq
from cimq.errors import CimqWarning

# Layers on crossbars, (weight bits, activation bits) of the first and the last, nodes in float32.
EXPECTED: dict[str, tuple[int, tuple[int, int], tuple[int, int], int]] = {
    "onnxruntime, u8 s8, opset 13": (5, (8, 8), (8, 8), 0),
    "onnxruntime, s8 s8 per channel": (5, (8, 8), (8, 8), 0),
    "onnxruntime, symmetric activations": (5, (8, 8), (8, 8), 0),
    "onnxruntime, asymmetric weights": (10, (8, 8), (7, 8), 0),  # each as two matrices
    "onnxruntime, reduced range": (5, (8, 8), (8, 8), 0),
    "onnxruntime, 4-bit weights": (5, (5, 8), (5, 8), 0),  # -8 occurs
    "onnxruntime, unsigned 4-bit weights": (5, (5, 8), (5, 8), 0),
    "onnxruntime, MobileNet block": (7, (8, 8), (8, 8), 0),
    "onnxruntime, transformer block": (10, (8, 8), (8, 8), 0),  # each product of attention as two matrices
    "onnxruntime, transformer block, layers only": (10, (8, 8), (8, 8), 0),
    "torch.onnx, fake-quantised": (6, (8, 8), (2, 8), 0),  # -128 occurs
    "torch.onnx, 7 bits, any batch": (6, (8, 7), (2, 7), 0),
    "brevitas block w3a5": (4, (3, 8), (3, 5), 1),  # its last layer has an input that is not quantised
    "brevitas block w6a7": (4, (6, 8), (6, 7), 1),
    "brevitas w2a3": (3, (8, 8), (2, 3), 0),
    "brevitas w4a4": (3, (8, 8), (4, 4), 0),
    "brevitas w8a8": (3, (8, 8), (8, 8), 0),
    "dynamo fake quantised": (6, (8, 8), (2, 8), 0),
    "dynamo transformer": (10, (8, 8), (8, 8), 0),
}


def last_step(path: Path) -> float | None:
    """Scale of the output where it is quantised."""
    graph = onnx.load(path).graph
    last = graph.node[-1]
    if last.op_type != "DequantizeLinear":
        return None
    scales = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
    return float(scales[last.input[1]])


def loaded(path: Path, **options: Any) -> tuple[cimq.bundle.Bundle, str]:
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always", CimqWarning)
        bundle = cimq.load_onnx(path, threads=1, **options)
    return bundle, "\n".join(str(warning.message) for warning in said if warning.category is CimqWarning)


def test_every_model_is_expected() -> None:
    assert MADE.keys() == EXPECTED.keys()


@pytest.mark.parametrize("name", MADE)
def test_model(name: str, tmp_path: Path) -> None:
    path = MADE[name](tmp_path / "net.onnx")
    x = np.concatenate([images(1, seed) for seed in range(3)])
    layers, first, last, in_float32 = EXPECTED[name]
    checks = check_layers(
        path, x[: 1 + ("dynamo transformer" in name)], tmp_path / "layers"
    )  # integers exact, results within rounding
    net, said = loaded(path)
    assert len(net.layers) == layers
    weighted = [layer for layer in net.layers if layer.op != "crossbar_matmul"]
    assert len(checks) == sum(not layer.name.endswith(".rest") for layer in weighted)
    assert (net.policy[net.layers[0].name], net.policy[net.layers[-1].name]) == (first, last)
    assert ("left in float32" in said) == (in_float32 > 0)
    assert said.count("(") - said.count("(2^(") >= in_float32

    # End to end a value at the edge of a step may fall into the next: a few steps of the output at most.
    y = net.run(x)
    wanted = np.concatenate([run(path, sample[None]) for sample in x])
    step = last_step(path)
    assert np.abs(y - wanted).max() <= (4 * step if step else 0.02 * np.abs(wanted).max())
    assert np.array_equal(np.concatenate([net.run(sample[None]) for sample in x]), y)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CimqWarning)
        program, report = cimq.compile(path), cimq.latency(path)
    assert report.time_us == program.latency.time_us == cimq.latency(net).time_us > 0
    assert [(layer.weight_bits, layer.act_bits) for layer in program.layers] == net.policy.pairs()
    assert net.manifest["latency"]["mvms"] == program.mvms == report.mvms


def test_quantisers_of_brevitas_become_no_nodes(tmp_path: Path) -> None:
    """ReLU, pooling and reshape stand between quantiser and layer or before it; the integers are the same."""
    net, said = loaded(MADE["brevitas w4a4"](tmp_path))
    assert not said
    assert [layer.act_signed for layer in net.layers] == [True, False, False]
    assert net.policy.pairs() == [(8, 8), (4, 4), (4, 4)]
    other = cimq.load_onnx(MADE["brevitas w4a4"](tmp_path), net.hardware.replace(rows=16, cols=16, cell_bits=2))
    assert np.array_equal(other.run(images(2)), net.run(images(2)))
    assert cimq.latency(other).time_us > cimq.latency(net).time_us


def test_lossy_converters_change_the_result(tmp_path: Path) -> None:
    path = MADE["brevitas w8a8"](tmp_path)
    exact = cimq.load_onnx(path)
    lossy = cimq.load_onnx(path, exact.hardware.replace(rows=32, adc={"bits": 6}))
    y, other = exact.run(images(4)), lossy.run(images(4))
    assert not np.array_equal(y, other)
    assert np.abs(y - other).max() < 2 * np.abs(y).max()
