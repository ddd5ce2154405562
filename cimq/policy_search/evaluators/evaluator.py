"""What an evaluator is."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple, Protocol

from cimq.policy_search.space import Pairs


class Units(NamedTuple):
    """Damages sample by sample, or batch by batch where samples have none of their own.

    Attributes:
        values: Sums over the samples of a unit.
        weights: How many samples each has.
    """

    values: tuple[float, ...]
    weights: tuple[float, ...]


class Measured(NamedTuple):
    """What is known of a policy once it was measured.

    Attributes:
        accuracy: As a fraction (or the user's metric).
        damage: Mean distance of the outputs from those of the fp32 model, 0 or more: it has far less scatter than an
            accuracy, so that it tells policies apart that an accuracy does not.
        share: How much of the search-validation set was gone through for it.
        units: What the damage is the mean of, where it was measured on a part of the set.
    """

    accuracy: float
    damage: float
    share: float = 1.0
    units: Units | None = None


class Evaluator(Protocol):
    """Anything that measures policies."""

    def measure(self, policies: Sequence[Pairs]) -> Iterable[Measured]:
        """Measures every policy, in their order and each as soon as it is known.

        What is found is a function of its policy alone, whatever was measured before or is measured beside it; so
        policies may be measured in parallel.
        """
        ...
