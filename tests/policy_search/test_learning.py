"""Strategies learn: they beat themselves with an empty update, on problems that sensitivities alone do not solve."""

from __future__ import annotations

import dataclasses
import math
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cimq.policy_search import Budget, Reward, StrategyTask, Trials
from cimq.policy_search.strategies.thompson import Thompson

sys.path.insert(0, str(Path(__file__).parent))
from problems import Problem

TARGET = 1.0
SEEDS = range(10)


class WithoutLearning(Thompson):
    """The same proposals' source, with an empty update."""

    def learn(self, model: Any, evaluation: Any) -> None:
        """Nothing."""


class Mistaken(Thompson):
    """An update with the wrong sign: what is beyond the target is taken to be as far within it."""

    def learn(self, model: Any, evaluation: Any) -> None:
        """Mirrors the damage at the target."""
        super().learn(model, dataclasses.replace(evaluation, damage=2 * TARGET - evaluation.damage))


def found(
    strategy: Callable[[StrategyTask], Any], layers: int, seed: int, budget: int, *, warm: bool, noise: float
) -> float:
    """Logarithm of the speed-up of the best policy that truly holds."""
    problem = Problem(layers, seed, noise=noise)
    trials = Trials(problem.space, problem, Budget(budget))
    trials.reward = Reward(TARGET)
    task = StrategyTask(problem.space, trials.budget, seed, 8, problem.sensitivities if warm else None, trials.reward)
    trials.run(strategy(task), 8)
    holds = [e.speedup for e in trials.evaluations if problem.damage(e.policy) <= 1.02 * TARGET]
    return math.log(max(holds, default=1.0))


def advantage(
    other: Callable[[StrategyTask], Any],
    layers: int,
    budget: int,
    *,
    warm: bool,
    noise: float = 0.0,
    learning: Callable[[StrategyTask], Any] = Thompson,
) -> tuple[float, float]:
    """Mean advantage of learning over the seeds, and how many standard errors that is."""
    gains = [
        found(learning, layers, seed, budget, warm=warm, noise=noise)
        - found(other, layers, seed, budget, warm=warm, noise=noise)
        for seed in SEEDS
    ]
    error = statistics.stdev(gains) / math.sqrt(len(gains))
    return statistics.mean(gains), statistics.mean(gains) / max(error, 1e-12)


@pytest.mark.parametrize(
    ("layers", "budget", "warm", "noise"),
    [
        (20, 100, True, 0.0),
        (20, 100, True, 0.02),
        pytest.param(20, 300, True, 0.02, marks=pytest.mark.slow),
        (20, 100, False, 0.0),
        pytest.param(50, 100, True, 0.02, marks=pytest.mark.slow),
    ],
)
def test_learning_beats_an_empty_update(layers: int, budget: int, warm: bool, noise: float) -> None:
    gain, errors = advantage(WithoutLearning, layers, budget, warm=warm, noise=noise)
    assert gain > 0.01
    assert errors > 3  # p < 0.01 for nine degrees of freedom


def test_the_criterion_fails_an_update_with_the_wrong_sign() -> None:
    gain, errors = advantage(WithoutLearning, 20, 100, warm=True, learning=Mistaken)
    assert not (gain > 0.01 and errors > 3)
