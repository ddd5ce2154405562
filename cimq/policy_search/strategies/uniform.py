"""All uniform policies: one weight width and one activation width for every layer that is free."""

from __future__ import annotations

from collections.abc import Sequence

from cimq.policy_search.records import Evaluation
from cimq.policy_search.space import Pairs
from cimq.policy_search.strategies.strategy import Proposal, StrategyTask


class Uniform:
    """The grid of W x A, the most accurate first, as far as the budget goes; each policy in canonical form, once."""

    def __init__(self, task: StrategyTask) -> None:
        space = task.space
        grid = [(w, a) for w in space.weight_widths for a in space.act_widths]
        ordered = sorted(grid, key=lambda pair: (-sum(pair), -pair[0]))
        policies = dict.fromkeys(space.canonical(space.uniform(weight, act)) for weight, act in ordered)
        limit = task.reward.limit
        self._rest = [Proposal(p, "uniform") for p in policies if limit is None or limit.fits(p)]
        self._known: set[Pairs] = set()

    def propose(self, count: int) -> list[Proposal]:
        """The next of the grid."""
        new = [proposal for proposal in self._rest if proposal.policy not in self._known]
        proposals, self._rest = new[:count], new[count:]
        return proposals

    def observe(self, results: Sequence[Evaluation]) -> None:
        """Learns nothing but what is known."""
        self._known.update(result.policy for result in results)
