from __future__ import annotations

import math

import pytest

from cimq.policy_search import Reward, binomial_noise

REWARD = Reward(reference=0.92, tolerance=0.01, noise=0.004)


def test_faster_and_more_accurate_are_better_on_both_sides_of_the_target() -> None:
    for accuracy in (0.95, 0.92, 0.911, 0.909, 0.90, 0.5):
        assert REWARD(accuracy, 2.1) > REWARD(accuracy, 2.0)
        assert REWARD(accuracy + 0.001, 2.0) > REWARD(accuracy, 2.0)


def test_there_is_no_cliff() -> None:
    at, beyond = REWARD(0.91 + 1e-6, 2.0), REWARD(0.91 - 1e-6, 2.0)
    assert at - beyond < 1e-3


def test_limits() -> None:
    assert REWARD(1.0, 2.0) == pytest.approx(math.log(2.0), abs=1e-6)
    # Far beyond the target the penalty is 1 per percentage point.
    assert REWARD(0.80, 2.0) - REWARD(0.81, 2.0) == pytest.approx(-1.0, abs=1e-3)


def test_written_out() -> None:
    x = (0.012 - 0.01) / 0.004 + 0.5
    assert REWARD(0.908, 1.5) == pytest.approx(math.log(1.5) - 100 * 0.004 * math.log(1 + math.exp(x)))


def test_feasible() -> None:
    assert REWARD.feasible(0.91)
    assert not REWARD.feasible(0.9099)


def test_noise() -> None:
    assert binomial_noise(0.9, 10_000) == pytest.approx(0.003, rel=1e-2)
    assert binomial_noise(1.0, 100) > 0.005  # a perfect score is not certainty
    assert math.isfinite(binomial_noise(37.5, 100))
