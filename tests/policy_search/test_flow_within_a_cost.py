"""run_flow with a budget on cost: what is trained, and what is chosen of it."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest

from cimq.policy_search import STRATEGIES, Budget, SearchSpace, StrategyTask, Trials
from cimq.policy_search.confirmation import Confirmed
from cimq.policy_search.cost_limit import CostLimit
from cimq.policy_search.flow import Outcome, run_flow
from cimq.policy_search.goals import MostAccurate
from cimq.policy_search.uniform_front import uniform_grid

EIGHT = (8, 8)
GAIN = 2.0


def flow(
    space: SearchSpace,
    evaluator: Any,
    *,
    gain: float = GAIN,
    budget: int = 60,
    strategy: str = "thompson",
    finalists: int = 4,
    train: Callable[[Any], float] | None = None,
) -> tuple[Outcome, Trials]:
    """Training repairs nine tenths of the damage."""
    trials = Trials(space, evaluator, Budget(budget))

    def made(reward: Any) -> Any:
        return STRATEGIES[strategy](StrategyTask(space, trials.budget, 0, 8, type(evaluator)(), reward))

    def trained(policy: Any) -> tuple[Confirmed, Any]:
        accuracy = 0.94 - 0.1 * evaluator.damage(policy) if train is None else train(policy)
        return Confirmed(accuracy), ("model", policy)

    goal = MostAccurate(CostLimit(space, gain))
    return run_flow(trials, trained, goal=goal, strategy=made, batch=8, finalists=finalists), trials


@pytest.mark.parametrize("strategy", sorted(STRATEGIES))
@pytest.mark.parametrize("gain", [1.3, GAIN, 2.5])
def test_the_choice_is_within_the_budget_and_the_most_accurate_that_was_trained(
    space: SearchSpace, surrogate: Callable[..., Any], strategy: str, gain: float
) -> None:
    outcome, trials = flow(space, surrogate(), strategy=strategy, gain=gain, budget=40)
    assert space.gain(outcome.chosen.policy) >= gain
    assert outcome.reference.policy == (EIGHT,) * 7
    for entry in outcome.trained:
        if space.gain(entry.policy) >= gain:
            assert entry.accuracy <= outcome.chosen.accuracy
    uniform = [p for p in uniform_grid(space, 100).values() if space.gain(p) >= gain]
    assert surrogate().damage(outcome.chosen.policy) <= min(map(surrogate().damage, uniform)) * (1 + 1e-12)
    assert trials.budget.evaluations <= 40


def test_it_is_less_damaged_than_the_best_uniform_policy(space: SearchSpace, surrogate: Callable[..., Any]) -> None:
    outcome, _ = flow(space, surrogate())
    uniform = [e.damage for e in outcome.baselines.values() if e.speedup >= GAIN]
    assert surrogate().damage(outcome.chosen.policy) < 0.5 * min(uniform)
    assert outcome.target == min(uniform)


def test_few_are_trained_and_uniform_policies_near_the_best_among_them(
    space: SearchSpace, surrogate: Callable[..., Any]
) -> None:
    grid = set(uniform_grid(space, 100).values())
    for finalists in (0, 1, 4):
        outcome, trials = flow(space, surrogate(), finalists=finalists)
        others = [entry.policy for entry in outcome.trained if entry.policy not in grid]
        assert len(others) == finalists
        fitting = [e for e in trials.evaluations if e.feasible and e.policy not in grid]
        assert set(others) == {e.policy for e in sorted(fitting, key=lambda e: e.damage)[:finalists]}
        uniform = [entry.policy for entry in outcome.trained if entry.policy in grid]
        assert 2 <= len(uniform) <= 1 + 1 + 2
        assert all(space.gain(policy) >= GAIN for policy in uniform[1:])


@pytest.mark.parametrize("seed", range(8))
def test_whatever_training_gives_nothing_trained_within_the_budget_is_better(
    space: SearchSpace, surrogate: Callable[..., Any], seed: int
) -> None:
    numbers, given = random.Random(seed), {}

    def any_accuracy(policy: Any) -> float:
        return given.setdefault(policy, round(0.9 + 0.03 * numbers.random(), 2))

    outcome, _ = flow(space, surrogate(), train=any_accuracy, budget=40)
    chosen = outcome.chosen
    assert space.gain(chosen.policy) >= GAIN
    for entry in outcome.trained:
        if space.gain(entry.policy) >= GAIN and entry.policy != chosen.policy:
            cheaper = space.time_us(entry.policy) < space.time_us(chosen.policy)
            assert entry.accuracy < chosen.accuracy or (entry.accuracy == chosen.accuracy and not cheaper)


def test_a_tiny_budget_of_evaluations_still_gives_one_within(space: SearchSpace, surrogate: Callable[..., Any]) -> None:
    for gain in (1.2, GAIN, space.gain(space.fastest)):
        outcome, _ = flow(space, surrogate(), budget=1, gain=gain)
        assert space.gain(outcome.chosen.policy) >= gain


@pytest.mark.parametrize("training", [0, 1, 2, 4])
def test_ctrl_c_gives_what_fits_once_something_does(
    space: SearchSpace, surrogate: Callable[..., Any], training: int
) -> None:
    trained: list[Any] = []

    def interrupted(policy: Any) -> float:
        if len(trained) == training:
            raise KeyboardInterrupt
        trained.append(policy)
        return 0.94 - 0.1 * surrogate().damage(policy)

    if training < 2:  # 8 bits everywhere alone
        with pytest.raises(KeyboardInterrupt):
            flow(space, surrogate(), train=interrupted)
        return
    outcome, _ = flow(space, surrogate(), train=interrupted)
    assert outcome.interrupted
    assert space.gain(outcome.chosen.policy) >= GAIN
