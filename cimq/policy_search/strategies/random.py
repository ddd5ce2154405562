"""Random search over the masked space: the sanity floor of every comparison."""

from __future__ import annotations

from collections.abc import Sequence

from cimq._C import Reinforce as Sampler
from cimq.policy_search.records import Evaluation
from cimq.policy_search.space import Pairs
from cimq.policy_search.strategies.strategy import Proposal, StrategyTask

_STALE_DRAWS = 1000


class Random:
    """Every head draws uniformly from its allowed choices; what is known already is drawn over.

    Within a cost, what is drawn beyond it becomes the nearest policy within.
    """

    def __init__(self, task: StrategyTask) -> None:
        self._task = task
        self._sampler = Sampler(task.space.masks, seed=task.seed)
        self._known: set[Pairs] = set()
        self._stale = 0

    def propose(self, count: int) -> list[Proposal]:
        """New policies; none after many draws in a row without one."""
        proposals: list[Proposal] = []
        while len(proposals) < count and self._stale < _STALE_DRAWS:
            episode = self._sampler.episode
            policy = self._task.fitting(self._task.space.decode(self._sampler.sample(1)[0]))
            if policy in self._known:
                self._stale += 1
                continue
            self._stale = 0
            self._known.add(policy)
            proposals.append(Proposal(policy, "random", episode))
        return proposals

    def observe(self, results: Sequence[Evaluation]) -> None:
        """Learns nothing but what is known."""
        self._known.update(result.policy for result in results)
