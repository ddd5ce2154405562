"""Racing: candidates that a part of the search-validation set can tell from the target are not measured on all of it.

What a search wants to know of most candidates is on which side of the target their damage lies, and how far. On a large
set a quarter tells that of all but those near the target. The comparison is paired: a policy whose damage on the whole
set is known is measured on the same quarter, and what the quarter makes of it corrects the candidate. (It is a control
variate: samples that are hard for the one are hard for the other.)
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from cimq.policy_search.budget import SENSITIVITY_SHARE
from cimq.policy_search.evaluators.evaluator import Evaluator, Measured, Units
from cimq.policy_search.space import Pairs

# Sets of fewer samples are measured as a whole: their quarter tells too little.
RACING_SAMPLES = 4000
# Standard errors between a candidate and the target. As many candidates are raced, two would be wrong too often.
_APART = 3.0
_LEAST_UNITS = 8


class Racing:
    """Measures on a part first, and on all samples what the part cannot tell from the target.

    What is found is a function of the policy, once `aim` was called; before, everything is measured on all samples.

    Args:
        part: Measures on the first part, `SENSITIVITY_SHARE`, and gives units.
        whole: Measures on all samples.
    """

    def __init__(self, part: Evaluator, whole: Evaluator) -> None:
        self._part = part
        self._whole = whole
        self._target = 0.0
        self._reference: tuple[Units, float] | None = None

    def aim(self, target: float, reference: Pairs, damage: float) -> None:
        """Says what candidates are told from.

        Args:
            target: Damage that is wanted at most.
            reference: A policy of about that damage, which is measured on the part now.
            damage: What it has on all samples.
        """
        (found,) = self._part.measure([reference])
        self._target = target
        self._reference = None if found.units is None else (found.units, damage)

    @property
    def largest_share(self) -> float:
        """What a measurement may count as at most."""
        return 1.0 if self._reference is None else 1 + SENSITIVITY_SHARE

    def measure(self, policies: Sequence[Pairs]) -> Iterator[Measured]:
        """In order. `share` says how much of the samples it took, the part and all of them where both were."""
        if self._reference is None:
            yield from self._whole.measure(policies)
            return
        raced = [self._raced(found) for found in self._part.measure(policies)]
        rest = iter(self._whole.measure([p for p, found in zip(policies, raced, strict=True) if found is None]))
        for found in raced:
            if found is not None:
                yield found
            else:
                yield next(rest)._replace(share=1 + SENSITIVITY_SHARE)

    def _raced(self, found: Measured) -> Measured | None:
        """The measurement, where the part suffices."""
        if found.units is None or self._reference is None:
            return None
        estimate, error = corrected(found.units, *self._reference)
        if abs(estimate - self._target) <= _APART * error:
            return None
        # NaN stays, and is refused where it is entered.
        return Measured(found.accuracy, 0.0 if estimate < 0 else estimate, SENSITIVITY_SHARE)


def corrected(candidate: Units, reference: Units, damage: float) -> tuple[float, float]:
    """Damage on all samples, as the part lets expect it, and its standard error.

    Args:
        candidate: On the part.
        reference: A policy on the same part.
        damage: Of the reference on all samples.

    Raises:
        ValueError: If the two are not of the same units.
    """
    if candidate.weights != reference.weights:
        raise ValueError("search: the policies of a race were not measured on the same samples")
    count, total = len(candidate.weights), math.fsum(candidate.weights)
    mean, other = math.fsum(candidate.values) / total, math.fsum(reference.values) / total
    if count < _LEAST_UNITS:
        return mean, math.inf
    own = [value - mean * weight for value, weight in zip(candidate.values, candidate.weights, strict=True)]
    theirs = [value - other * weight for value, weight in zip(reference.values, reference.weights, strict=True)]
    spread = math.fsum(value**2 for value in theirs)
    slope = math.fsum(a * b for a, b in zip(own, theirs, strict=True)) / spread if spread > 0 else 0.0
    left = math.fsum((a - slope * b) ** 2 for a, b in zip(own, theirs, strict=True))
    # The part is one of the samples that are meant, not of all there could be.
    error = math.sqrt(count / (count - 1) * left * (1 - SENSITIVITY_SHARE)) / total
    return mean + slope * (damage - other), error
