"""Results over chips: cells vary, so one chip's accuracy is one draw of a distribution."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from statistics import NormalDist, fmean, stdev

from torch import nn

from cimq.quantization.inspection import chip_seeds, set_chip
from cimq.torch_tools.batches import ForwardFn
from cimq.training.measuring import MetricFn, evaluate

_MANY = 10_000


@dataclass(frozen=True)
class ChipStatistics:
    """Mean over chips with its confidence interval.

    Attributes:
        values: One result per chip.
        mean: Their mean.
        std: Their standard deviation (divisor count - 1): how much chips differ.
        low: Lower end of the confidence interval of the mean.
        high: Upper end.
        confidence: Probability with which the interval covers the mean of all chips.
    """

    values: tuple[float, ...]
    mean: float
    std: float
    low: float
    high: float
    confidence: float

    def __str__(self) -> str:
        interval = f"{self.confidence:.0%} interval {self.low:.4g} to {self.high:.4g}"
        return f"{self.mean:.4g} ({interval}, std {self.std:.4g}, {len(self.values)} chips)"


def chip_statistics(values: Iterable[float], confidence: float = 0.95) -> ChipStatistics:
    """Mean of results of several chips and the confidence interval of that mean, by Student's t distribution.

    The interval is exact for normally distributed results: mean +- t * std / sqrt(count), t the quantile of
    count - 1 degrees of freedom (Student, "The probable error of a mean", Biometrika 6, 1908).

    Args:
        values: At least two finite numbers, one per chip.
        confidence: Between 0 and 1.

    Raises:
        ValueError: For fewer than two values, values that are not finite, or another confidence.

    Example:
        >>> import cimq
        >>> result = cimq.chip_statistics([0.90, 0.92, 0.91, 0.93])
        >>> round(result.mean, 3), round(result.low, 4), round(result.high, 4)
        (0.915, 0.8945, 0.9355)
    """
    numbers = tuple(float(value) for value in values)
    if len(numbers) < 2:
        raise ValueError(f"chip_statistics: needs the results of at least two chips, got {len(numbers)}")
    for value in numbers:
        if not math.isfinite(value):
            raise ValueError(f"chip_statistics: values must be finite, got {value}")
    if not 0.0 < confidence < 1.0:
        raise ValueError(f"chip_statistics: confidence must lie between 0 and 1, got {confidence}")
    mean, std = fmean(numbers), stdev(numbers)
    half = student_t(confidence, len(numbers) - 1) * std / math.sqrt(len(numbers))
    return ChipStatistics(numbers, mean, std, mean - half, mean + half, confidence)


def evaluate_chips(
    model: nn.Module,
    loader: Iterable[object],
    metric_fn: MetricFn | None = None,
    *,
    chips: int = 10,
    first_seed: int = 0,
    confidence: float = 0.95,
    forward_fn: ForwardFn | None = None,
    batches: int | None = None,
    progress: bool | None = None,
) -> ChipStatistics:
    """Measures a model on several chips: `cimq.evaluate` once per chip.

    Chip k is the chip of `set_chip(model, first_seed + k)`; afterwards the model is on the chip it was on before.

    Args:
        model: A prepared or converted model on a machine whose cells vary.
        loader: Batches, gone through once per chip; must give the same ones every time.
        metric_fn: As in `evaluate`.
        chips: Number of chips, at least 2.
        first_seed: Seed of the first chip.
        confidence: Of the interval.
        forward_fn: As in `evaluate`.
        batches: As in `evaluate`.
        progress: As in `evaluate`.

    Returns:
        Results of the chips, their mean, and its confidence interval.

    Raises:
        ValueError: If no layer's machine varies (all chips would be equal), for fewer than two chips, or as `evaluate`.

    Example:
        >>> import torch, cimq
        >>> noisy = cimq.Hardware.preset("rram-wan2022")
        >>> x = torch.rand(32, 8)
        >>> q = cimq.prepare(torch.nn.Linear(8, 4), cimq.Policy.uniform(4, 4), noisy, example_inputs=x)
        >>> result = cimq.evaluate_chips(q, [(x, torch.arange(32) % 4)], chips=3)
        >>> len(result.values), result.low <= result.mean <= result.high
        (3, True)
    """
    if chips < 2:
        raise ValueError(f"evaluate_chips: chips must be at least 2, got {chips}")
    before = chip_seeds(model)
    if not any(layer.hardware.varies for layer in before):
        raise ValueError("evaluate_chips: no layer's machine varies, so that all chips are equal; use cimq.evaluate")
    results = []
    try:
        for chip in range(chips):
            set_chip(model, first_seed + chip)
            results.append(
                evaluate(model, loader, metric_fn, forward_fn=forward_fn, batches=batches, progress=progress)
            )
    finally:
        for layer, seed in before.items():
            layer.chip_seed = seed
    return chip_statistics(results, confidence)


def student_t(confidence: float, degrees: int) -> float:
    """The t with P(|T| <= t) = confidence, for Student's distribution with a whole number of degrees of freedom.

    By bisection of the closed form in theta = atan(t / sqrt(degrees)) (Abramowitz and Stegun, 26.7.3 and 26.7.4); from
    10000 degrees on by the first terms of the expansion around the normal quantile (26.7.5), exact to 1e-8.
    """
    if degrees > _MANY:
        z = NormalDist().inv_cdf(0.5 + confidence / 2)
        return z + (z**3 + z) / (4 * degrees) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * degrees**2)
    low, high = 0.0, math.pi / 2
    while True:
        middle = (low + high) / 2
        if middle in (low, high):
            return math.sqrt(degrees) * math.tan(middle)
        if _coverage(middle, degrees) < confidence:
            low = middle
        else:
            high = middle


def _coverage(theta: float, degrees: int) -> float:
    """P(|T| <= sqrt(degrees) * tan(theta))."""
    sine, square = math.sin(theta), math.cos(theta) ** 2
    odd = degrees % 2
    term = math.cos(theta) if odd else 1.0
    total = 0.0 if degrees == 1 else term
    for j in range(2 + odd, degrees - 1, 2):
        term *= (j - 1) / j * square
        total += term
    return 2 / math.pi * (theta + sine * total) if odd else sine * total
