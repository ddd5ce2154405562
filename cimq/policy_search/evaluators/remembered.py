"""Measurements that several ask for are made once, and counted once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from cimq.policy_search.budget import Budget
from cimq.policy_search.evaluators.evaluator import Evaluator, Measured
from cimq.policy_search.space import Pairs


class Remembered:
    """An evaluator on a part of the search-validation set that knows what it has measured.

    Whoever asks for sensitivities counts all that he asks for; what was known already is given back to the budget here.

    Args:
        evaluator: Measures.
        budget: In which sensitivities are counted.
    """

    def __init__(self, evaluator: Evaluator, budget: Budget) -> None:
        self._evaluator = evaluator
        self._budget = budget
        self._known: dict[Pairs, Measured] = {}

    def measure(self, policies: Sequence[Pairs]) -> Iterator[Measured]:
        """In order, what is new as soon as it is known."""
        new = [policy for policy in dict.fromkeys(policies) if policy not in self._known]
        self._budget.sensitivities -= len(policies) - len(new)
        return self._each(policies, new)

    def _each(self, policies: Sequence[Pairs], new: Sequence[Pairs]) -> Iterator[Measured]:
        found = iter(self._evaluator.measure(new))
        for policy in policies:
            if policy not in self._known:
                self._known[policy] = next(found)
            yield self._known[policy]
