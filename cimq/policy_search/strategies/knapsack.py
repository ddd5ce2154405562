"""The exact knapsack of the sensitivities, without learning: what a search must beat to be worth its name."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from cimq.policy_search.knapsack import assumed_sensitivity, knapsack_path
from cimq.policy_search.records import Evaluation
from cimq.policy_search.strategies.knapsack_walk import KnapsackWalk
from cimq.policy_search.strategies.strategy import Proposal, StrategyTask

# Near the target every policy of the front is looked at, away from it one in so much of the distance.
_GROWTH = 0.1


class Knapsack:
    """Bisects the front of the sensitivities to the target, then looks further and further along it on both sides.

    Without sensitivities all layers are taken as alike. Within a cost, the part of the front that fits is looked at,
    from its least damaged policy on.
    """

    def __init__(self, task: StrategyTask) -> None:
        self._task = task
        self._walk: KnapsackWalk | None = None
        self._known: list[Evaluation] = []

    def propose(self, count: int) -> list[Proposal]:
        """One policy of the bisection, or the next on the front."""
        if self._walk is None:
            task = self._task
            sensitivity = task.sensitivity() or assumed_sensitivity(task.space)
            path = knapsack_path(task.space, sensitivity)
            # The budget ends it: where candidates race, it may be enough for more than are left now.
            self._walk = KnapsackWalk(path, len(path), _outwards(len(path)), task.reward.limit)
            self._walk.observe(self._known)
        return self._walk.propose(count)

    def observe(self, results: Sequence[Evaluation]) -> None:
        """Takes in results."""
        if self._walk is None:
            self._known += results
        else:
            self._walk.observe(results)


def _outwards(length: int) -> Iterator[int]:
    """0, then steps to both sides that grow."""
    yield 0
    step = 1.0
    while step < length:
        yield int(step)
        yield -int(step)
        step += max(1.0, _GROWTH * step)
