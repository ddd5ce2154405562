"""What an evaluator is."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

from cimq.policy_search.space import Pairs


class Measure(Protocol):
    """Anything that measures policies."""

    def measure(self, policies: Sequence[Pairs]) -> Iterable[float]:
        """A number for every policy, in their order and each as soon as it is known.

        A number is a function of its policy alone, whatever was measured before or is measured beside it; so policies
        may be measured in parallel.
        """
        ...


class Evaluator(Measure, Protocol):
    """Measures accuracy. `samples` is the size of the set that it measures on."""

    samples: int
