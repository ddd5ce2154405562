"""Strategies learn: they beat themselves with an empty update, on problems that sensitivities alone do not solve.

The gain is paired: the same network, the same sensitivities, the same source of proposals, over ten networks. Were
learning of no use, each gain could as well have the other sign: the share of all signs whose mean gain is at least the
one found is the level of significance (Fisher's randomisation test, exact and one-sided). The whole grid is in
benchmarks/policy_search/strategies.py.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cimq.policy_search import Budget, Evaluation, Reward, StrategyTask, Trials
from cimq.policy_search.cost_limit import CostLimit
from cimq.policy_search.reward import LeastDamage
from cimq.policy_search.strategies.evolution import Evolution
from cimq.policy_search.strategies.knapsack import Knapsack
from cimq.policy_search.strategies.learned_damage import LearnedDamage
from cimq.policy_search.strategies.random import Random
from cimq.policy_search.strategies.reinforce import Reinforce
from cimq.policy_search.strategies.thompson import Thompson

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks" / "policy_search"))
from _problems import Problem

TARGET = 1.0
SEEDS = range(10)
SIGNIFICANT = 0.01


class ThompsonWithoutLearning(Thompson):
    """The same source of proposals, with an empty update."""

    def learn(self, damage: LearnedDamage, evaluation: Evaluation) -> None:
        """Nothing."""


class ThompsonMistaken(Thompson):
    """An update with the wrong sign: what is beyond the target is taken to be as far within it."""

    def learn(self, damage: LearnedDamage, evaluation: Evaluation) -> None:
        """Mirrors the damage at the target."""
        super().learn(damage, dataclasses.replace(evaluation, damage=2 * TARGET - evaluation.damage))


class ReinforceWithoutLearning(Reinforce):
    """The same samples' source, with an empty update."""

    def learn(self, agent: Any, actions: Any, rewards: Any) -> None:
        """Nothing."""


class ReinforceMistaken(Reinforce):
    """An update that makes bad policies more likely."""

    def learn(self, agent: Any, actions: Any, rewards: list[float]) -> None:
        """With rewards of the other sign."""
        super().learn(agent, actions, [-reward for reward in rewards])


@dataclasses.dataclass(frozen=True)
class Case:
    """Networks to search, and what may be measured."""

    layers: int
    budget: int
    warm: bool = True
    interaction: float = 0.5
    noise: float = 0.02
    within_cost: bool = False  # as fast as the optimum is within the target, the least damage is wanted


@functools.cache
def problem(layers: int, seed: int, interaction: float, noise: float) -> Problem:
    return Problem(layers, seed, interaction=interaction, noise=noise)


@functools.cache
def found(strategy: Callable[[StrategyTask], Any], case: Case, seed: int) -> float:
    """Logarithm of the speed-up of the fastest measured policy that is truly within the target.

    Within a cost: how little damaged the best is, as a logarithm.
    """
    made = problem(case.layers, seed, case.interaction, case.noise)
    trials = Trials(made.space, made, Budget(case.budget))
    trials.reward = Reward(TARGET)
    if case.within_cost:
        trials.reward = LeastDamage(2 * TARGET, CostLimit(made.space, gain(case, seed)))
    few = made.sensitivities if case.warm else None
    trials.run(strategy(StrategyTask(made.space, trials.budget, seed, 8, few, trials.reward)), 8)
    if case.within_cost:
        assert all(e.feasible and e.speedup >= gain(case, seed) for e in trials.evaluations)
        return -math.log(min(made.damage(e.policy) for e in trials.evaluations))
    within = [e.speedup for e in trials.evaluations if made.damage(e.policy) <= TARGET]
    return math.log(max(within, default=1.0))


@functools.cache
def gain(case: Case, seed: int) -> float:
    """Speed-up at which the least damage is about the target."""
    return problem(case.layers, seed, case.interaction, case.noise).optimum(TARGET)[0]


