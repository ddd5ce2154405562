"""ResNet-18 at 224 x 224 as the compiler sees it: shapes and bits; weights are not looked at."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from cimq.bundle.network import CrossbarFacts, Network, Node

Bits = Sequence[tuple[int, int]]
_TENSORS = {role: torch.zeros(1) for role in ("weight", "x_scale", "multiplier", "bias")}


class _Builder:
    def __init__(self, bits: Bits) -> None:
        self._bits = list(bits)
        self._nodes: list[Node] = []
        self._shapes: dict[str, tuple[int, ...]] = {"x": (3, 224, 224)}

    def _add(self, node: Node) -> str:
        self._nodes.append(node)
        self._shapes[node.name] = node.shape
        return node.name

    def _facts(self, name: str, outputs: int, inputs: int, vectors: int) -> CrossbarFacts:
        index = sum(node.crossbar is not None for node in self._nodes)
        return CrossbarFacts(name, index, *self._bits[index], False, outputs, inputs, vectors, 1)

    def conv(self, name: str, source: str, outputs: int, kernel: int, stride: int) -> str:
        channels, height, width = self._shapes[source]
        pad = kernel // 2
        size = [(side + 2 * pad - kernel) // stride + 1 for side in (height, width)]
        attrs = {
            "kernel": [kernel, kernel],
            "stride": [stride, stride],
            "padding": [pad] * 4,
            "dilation": [1, 1],
            "groups": 1,
        }
        facts = self._facts(name, outputs, channels * kernel**2, math.prod(size))
        return self._add(Node(name, "crossbar_conv2d", (source,), (outputs, *size), attrs, _TENSORS, facts))

    def operation(self, name: str, op: str, sources: tuple[str, ...]) -> str:
        return self._add(Node(name, op, sources, self._shapes[sources[0]]))

    def block(self, name: str, source: str, outputs: int, stride: int) -> str:
        shortcut = source
        if stride != 1:
            shortcut = self.conv(f"{name}.downsample", source, outputs, 1, stride)
        first = self.conv(f"{name}.conv1", source, outputs, 3, stride)
        second = self.conv(f"{name}.conv2", self.operation(f"{name}.relu1", "relu", (first,)), outputs, 3, 1)
        both = self.operation(f"{name}.add", "add", (second, shortcut))
        return self.operation(f"{name}.relu2", "relu", (both,))

    def network(self) -> Network:
        last = self.operation("relu", "relu", (self.conv("conv1", "x", 64, 7, 2),))
        pool = {"kernel": [3, 3], "stride": [2, 2], "padding": [1, 1], "dilation": [1, 1]}
        last = self._add(Node("maxpool", "max_pool2d", (last,), (64, 56, 56), pool))
        for stage, outputs in enumerate((64, 128, 256, 512), start=1):
            for number in (0, 1):
                stride = 2 if stage > 1 and number == 0 else 1
                last = self.block(f"layer{stage}.{number}", last, outputs, stride)
        last = self._add(Node("avgpool", "adaptive_avg_pool2d", (last,), (512, 1, 1), {"size": [1, 1]}))
        last = self._add(Node("flatten", "flatten", (last,), (512,)))
        facts = self._facts("fc", 1000, 512, 1)
        self._add(Node("fc", "crossbar_linear", (last,), (1000,), {}, _TENSORS, facts))
        return Network("x", (3, 224, 224), "fc", tuple(self._nodes))


def resnet18(bits: Bits) -> Network:
    """The network with (weight bits, activation bits) of its 21 layers.

    In the order of tests/data/policies_date2026.json: shortcuts before the convolutions of their blocks.
    """
    return _Builder(bits).network()
