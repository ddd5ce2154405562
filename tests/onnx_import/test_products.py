"""MatMul of two values: on crossbars where both are quantised, with the numbers of onnxruntime."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from comparison import run
from graphs import Graph

import cimq

TOKENS, WIDTH = 3, 5


def samples(count: int = 4, heads: int = 2) -> Any:
    return np.random.default_rng(1).normal(size=(count, heads, TOKENS, WIDTH)).astype(np.float32) * 3


def loaded(path: Path) -> tuple[cimq.bundle.Bundle, str]:
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always", cimq.CimqWarning)
        bundle = cimq.load_onnx(path, threads=1)
    return bundle, "\n".join(str(warning.message) for warning in said if warning.category is cimq.CimqWarning)


# Quantisers of both inputs -> bits of the layers: (second input, first input).
CASES = {
    "narrow": ({"narrow": True}, {"narrow": True}, [(8, 8)]),
    "4 bits, the lowest integer occurs": ({"bits": 4}, {"bits": 4}, [(5, 4)]),
    "4 bits without it": ({"bits": 5}, {"bits": 4, "narrow": True}, [(4, 5)]),
    "unsigned left": ({"signed": False}, {"bits": 3, "narrow": True}, [(3, 8)]),
    "int8": ({}, {}, [(8, 8), (2, 8)]),
    "zero points": ({"signed": False, "zero": 100}, {"signed": False, "zero": 120}, [(8, 8), (5, 8)]),
}


@pytest.mark.parametrize("case", CASES)
def test_numbers_of_onnxruntime(case: str, tmp_path: Path) -> None:
    """Scales are powers of two: nothing is rounded but the integers, and both agree bit for bit."""
    left, right, bits = CASES[case]
    graph = Graph(["B", 2, TOKENS, WIDTH])
    a = graph.qcdq("x", 0.0625, **left)
    b = graph.add("Transpose", [graph.qcdq("x", 0.03125, **right)], perm=[0, 1, 3, 2])
    path = graph.save(graph.add("MatMul", [a, b]), tmp_path / "net.onnx")
    net, said = loaded(path)
    assert net.policy.pairs() == bits
    assert "left in float32" not in said
    assert ("two matrices" in said) == (len(bits) > 1)
    x = samples()
    assert np.array_equal(net.run(x), run(path, x))
    assert cimq.latency(net).writes == 2 * len(bits)  # a tile for each of two heads


def test_shapes_that_are_repeated(tmp_path: Path) -> None:
    """One matrix for all heads, and without heads."""
    graph = Graph(["B", 2, TOKENS, WIDTH])
    one = graph.add("Slice", ["x", *(graph.tensor(np.array([end], np.int64)) for end in (0, 1, 1))])
    b = graph.add("Transpose", [graph.qcdq(one, 0.125, narrow=True)], perm=[0, 1, 3, 2])
    path = graph.save(graph.add("MatMul", [graph.qcdq("x", 0.0625), b]), tmp_path / "heads.onnx")
    net, _ = loaded(path)
    assert np.array_equal(net.run(samples()), run(path, samples()))
    flat = Graph(["B", TOKENS, WIDTH])
    b = flat.add("Transpose", [flat.qcdq("x", 0.125, narrow=True)], perm=[0, 2, 1])
    path = flat.save(flat.add("MatMul", [flat.qcdq("x", 0.0625), b]), tmp_path / "flat.onnx")
    net, _ = loaded(path)
    x = samples()[:, 0]
    assert np.array_equal(net.run(x), run(path, x))


@pytest.mark.parametrize("quantised", [(True, False), (False, True)])
def test_what_is_not_quantised_stays_in_float32(quantised: tuple[bool, bool], tmp_path: Path) -> None:
    graph = Graph(["B", 2, TOKENS, WIDTH])
    a, b = (graph.qcdq("x", 0.0625, narrow=True) if one else "x" for one in quantised)
    product = graph.add("MatMul", [a, graph.add("Transpose", [b], perm=[0, 1, 3, 2])])
    weight = graph.weight(np.ones((TOKENS, 2), np.int8), 0.5)
    path = graph.save(graph.add("MatMul", [graph.qcdq(product, 0.25), weight]), tmp_path / "net.onnx")
    net, said = loaded(path)
    assert len(net.layers) == 1
    assert "a product of two values that are not both quantised" in said
