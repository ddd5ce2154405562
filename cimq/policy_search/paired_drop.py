"""Whether a loss of accuracy can be told from noise: two networks compared sample by sample on the same data."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

_NORMAL_95 = 1.959964
# Fewer batches, or samples whose score is no right or wrong, say too little about their scatter.
_LEAST_UNITS = 8
# 97.5 % quantiles of Student's distribution, by degrees of freedom from 7 on, for a few batches.
_STUDENT_95 = {7: 2.365, 8: 2.306, 9: 2.262, 10: 2.228, 12: 2.179, 15: 2.131, 20: 2.086, 30: 2.042}


@dataclasses.dataclass(frozen=True)
class Scores:
    """How a network did on every unit of a set.

    Attributes:
        values: Sum of the metric over each unit's elements.
        weights: How many elements each has.
        unit: "sample" for the default metric, "batch" for one that gives a mean of a batch.
    """

    values: tuple[float, ...]
    weights: tuple[float, ...]
    unit: str

    @property
    def right_or_wrong(self) -> bool:
        """Whether every unit that counts is either right or wrong."""
        return self.unit == "sample" and set(self.weights) <= {0.0, 1.0} and set(self.values) <= {0.0, 1.0}


@dataclasses.dataclass(frozen=True)
class PairedDrop:
    """What a network lost against another, on the same samples.

    Attributes:
        drop: Accuracy of the other less that of the network.
        standard_error: Of the drop; None where it is not known.
        interval: Of 95 %; None where it is not known (few batches or samples, and answers not just right or wrong).
        units: Samples, or batches.
        unit: "sample" or "batch".
    """

    drop: float
    standard_error: float | None
    interval: tuple[float, float] | None
    units: int
    unit: str

    @property
    def differs(self) -> bool:
        """Whether the drop can be told from 0."""
        return self.interval is not None and not self.interval[0] <= 0.0 <= self.interval[1]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {**dataclasses.asdict(self), "interval": None if self.interval is None else list(self.interval)}

    def sentence(self, fraction: bool, allowed: float | None = None, compared: int = 1) -> str:
        """In plain words.

        Args:
            fraction: Whether the metric is a fraction, shown in points of a hundred.
            allowed: The largest drop that was asked for.
            compared: Networks from which this one was taken by the same samples.

        Example:
            >>> print(PairedDrop(0.004, 0.003, (-0.002, 0.01), 5000, "sample").sentence(True, 0.01))
            drop 0.40 points, 95 % interval -0.20 to 1.00, 5,000 samples: cannot be told from 0
        """

        def shown(value: float) -> str:
            return f"{100 * value:.2f}" if fraction else f"{value:.4g}"

        points = " points" if fraction else ""
        plural = "" if self.units == 1 else "es" if self.unit == "batch" else "s"
        units = f"{self.units:,} {self.unit}{plural}"
        if self.interval is None:
            return f"drop {shown(self.drop)}{points}, {units}: too few to tell it from noise, its interval is unknown"
        low, high = self.interval
        text = f"drop {shown(self.drop)}{points}, 95 % interval {shown(low)} to {shown(high)}, {units}: "
        text += f"more than noise, a {'loss' if low > 0 else 'gain'}" if self.differs else "cannot be told from 0"
        if allowed is not None and high > allowed + 1e-12:
            text += f"; it may be above the {shown(allowed)}{points} that were asked for"
        if compared > 1:
            text += f"; taken from {compared} networks by these samples, which makes a drop look smaller than it is"
        return text


def paired_drop(reference: Scores, network: Scores) -> PairedDrop:
    """Of a network against a reference.

    For right or wrong answers, the interval of Agresti and Min (Statistics in Medicine 24, 2005): half a sample is
    added to each of the four cells, so that it does not vanish where no answer differs. Else that of a ratio of sums.

    Raises:
        ValueError: If the two are not of the same units.
    """
    if (reference.unit, reference.weights) != (network.unit, network.weights):
        raise ValueError("search: the networks that are compared were not measured on the same samples")
    scores = zip(reference.values, network.values, network.weights, strict=True)
    # What has no weight (a sample without a target that counts) says nothing.
    pairs = [(before - after, weight) for before, after, weight in scores if weight > 0]
    lost, weights = [loss for loss, _ in pairs], [weight for _, weight in pairs]
    count, total = len(pairs), math.fsum(weights)
    drop = math.fsum(lost) / total if total else 0.0
    if reference.right_or_wrong and network.right_or_wrong and count > 0:
        error, interval = _right_or_wrong(lost)
    elif count < _LEAST_UNITS:
        return PairedDrop(drop, None, None, count, reference.unit)
    else:
        rest = (value - drop * weight for value, weight in zip(lost, weights, strict=True))
        error = math.sqrt(count / (count - 1) * math.fsum(value**2 for value in rest)) / total
        half = _quantile(count - 1) * error
        interval = (drop - half, drop + half)
    return PairedDrop(drop, error, interval, count, reference.unit)


def _right_or_wrong(lost: Sequence[float]) -> tuple[float, tuple[float, float]]:
    """Standard error and interval."""
    worse = sum(value > 0 for value in lost) + 0.5
    better = sum(value < 0 for value in lost) + 0.5
    count = len(lost) + 2.0
    centre = (worse - better) / count
    error = math.sqrt(max(0.0, worse + better - (worse - better) ** 2 / count)) / count
    return error, (centre - _NORMAL_95 * error, centre + _NORMAL_95 * error)


def _quantile(freedom: int) -> float:
    return _NORMAL_95 if freedom > 60 else _STUDENT_95[max(limit for limit in _STUDENT_95 if limit <= freedom)]
