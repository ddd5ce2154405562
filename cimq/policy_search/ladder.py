"""The rungs of evaluation, and how well the lower ones predict the higher ones.

A rung is a way of measuring a policy; the higher it stands, the dearer it is and the closer to the end:

    additive proxy    sum of what every layer does alone                              no measurement of its own
    calibrated        the model with cached scales, as it was before any training     a pass over a few samples
    shared weights    the weights that were trained once for all policies             the same
    short training    a training for this policy alone                                epochs

All give a damage, so that their orders of the same policies can be compared (Spearman).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from cimq.policy_search.evaluators import Evaluator
from cimq.policy_search.rank_correlation import spearman, spearman_interval
from cimq.policy_search.space import Pairs

PROXY, CALIBRATED, SHARED, TRAINED = "additive proxy", "calibrated", "shared weights", "short training"
_ORDER = (PROXY, CALIBRATED, SHARED, TRAINED)
# With fewer policies a correlation is shown, and marked, but nothing is decided by it.
ENOUGH_POLICIES = 16
# A rung whose order agrees less with that of a higher one does not predict it.
LEAST_CORRELATION = 0.6


@dataclasses.dataclass(frozen=True)
class RungCorrelation:
    """How far two rungs agree in the order of the same policies.

    Attributes:
        lower: Name of the cheaper rung.
        higher: Name of the dearer one.
        correlation: Spearman's.
        interval: In which it lies with 95 % (Fisher's transform).
        count: Policies that were measured on both.
        alike: Names of the rungs, of the two, that give all of them the same damage: these cannot tell policies apart.
    """

    lower: str
    higher: str
    correlation: float
    interval: tuple[float, float]
    count: int
    alike: tuple[str, ...] = ()

    @property
    def enough(self) -> bool:
        """Whether there are as many policies as it takes to decide by it."""
        return self.count >= ENOUGH_POLICIES

    @property
    def predicts(self) -> bool:
        """Whether the lower rung stands for the higher one, as far as this can tell.

        Of one that cannot tell policies apart nothing can be predicted, and nothing says that another does not.
        """
        return self.correlation >= LEAST_CORRELATION or (self.higher in self.alike and self.lower not in self.alike)

    def __str__(self) -> str:
        low, high = self.interval
        few = "" if self.enough else f", fewer than {ENOUGH_POLICIES}"
        return (
            f"{self.lower} / {self.higher}: {self.correlation:.2f} ({low:.2f} to {high:.2f}, "
            f"{self.count} policies{few})"
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        lists = {"interval": list(self.interval), "alike": list(self.alike)}
        return {**dataclasses.asdict(self), **lists, "enough": self.enough}


class Ladder:
    """What every rung says of the same policies.

    Args:
        rungs: Evaluators by name, of the rungs that can be asked; the others take what `note` tells them.
    """

    def __init__(self, rungs: Mapping[str, Evaluator]) -> None:
        unknown = [name for name in rungs if name not in _ORDER]
        if unknown:
            raise ValueError(f"search: rungs are called {', '.join(_ORDER)}; got {unknown[0]!r}")
        self._rungs = dict(rungs)
        self._damage: dict[str, dict[Pairs, float]] = {name: {} for name in _ORDER}

    @property
    def asked(self) -> list[str]:
        """Names of the rungs that measure, from the lowest."""
        return [name for name in _ORDER if name in self._rungs]

    def evaluator(self, name: str) -> Evaluator:
        """What measures on a rung."""
        return self._rungs[name]

    def add(self, name: str, evaluator: Evaluator) -> None:
        """One more rung that measures."""
        self._rungs[name] = evaluator

    def measure(self, policies: Sequence[Pairs]) -> int:
        """Measures policies on every rung that can be asked, unless they are known there.

        Returns:
            How many measurements it took, the proxy's not counted.
        """
        made = 0
        for name in self.asked:
            new = [policy for policy in dict.fromkeys(policies) if policy not in self._damage[name]]
            for policy, measured in zip(new, self._rungs[name].measure(new), strict=True):
                self._damage[name][policy] = float(measured.damage)
            made += len(new) if name != PROXY else 0
        return made

    def note(self, name: str, damages: Iterable[tuple[Pairs, float]]) -> None:
        """Takes in what was measured elsewhere."""
        self._damage[name].update(damages)

    def correlation(self, lower: str, higher: str) -> RungCorrelation | None:
        """Of two rungs; None where they share fewer than two policies."""
        both = [policy for policy in self._damage[lower] if policy in self._damage[higher]]
        if len(both) < 2:
            return None
        damages = {name: [self._damage[name][policy] for policy in both] for name in (lower, higher)}
        found = spearman(damages[lower], damages[higher])
        alike = tuple(name for name, values in damages.items() if len(set(values)) == 1)
        return RungCorrelation(lower, higher, found, spearman_interval(found, len(both)), len(both), alike)

    @property
    def correlations(self) -> list[RungCorrelation]:
        """Of every two rungs that share policies, from the lowest."""
        pairs = [(lower, higher) for i, lower in enumerate(_ORDER) for higher in _ORDER[i + 1 :]]
        return [found for pair in pairs if (found := self.correlation(*pair)) is not None]
