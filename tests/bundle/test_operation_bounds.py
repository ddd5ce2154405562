"""Bounds of the operations that networks of other tools bring: errors of the inputs, passed on, stay within them."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cimq.bundle.network import Node
from cimq.bundle.operations import OPERATIONS
from cimq.bundle.operations.registry import Operand

Array = np.ndarray[Any, Any]
SCALE = 0.3
NODES: dict[str, tuple[Node, Callable[..., Any]]] = {
    "erf": (Node("n", "erf", ("a",), (4, 4)), np.vectorize(math.erf)),
    "sqrt": (Node("n", "sqrt", ("a",), (4, 4)), np.sqrt),
    "fake_quantize": (
        Node("n", "fake_quantize", ("a",), (4, 4), {"low": -3, "high": 9}, {"scale": torch.tensor(SCALE)}),
        lambda a: SCALE * np.clip(np.rint(a / SCALE), -3, 9),
    ),
    "matmul": (Node("n", "matmul", ("a", "b"), (4, 4)), np.matmul),
}


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(sorted(NODES)), st.integers(0, 9999), st.sampled_from([0.0, 1e-6, 1e-3, 0.4]))
def test_errors_stay_within_the_bound(op: str, seed: int, error: float) -> None:
    node, function = NODES[op]
    random = np.random.default_rng(seed)
    values, moved, operands = [], [], []
    for _ in node.inputs:
        value = random.standard_normal((2, 4, 4)) * 2
        value = np.abs(value) + error if op == "sqrt" else value  # as long as the moved one has a root
        values.append(value)
        moved.append(value + random.uniform(-error, error, value.shape))
        operands.append(Operand(float(np.abs(value).max()), error, value))
    bound = OPERATIONS[op].bound
    assert bound is not None
    assert np.abs(function(*values) - function(*moved)).max() <= bound(node, operands)
    assert bound(node, operands) < 1e-3 or error > 0
