"""Spearman and its interval against known values."""

from __future__ import annotations

import itertools
import random

import pytest

from cimq.policy_search.rank_correlation import spearman, spearman_interval


def test_known_values() -> None:
    values = [3.0, 1.0, 2.0, 5.0, 4.0]
    assert spearman(values, [10 * v**3 for v in values]) == pytest.approx(1)
    assert spearman(values, [-v for v in values]) == pytest.approx(-1)
    # 1 - 6 sum d^2 / (n (n^2 - 1)) where no two values are equal.
    for other in itertools.permutations(range(5)):
        squares = sum((v - 1 - o) ** 2 for v, o in zip(values, other, strict=True))
        assert spearman(values, [float(o) for o in other]) == pytest.approx(1 - 6 * squares / (5 * 24))
    # Ties share their mean rank: ranks 1, 2.5, 2.5, 4 against 1, 2, 3, 4.
    assert spearman([1, 2, 2, 3], [1, 2, 3, 4]) == pytest.approx(0.9486833)
    assert spearman([1, 1, 1], [1, 2, 3]) == 0


@pytest.mark.parametrize("lists", [([1.0], [1.0]), ([1.0, 2.0], [1.0])])
def test_lists_that_do_not_pair(lists: tuple[list[float], list[float]]) -> None:
    with pytest.raises(ValueError, match="two lists of one length"):
        spearman(*lists)


def test_the_interval_holds_the_correlation_as_often_as_it_says() -> None:
    """Normal pairs with a correlation of 0.7 have a rank correlation of 0.683."""
    numbers = random.Random(0)
    held = 0
    for _ in range(1000):
        first = [numbers.gauss(0, 1) for _ in range(16)]
        second = [0.7 * x + (1 - 0.49) ** 0.5 * numbers.gauss(0, 1) for x in first]
        low, high = spearman_interval(spearman(first, second), 16)
        held += low <= 0.683 <= high
    assert 0.93 <= held / 1000 <= 0.98


def test_few_pairs_say_nothing() -> None:
    assert spearman_interval(1.0, 3) == (-1.0, 1.0)
    low, high = spearman_interval(1.0, 100)
    assert 0.99 < low < high <= 1
    # Four pairs are in order by chance in one of 24 cases.
    low, high = spearman_interval(1.0, 4)
    assert low < 0 < high == 1
    low, high = spearman_interval(1.0, 16)
    assert 0.9 < low < 0.999 < high == 1
    assert spearman_interval(-1.0, 16) == (-high, -low)
