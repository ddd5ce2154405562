"""Networks as the compiler sees them: shapes and bits; weights are not looked at."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch

from cimq.bundle.network import CrossbarFacts, Network, Node

Bits = Sequence[tuple[int, int]]
_TENSORS = {role: torch.zeros(1) for role in ("weight", "x_scale", "multiplier", "bias")}
_OF_PRODUCTS = {role: torch.zeros(1) for role in ("x_scale", "w_scale", "multiplier")}


class Builder:
    """Adds nodes one after the other.

    Args:
        bits: (weight bits, activation bits) of the crossbar layers, in the order in which they are added; one pair for
            all of them.
        shape: Of the input "x", without the batch.
    """

    def __init__(self, bits: Bits | tuple[int, int], shape: tuple[int, ...]) -> None:
        self._bits = bits
        self._nodes: list[Node] = []
        self._layers = 0
        self.shapes: dict[str, tuple[int, ...]] = {"x": shape}

    def add(self, node: Node) -> str:
        """Adds a node; its name."""
        self._nodes.append(node)
        self.shapes[node.name] = node.shape
        return node.name

    def _facts(self, name: str, outputs: int, inputs: int, vectors: int, repeats: int = 1) -> CrossbarFacts:
        pair: Any = self._bits if isinstance(self._bits[0], int) else self._bits[self._layers]
        self._layers += 1
        return CrossbarFacts(name, self._layers - 1, *pair, False, outputs, inputs, vectors, repeats)

    def conv(self, name: str, source: str, outputs: int, kernel: int, stride: int, pad: int | None = None) -> str:
        """A convolution with square windows, padded to keep the size unless `pad` says otherwise."""
        channels, height, width = self.shapes[source]
        pad = kernel // 2 if pad is None else pad
        size = [(side + 2 * pad - kernel) // stride + 1 for side in (height, width)]
        attrs = {
            "kernel": [kernel, kernel],
            "stride": [stride, stride],
            "padding": [pad] * 4,
            "dilation": [1, 1],
            "groups": 1,
        }
        facts = self._facts(name, outputs, channels * kernel**2, math.prod(size))
        return self.add(Node(name, "crossbar_conv2d", (source,), (outputs, *size), attrs, _TENSORS, facts))

    def linear(self, name: str, source: str, outputs: int) -> str:
        """A linear layer."""
        *rows, inputs = self.shapes[source]
        facts = self._facts(name, outputs, inputs, math.prod(rows))
        return self.add(Node(name, "crossbar_linear", (source,), (*rows, outputs), {}, _TENSORS, facts))

    def product(self, name: str, x: str, w: str) -> str:
        """A product of two values, x [heads, rows, inputs] and w [heads, outputs, inputs]."""
        (heads, rows, inputs), (_, outputs, _) = self.shapes[x], self.shapes[w]
        facts = self._facts(name, outputs, inputs, rows, heads)
        return self.add(Node(name, "crossbar_matmul", (x, w), (heads, rows, outputs), {}, _OF_PRODUCTS, facts))

    def operation(
        self, name: str, op: str, sources: tuple[str, ...], shape: tuple[int, ...] | None = None, **attrs: Any
    ) -> str:
        """Any other node; in the shape of its first input unless `shape` says otherwise."""
        return self.add(Node(name, op, sources, self.shapes[sources[0]] if shape is None else shape, attrs))

    def constant(self, name: str, shape: tuple[int, ...]) -> str:
        """A parameter."""
        return self.add(Node(name, "constant", (), shape, {}, {"value": torch.zeros(1)}))

    def network(self) -> Network:
        """What was added; the last node is the output."""
        return Network("x", self.shapes["x"], self._nodes[-1].name, tuple(self._nodes))
