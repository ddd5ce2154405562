"""All uniform policies: one weight width and one activation width for every layer that is free."""

from __future__ import annotations

from collections.abc import Sequence

from cimq.policy_search.records import Evaluation
from cimq.policy_search.strategies.strategy import Proposal, StrategyTask


class Uniform:
    """The grid of W x A, the most accurate first, as far as the budget goes."""

    def __init__(self, task: StrategyTask) -> None:
        space = task.space
        grid = [(w, a) for w in space.weight_widths for a in space.act_widths]
        ordered = sorted(grid, key=lambda pair: (-sum(pair), -pair[0]))
        self._rest = [Proposal(space.uniform(weight, act), "uniform") for weight, act in ordered]

    def propose(self, count: int) -> list[Proposal]:
        """The next of the grid."""
        proposals, self._rest = self._rest[:count], self._rest[count:]
        return proposals

    def observe(self, results: Sequence[Evaluation]) -> None:
        """Learns nothing."""
