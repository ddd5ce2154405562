"""What a strategy is: an object that proposes policies and observes what was measured of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Protocol

from cimq.policy_search.budget import Budget
from cimq.policy_search.evaluators import Evaluator
from cimq.policy_search.knapsack import Sensitivity, measure_sensitivity
from cimq.policy_search.records import Evaluation
from cimq.policy_search.reward import AnyReward, Reward
from cimq.policy_search.space import Pairs, SearchSpace


@dataclasses.dataclass(frozen=True)
class Proposal:
    """A policy to measure.

    Attributes:
        policy: (weight bits, activation bits) per layer.
        strategy: Recorded as the proposer.
        episode: The agent's episode; None for other proposals.
    """

    policy: Pairs
    strategy: str
    episode: int | None = None


class Strategy(Protocol):
    """Proposes and observes, in turn. What it proposes does not depend on how many are measured at a time."""

    def propose(self, count: int) -> list[Proposal]:
        """At most `count` policies that can be measured side by side; none where nothing is left to propose."""
        ...

    def observe(self, results: Sequence[Evaluation]) -> None:
        """Takes results: before the first proposal, of what others measured; then of all that it has just proposed, in
        that order (of fewer where the budget ended: there is no further proposal then).
        """
        ...


@dataclasses.dataclass(frozen=True)
class StrategyTask:
    """What strategies are told besides results.

    Attributes:
        space: What may be proposed.
        budget: What may still be measured, for schedules.
        seed: Of everything random.
        batch: Policies per update of the agent, at least 2.
        sensitivities: For a warm start: measures policies on fewer samples. None: the start is cold.
        reward: What is to be made large, and within which cost (`limit`): no proposal is beyond.
        known: Sensitivities that were measured with it before.
    """

    space: SearchSpace
    budget: Budget
    seed: int = 0
    batch: int = 8
    sensitivities: Evaluator | None = None
    reward: AnyReward = dataclasses.field(default_factory=lambda: Reward(1.0))
    known: Sensitivity | None = None

    def fitting(self, policy: Pairs) -> Pairs:
        """The policy, or the nearest one whose cost may be proposed."""
        limit = self.reward.limit
        return policy if limit is None else limit.nearest(policy)

    def sensitivity(self) -> Sensitivity | None:
        """Sensitivities, which are measured once: what is chosen for them depends on what is left of the budget."""
        return self.known or measure_sensitivity(self.space, self.sensitivities, self.budget)
