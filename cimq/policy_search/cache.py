"""What is measured once is known."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from cimq.policy_search.evaluators import Evaluator, Measured
from cimq.policy_search.space import Pairs


class Measurement(NamedTuple):
    """What was measured of a policy, and what it took in seconds."""

    measured: Measured
    seconds: float


class MeasurementCache:
    """What is known, and the evaluator for all others.

    Args:
        evaluator: Measures policies.
        known: What need not be measured, e.g. from a journal.
    """

    def __init__(self, evaluator: Evaluator, known: Mapping[Pairs, Measurement]) -> None:
        self._evaluator = evaluator
        self._known = dict(known)

    def measure(self, policies: Sequence[Pairs]) -> Iterator[Measurement]:
        """One measurement for each, in order and as soon as it is known.

        Raises:
            ValueError: If an accuracy or a damage is not a number.
        """
        found = iter(self._evaluator.measure([p for p in dict.fromkeys(policies) if p not in self._known]))
        for policy in policies:
            if policy not in self._known:
                start = time.perf_counter()
                measured = next(found)
                measured = measured._replace(accuracy=float(measured.accuracy), damage=float(measured.damage))
                for name in ("accuracy", "damage"):
                    value = getattr(measured, name)
                    if value != value:
                        raise ValueError(f"search: the {name} of {list(policy)} is no number; outputs must be finite")
                self._known[policy] = Measurement(measured, time.perf_counter() - start)
            yield self._known[policy]
