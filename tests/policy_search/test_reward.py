from __future__ import annotations

import math

import pytest

from cimq.policy_search import Reward

REWARD = Reward(target=0.1, noise=0.04)


def test_faster_and_less_damaged_are_better_on_both_sides_of_the_target() -> None:
    for damage in (0.01, 0.05, 0.099, 0.101, 0.12, 0.5):
        assert REWARD(damage, 2.1) > REWARD(damage, 2.0)
        assert REWARD(damage - 0.001, 2.0) > REWARD(damage, 2.0)


def test_there_is_no_cliff() -> None:
    at, beyond = REWARD(0.1 - 1e-7, 2.0), REWARD(0.1 + 1e-7, 2.0)
    assert 0 < at - beyond < 1e-3


def test_limits() -> None:
    assert REWARD(0.0, 2.0) == pytest.approx(math.log(2.0), abs=1e-6)
    # Far beyond the target the penalty grows by `weight` for every target.
    assert REWARD(0.9, 2.0) - REWARD(0.8, 2.0) == pytest.approx(-5.0, abs=1e-3)


def test_written_out() -> None:
    x = (0.102 / 0.1 - 1) / 0.04 + 0.5
    assert REWARD(0.102, 1.5) == pytest.approx(math.log(1.5) - 5 * 0.04 * math.log(1 + math.exp(x)))


def test_feasible() -> None:
    assert REWARD.feasible(0.1, 1.0)
    assert not REWARD.feasible(0.1001, 9.0)


@pytest.mark.parametrize("values", [{"target": 0.0}, {"target": math.nan}, {"target": 0.1, "noise": 0.0}])
def test_impossible_rewards_are_refused(values: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="target and noise must be above 0"):
        Reward(**values)
