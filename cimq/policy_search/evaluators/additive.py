"""The lowest rung: the sum of what every layer does alone."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from cimq.policy_search.evaluators.evaluator import Measured
from cimq.policy_search.knapsack import Sensitivity
from cimq.policy_search.space import Pairs, SearchSpace


class AdditiveProxy:
    """Damages from sensitivities alone; accuracies are not known, and not a number.

    Args:
        space: The search space, which the policies must be of.
        sensitivity: Of its slots.
    """

    def __init__(self, space: SearchSpace, sensitivity: Sensitivity) -> None:
        self._space = space
        self._sensitivity = sensitivity

    def measure(self, policies: Sequence[Pairs]) -> Iterator[Measured]:
        """At once."""
        for policy in policies:
            pairs = [policy[slot.layers[0]] for slot in self._space.slots]
            yield Measured(math.nan, sum(self._sensitivity.of(index, pair) for index, pair in enumerate(pairs)))
