"""Spearman's rank correlation, with the interval in which it may lie."""

from __future__ import annotations

import math
from collections.abc import Sequence

_NORMAL_95 = 1.959964


def spearman(first: Sequence[float], second: Sequence[float]) -> float:
    """Correlation of the ranks of paired values; equal values share the mean of their ranks.

    0 where all values of one side are equal: nothing can be told from them.

    Raises:
        ValueError: If the two are not of one length, or shorter than 2.

    Example:
        >>> spearman([1.0, 2.0, 3.0, 4.0], [10.0, 20.0, 40.0, 30.0])
        0.8
    """
    if len(first) != len(second) or len(first) < 2:
        raise ValueError(f"spearman takes two lists of one length of at least 2, got {len(first)} and {len(second)}")
    a, b = _ranks(first), _ranks(second)
    mean = (len(a) + 1) / 2
    shared = sum((x - mean) * (y - mean) for x, y in zip(a, b, strict=True))
    spread = math.sqrt(sum((x - mean) ** 2 for x in a) * sum((y - mean) ** 2 for y in b))
    return shared / spread if spread > 0 else 0.0


def spearman_interval(correlation: float, count: int) -> tuple[float, float]:
    """95 % interval of a rank correlation of `count` pairs: Fisher's transform with the variance of Bonett and Wright
    (Psychometrika 65, 2000), (1 + r^2 / 2) / (count - 3); all of -1..1 for fewer than 4 pairs.

    The transform of 1 is infinite, and its interval would be a point whatever the count: a correlation of 1 or -1 is
    taken as half a step of rank correlations nearer to 0, and is itself the end of its interval.

    Example:
        >>> low, high = spearman_interval(0.8, 16)
        >>> round(low, 2), round(high, 2)
        (0.44, 0.94)
    """
    if count < 4:
        return (-1.0, 1.0)
    most = 1 - 6 / (count * (count**2 - 1))  # two neighbours that change places take twice as much away from 1
    bounded = max(-most, min(most, correlation))
    half = _NORMAL_95 * math.sqrt((1 + bounded**2 / 2) / (count - 3))
    low, high = math.tanh(math.atanh(bounded) - half), math.tanh(math.atanh(bounded) + half)
    return min(low, correlation), max(high, correlation)


def _ranks(values: Sequence[float]) -> list[float]:
    order = sorted(range(len(values)), key=values.__getitem__)
    ranks = [0.0] * len(values)
    start = 0
    while start < len(order):
        end = start
        while end + 1 < len(order) and values[order[end + 1]] == values[order[start]]:
            end += 1
        for place in order[start : end + 1]:
            ranks[place] = (start + end) / 2 + 1
        start = end + 1
    return ranks
