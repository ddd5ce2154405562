"""run_flow: target, baselines and finalists, with training that is a function."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from cimq.policy_search import STRATEGIES, Budget, SearchSpace, StrategyTask, Trials
from cimq.policy_search.flow import Outcome, run_flow


def flow(
    space: SearchSpace,
    evaluator: Any,
    repaired: float,
    *,
    drop: float = 0.01,
    budget: int = 60,
    strategy: str = "reinforce",
    finalists: int = 4,
) -> tuple[Outcome, Trials]:
    """Training repairs a share of the damage."""

    def train(pairs: Any) -> tuple[float, Any]:
        return 0.94 - (1 - repaired) * evaluator.damage(pairs), ("model", pairs)

    trials = Trials(space, evaluator, Budget(budget))
    task = StrategyTask(space, trials.budget, seed=0, batch=8, damage=evaluator.distance)
    outcome = run_flow(
        trials, train, strategy=STRATEGIES[strategy](task), batch=8, max_accuracy_drop=drop, finalists=finalists
    )
    return outcome, trials


@pytest.mark.parametrize("strategy", ["reinforce", "random", "uniform"])
@pytest.mark.parametrize("repaired", [0.0, 0.7, 0.95, 1.0])
def test_the_choice_satisfies_the_constraint_and_no_feasible_uniform_policy_is_faster(
    space: SearchSpace, surrogate: Callable[..., Any], repaired: float, strategy: str
) -> None:
    outcome, trials = flow(space, surrogate(), repaired, strategy=strategy)
    assert outcome.reference.accuracy - outcome.chosen.accuracy <= 0.01
    assert outcome.chosen.artefact == ("model", outcome.chosen.policy)
    chosen = space.time_us(outcome.chosen.policy)
    for trained in outcome.trained:
        if outcome.reference.accuracy - trained.accuracy <= 0.01:
            assert chosen <= space.time_us(trained.policy)
    assert len(trials.evaluations) <= 60


def test_training_that_repairs_lets_the_search_go_further(space: SearchSpace, surrogate: Callable[..., Any]) -> None:
    plain, _ = flow(space, surrogate(), 0.0)
    good, _ = flow(space, surrogate(), 0.9)
    assert plain.tolerance == 0.01
    assert good.tolerance > 0.01
    assert space.time_us(good.chosen.policy) < space.time_us(plain.chosen.policy)
    anchor = good.baselines[4]
    assert good.tolerance <= 1.5 * (good.baselines[8].accuracy - anchor.accuracy) + 1e-12
    assert space.time_us(good.chosen.policy) < anchor.time_us


def test_baselines_come_first_and_are_logged_with_the_final_reward(
    space: SearchSpace, surrogate: Callable[..., Any]
) -> None:
    outcome, trials = flow(space, surrogate(), 0.9)
    assert list(outcome.baselines) == [8, 4, 5, 6, 7]
    assert [e.strategy for e in trials.evaluations[:5]] == ["baseline"] * 5
    assert trials.evaluations[1].policy == space.uniform(4, 4)
    assert trials.evaluations[0].policy == ((8, 8),) * 7
    for e in trials.evaluations:
        assert e.reward == trials.reward(e.accuracy, e.speedup)


def test_if_nothing_satisfies_the_reference_is_returned(space: SearchSpace, surrogate: Callable[..., Any]) -> None:
    outcome, _ = flow(space, surrogate(), -50.0, drop=1e-9)
    assert outcome.chosen == outcome.reference
    assert outcome.chosen.policy == ((8, 8),) * 7


def test_the_number_of_finalists_is_kept(space: SearchSpace, surrogate: Callable[..., Any]) -> None:
    def fail(pairs: Any) -> tuple[float, Any]:
        uniform = len(set(pairs[1:-1])) == 1
        return (0.94 if uniform else 0.5), None

    evaluator = surrogate()
    for finalists in (0, 1, 3):
        trials = Trials(space, evaluator, Budget(60))
        strategy = STRATEGIES["reinforce"](StrategyTask(space, trials.budget, damage=evaluator.distance))
        outcome = run_flow(trials, fail, strategy=strategy, batch=8, max_accuracy_drop=0.05, finalists=finalists)
        assert 2 + min(1, finalists) <= len(outcome.trained) <= 2 + finalists
        assert outcome.chosen.policy == space.uniform(4, 4)


def test_a_tiny_budget_still_returns_a_result(space: SearchSpace, surrogate: Callable[..., Any]) -> None:
    outcome, trials = flow(space, surrogate(), 0.5, budget=1)
    assert len(trials.evaluations) == 1
    assert list(outcome.baselines) == [8]


def test_narrow_spaces_have_fewer_baselines(surrogate: Callable[..., Any], space: SearchSpace) -> None:
    small = SearchSpace(space.shapes, "paper", bits=(2, 5))
    outcome, _ = flow(small, surrogate(), 0.5)
    assert list(outcome.baselines) == [8, 4, 5]