def beats(strategy: Callable[[StrategyTask], Any], other: Callable[[StrategyTask], Any], case: Case) -> bool:
    """Whether a strategy is better than another by more than chance."""
    gains = [found(strategy, case, seed) - found(other, case, seed) for seed in SEEDS]
    total = sum(gains)
    as_good = sum(
        sum(sign * gain for sign, gain in zip(signs, gains, strict=True)) >= total
        for signs in itertools.product((1, -1), repeat=len(gains))
    )
    return as_good / 2 ** len(gains) < SIGNIFICANT


FAST = Case(20, 100)
WITHIN_COST = Case(14, 60, within_cost=True)


@pytest.mark.parametrize(
    "case",
    [
        FAST,
        Case(20, 100, noise=0.0),
        Case(20, 100, interaction=0.0),
        Case(20, 100, warm=False),
        pytest.param(Case(50, 100), marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_learning_beats_an_empty_update(case: Case) -> None:
    assert beats(Thompson, ThompsonWithoutLearning, case)


def test_learning_beats_the_knapsack_and_evolution() -> None:
    assert beats(Thompson, Knapsack, FAST)
    assert beats(Thompson, Evolution, FAST)


def test_an_update_with_the_wrong_sign_is_found_out() -> None:
    assert not beats(ThompsonMistaken, ThompsonWithoutLearning, FAST)


def test_reinforce_learns_from_a_cold_start() -> None:
    case = Case(20, 300, warm=False)
    assert beats(Reinforce, ReinforceWithoutLearning, case)
    assert not beats(ReinforceMistaken, ReinforceWithoutLearning, case)


@pytest.mark.parametrize("sign", [0.0, -1.0])
def test_a_model_that_takes_nothing_in_or_the_wrong_way_is_found_out(
    monkeypatch: pytest.MonkeyPatch, sign: float
) -> None:
    observe = LearnedDamage.observe

    def broken(self: LearnedDamage, policy: Any, damage: float) -> None:
        if sign:
            observe(self, policy, TARGET + sign * (damage - TARGET))

    monkeypatch.setattr(LearnedDamage, "observe", broken)

    class Broken(Thompson):
        """Not the class whose results are known."""

    assert not beats(Broken, ThompsonWithoutLearning, FAST)


def test_within_a_cost_learning_comes_near_the_least_damage_and_others_do_not() -> None:
    def off(strategy: Callable[[StrategyTask], Any]) -> float:
        """How much more damaged, as a share; the mean over networks."""
        shares = []
        for seed in SEEDS:
            made = problem(WITHIN_COST.layers, seed, WITHIN_COST.interaction, WITHIN_COST.noise)
            _, bound = made.least_damage(gain(WITHIN_COST, seed))
            assert 0.9 * TARGET <= bound <= TARGET
            shares.append(math.exp(-found(strategy, WITHIN_COST, seed)) / bound - 1)
        return sum(shares) / len(shares)

    assert off(Thompson) < 0.05
    assert off(Thompson) < 0.5 * min(off(Knapsack), off(Evolution))
    assert beats(Thompson, ThompsonWithoutLearning, WITHIN_COST)
    assert beats(Thompson, Knapsack, WITHIN_COST)
    assert beats(Thompson, Evolution, WITHIN_COST)
    assert off(Random) > 0.5


def test_the_bounds_of_the_optimum_hold_it() -> None:
    for seed in range(6):
        small = Problem(5, seed)
        options = [slot.pairs for slot in small.space.slots]
        best = max(small.space.speedup(p) for p in itertools.product(*options) if small.damage(p) <= TARGET)
        lower, upper = small.optimum(TARGET)
        assert lower <= best * (1 + 1e-9)
        assert best <= upper * (1 + 1e-9)
        assert lower >= 0.95 * best
        fast = [(small.space.speedup(p), small.damage(p)) for p in itertools.product(*options)]
        least = min(damage for speedup, damage in fast if speedup >= lower)
        found_least, bound = small.least_damage(lower)
        assert bound <= least * (1 + 1e-9)
        assert least <= min(found_least, TARGET) * (1 + 1e-9)


def test_the_bounds_of_the_optimum_of_a_deep_network_are_close() -> None:
    lower, upper = problem(50, 0, 0.5, 0.0).optimum(TARGET)
    assert 0.99 * upper <= lower <= upper
