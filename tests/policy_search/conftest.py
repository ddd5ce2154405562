"""A made-up network: its accuracy is a known function of the policy."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from cimq.cost_model import LayerShape
from cimq.policy_search import SearchSpace
from cimq.policy_search.evaluators import Measured
from cimq.policy_search.space import Pairs

sys.path.insert(0, str(Path(__file__).parent))

TOP = 0.93
SHAPES = [
    LayerShape("stem", "conv2d", 64, 147, 3136),
    LayerShape("a", "conv2d", 64, 576, 784),
    LayerShape("b", "conv2d", 128, 576, 196),
    LayerShape("c", "conv2d", 128, 1152, 196),
    LayerShape("d", "conv2d", 256, 1152, 49),
    LayerShape("e", "conv2d", 256, 2304, 49),
    LayerShape("fc", "linear", 10, 256, 1),
]


class Surrogate:
    """Evaluator without noise: noise power of every layer, more in some than in others; neighbours interact a little.

    Attributes:
        calls: Policies measured.
        interrupt_at: Call that is interrupted as by Ctrl-C.
    """

    def __init__(self, interrupt_at: int | None = None) -> None:
        self.calls = 0
        self.interrupt_at = interrupt_at

    def damage(self, pairs: Sequence[tuple[int, int]]) -> float:
        lost = before = 0.0
        for index, (weight, act) in enumerate(pairs):
            noise = 0.4 * math.exp(math.sin(3.0 * index)) * (4.0**-weight + 1.5 * 4.0**-act)
            lost += noise + 0.3 * math.sqrt(noise * before)
            before = noise
        return lost

    def measured(self, pairs: Sequence[tuple[int, int]]) -> Measured:
        if self.calls == self.interrupt_at:
            raise KeyboardInterrupt
        self.calls += 1
        damage = self.damage(pairs)
        return Measured(TOP - damage, damage)

    def measure(self, policies: Sequence[Pairs]) -> Iterator[Measured]:
        return map(self.measured, policies)


@pytest.fixture
def space() -> SearchSpace:
    return SearchSpace(SHAPES, "paper")


@pytest.fixture
def surrogate() -> Callable[..., Surrogate]:
    return Surrogate
