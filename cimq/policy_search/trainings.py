"""The short trainings of a search: by workers, each policy once, and kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager

from torch import Tensor, nn

from cimq.policy_search.confirmation import Confirmed
from cimq.policy_search.space import Pairs
from cimq.policy_search.trained_policies import TrainedPolicies, TrainedWeights
from cimq.policy_search.workers import Call, Pool


class Trainings:
    """Trains policies on demand, or ahead of it.

    What is trained ahead has no influence on what a search finds: a training is a function of its policy.

    Args:
        pool: The workers.
        tool: Name of a `ShortTraining` that they have.
        kept: What was trained before.
        model: `model(policy, state)` makes the trained model.
        shown: `shown()` is entered while a policy is waited for.
    """

    def __init__(
        self,
        pool: Pool,
        tool: str,
        kept: TrainedPolicies,
        model: Callable[[Pairs, dict[str, Tensor]], nn.Module],
        shown: Callable[[], AbstractContextManager[None]],
    ) -> None:
        self._pool = pool
        self._tool = tool
        self._kept = kept
        self._model = model
        self._shown = shown
        self._begun: dict[Pairs, int] = {}  # tickets of what is being trained

    def ahead(self, policies: Sequence[Pairs]) -> None:
        """Begins to train policies that may be asked for, the likeliest first, as far as workers would idle."""
        idle = self._pool.width - self._pool.busy if self._pool.width > 1 else 0
        for policy in policies:
            if idle > 0 and policy not in self._begun and self._kept.find(policy) is None:
                self._begin(policy)
                idle -= 1

    def __call__(self, policy: Pairs) -> tuple[Confirmed, nn.Module]:
        """What the confirmation set says of a policy after training, and the trained model."""
        weights = self._kept.find(policy)
        if weights is None:
            if policy not in self._begun:
                self._begin(policy)
            with self._shown():
                weights = TrainedWeights(*self._pool.result(self._begun.pop(policy)))
            self._kept.keep(policy, weights)
        return weights.confirmed, self._model(policy, weights.state)

    def _begin(self, policy: Pairs) -> None:
        (self._begun[policy],) = self._pool.submit([Call(self._tool, "train", (policy,))])
