"""run_flow: target, baselines and finalists, with training that is a function."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable
from typing import Any

import pytest

from cimq import CimqWarning
from cimq.policy_search import STRATEGIES, Budget, SearchSpace, StrategyTask, Trials
from cimq.policy_search.confirmation import Confirmed
from cimq.policy_search.flow import Outcome, run_flow
from cimq.policy_search.goals import Fastest
from cimq.policy_search.ladder import CALIBRATED, SHARED
from cimq.policy_search.records import front_of
from cimq.policy_search.rung_check import RungCheck
from cimq.policy_search.uniform_front import name_of, target_between, uniform_grid

EIGHT = (8, 8)


def flow(
    space: SearchSpace,
    evaluator: Any,
    repaired: float,
    *,
    drop: float = 0.01,
    budget: int = 80,
    strategy: str = "thompson",
    finalists: int = 4,
    train: Callable[[Any], tuple[float, Any]] | None = None,
    pareto: int = 0,
) -> tuple[Outcome, Trials]:
    """Training repairs a share of the damage."""

    def repairs(pairs: Any) -> tuple[float, Any]:
        return 0.94 - (1 - repaired) * evaluator.damage(pairs), ("model", pairs)

    trials = Trials(space, evaluator, Budget(budget))

    def made(reward: Any) -> Any:
        return STRATEGIES[strategy](StrategyTask(space, trials.budget, 0, 8, type(evaluator)(), reward))

    def confirmed(pairs: Any) -> tuple[Confirmed, Any]:
        accuracy, artefact = (train or repairs)(pairs)
        return Confirmed(accuracy), artefact

    outcome = run_flow(
        trials, confirmed, goal=Fastest(drop), strategy=made, batch=8, finalists=finalists, pareto=pareto
    )
    return outcome, trials


@pytest.mark.parametrize("strategy", sorted(STRATEGIES))
@pytest.mark.parametrize("repaired", [0.0, 0.7, 0.95, 1.0])
def test_the_choice_satisfies_the_constraint_and_no_trained_policy_that_does_is_faster(
    space: SearchSpace, surrogate: Callable[..., Any], repaired: float, strategy: str
) -> None:
    outcome, trials = flow(space, surrogate(), repaired, strategy=strategy)
    assert outcome.reference.accuracy - outcome.chosen.accuracy <= 0.01
    assert outcome.chosen.artefact == ("model", outcome.chosen.policy)
    chosen = space.time_us(outcome.chosen.policy)
    for trained in outcome.trained:
        if outcome.reference.accuracy - trained.accuracy <= 0.01:
            assert chosen <= space.time_us(trained.policy)
    assert trials.budget.evaluations <= 80


def test_the_target_is_the_damage_at_which_the_constraint_ends_after_training(
    space: SearchSpace, surrogate: Callable[..., Any]
) -> None:
    evaluator = surrogate()
    least = evaluator.damage((EIGHT,) * 7)
    plain, _ = flow(space, surrogate(), 0.0)
    good, _ = flow(space, surrogate(), 0.9)
    # Training that repairs nine tenths lets ten times the damage through; drops are linear in the damage here.
    assert plain.target == pytest.approx(least + 0.01, rel=0.02)
    assert good.target == pytest.approx(least + 0.1, rel=0.02)
    assert space.time_us(good.chosen.policy) < space.time_us(plain.chosen.policy)


def test_the_found_policy_is_faster_than_every_uniform_one_that_holds(
    space: SearchSpace, surrogate: Callable[..., Any]
) -> None:
    outcome, _ = flow(space, surrogate(), 0.9)
    evaluator = surrogate()
    limit = evaluator.damage((EIGHT,) * 7) + 0.1
    uniform = [e.time_us for e in outcome.baselines.values() if evaluator.damage(e.policy) <= limit]
    assert space.time_us(outcome.chosen.policy) < 0.985 * min(uniform)


def test_few_uniform_policies_are_trained(space: SearchSpace, surrogate: Callable[..., Any]) -> None:
    outcome, _ = flow(space, surrogate(), 0.9, finalists=0)
    assert len(outcome.baselines) > 8
    assert len(outcome.trained) <= 1 + 4 + 2


def test_baselines_come_first_and_are_logged_with_the_final_reward(
    space: SearchSpace, surrogate: Callable[..., Any]
) -> None:
    outcome, trials = flow(space, surrogate(), 0.9)
    count = len(outcome.baselines)
    assert [e.strategy for e in trials.evaluations[:count]] == ["baseline"] * count
    assert next(iter(outcome.baselines)) == EIGHT
    assert trials.evaluations[0].policy == (EIGHT,) * 7
    assert outcome.baselines[4, 4].policy == space.canonical(space.uniform(4, 4))
    for e in trials.evaluations:
        assert e.reward == trials.reward(e.damage, e.speedup)


def test_if_nothing_satisfies_the_reference_is_returned(space: SearchSpace, surrogate: Callable[..., Any]) -> None:
    outcome, _ = flow(space, surrogate(), -50.0, drop=1e-9)
    assert outcome.chosen == outcome.reference
    assert outcome.chosen.policy == (EIGHT,) * 7


def test_where_every_uniform_policy_holds_the_search_goes_beyond(
    space: SearchSpace, surrogate: Callable[..., Any]
) -> None:
    outcome, _ = flow(space, surrogate(), 1.0)
    fastest = min(e.time_us for e in outcome.baselines.values())
    assert space.time_us(outcome.chosen.policy) <= fastest
    assert outcome.target == pytest.approx(1.5 * max(e.damage for e in outcome.baselines.values()))


def test_the_number_of_finalists_is_kept(space: SearchSpace, surrogate: Callable[..., Any]) -> None:
    grid = set(uniform_grid(space, 100).values())

    def only_uniform(policy: Any) -> tuple[float, Any]:
        return (0.94 if policy in grid else 0.5), None

    for finalists in (0, 1, 3):
        outcome, _ = flow(space, surrogate(), 0, drop=0.05, finalists=finalists, train=only_uniform)
        others = [entry for entry in outcome.trained if entry.policy not in grid]
        assert len(others) <= finalists
        assert outcome.chosen.policy in grid


def test_an_accuracy_after_training_that_is_no_number_is_refused(
    space: SearchSpace, surrogate: Callable[..., Any]
) -> None:
    with pytest.raises(ValueError, match="after training is not a number"):
        flow(space, surrogate(), 0, train=lambda policy: (math.nan, None))


def test_uniform_policies_that_are_measured_on_two_rungs_count_twice(
    space: SearchSpace, surrogate: Callable[..., Any]
) -> None:
    class Noise(surrogate):  # type: ignore[misc]
        def damage(self, pairs: Any) -> float:
            return random.Random(str(pairs)).random()

    few = {SHARED: Noise(), CALIBRATED: surrogate()}
    whole = {SHARED: Noise(), CALIBRATED: surrogate()}
    budget = Budget(100)
    check = RungCheck(space, budget, few, whole, None, trained=16)
    trials = Trials(space, check.ranker, budget, rung=check.ranking)

    def train(policy: Any) -> tuple[Confirmed, Any]:
        damage = surrogate().damage(policy)
        return Confirmed(0.94 - damage, damage), None

    with pytest.warns(CimqWarning, match="ranked by: calibrated"):
        run_flow(
            trials,
            train,
            goal=Fastest(0.01),
            strategy=lambda reward: STRATEGIES["random"](StrategyTask(space, budget, 0, 8, None, reward)),
            batch=8,
            finalists=1,
            rungs=check,
        )
    assert whole[SHARED].calls > 10
    measured = sum(rung.calls for rung in whole.values()) + 0.25 * sum(rung.calls for rung in few.values())
    assert 95 <= measured <= 100


def test_a_tiny_budget_still_returns_a_result(space: SearchSpace, surrogate: Callable[..., Any]) -> None:
    outcome, trials = flow(space, surrogate(), 0.5, budget=1)
    assert len(trials.evaluations) == 1
    assert list(outcome.baselines) == [EIGHT]


def test_the_grid_is_that_of_different_policies(space: SearchSpace) -> None:
    grid = uniform_grid(space, 100)
    assert len(set(grid.values())) == len(grid)
    assert {space.canonical(space.uniform(w, a)) for w in range(2, 9) for a in range(2, 9)} <= set(grid.values()) | {
        space.canonical((EIGHT,) * 7)
    }
    assert (4, 4) in grid
    assert (3, 4) not in grid  # 3-bit weights take the cells of 4-bit ones
    few = uniform_grid(space, 3)
    assert len(few) == 3
    assert {EIGHT, (4, 4)} < set(few)
    assert list(uniform_grid(space, 1)) == [EIGHT]
    assert [name_of(pair) for pair in (EIGHT, (4, 3))] == ["uniform 8-bit", "uniform W4A3"]


def test_fronts_and_targets() -> None:
    assert front_of([(1.0, 5.0), (2.0, 4.0), (2.0, 4.0), (3.0, 4.5), (4.0, 1.0)])[::-1] == [4, 1, 0]
    assert target_between((0.02, 0.002), (0.06, 0.022), 0.012) == pytest.approx(0.04)
    assert target_between((0.02, 0.002), (0.06, 0.001), 0.012) == 0.02  # noise: the slower one is worse
    assert target_between((0.02, 0.002), (0.06, 0.022), 0.5) == pytest.approx(0.06)


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("scatter", [0.012, 0.03])
def test_no_trained_uniform_policy_is_faster_and_more_accurate_whatever_training_gives(
    space: SearchSpace, surrogate: Callable[..., Any], seed: int, scatter: float
) -> None:
    """Damages that say nothing of what training gives: it gives any accuracy, and it likes uniform policies."""
    grid = set(uniform_grid(space, 100).values())
    numbers = random.Random(seed)
    given: dict[Any, float] = {}

    def any_accuracy(policy: Any) -> tuple[float, Any]:
        return given.setdefault(policy, 0.9 + scatter * numbers.random() + 0.3 * scatter * (policy in grid)), None

    outcome, _ = flow(space, surrogate(), 0, drop=0.01, train=any_accuracy, budget=60)
    time_us, accuracy = space.time_us(outcome.chosen.policy), outcome.chosen.accuracy
    assert outcome.reference.accuracy - accuracy <= 0.01
    trained = [entry for entry in outcome.trained if entry.policy in grid]
    assert len(trained) >= 3
    for entry in trained:
        faster, better = time_us - space.time_us(entry.policy), entry.accuracy - accuracy
        assert not (faster >= 0 and better >= 0 and max(faster, better) > 0)


def test_a_uniform_policy_that_looks_too_damaged_is_tried_all_the_same(
    space: SearchSpace, surrogate: Callable[..., Any]
) -> None:
    """The bisection ends at the first of the front that fails; one beyond, hardly more damaged, holds."""
    exact = surrogate().damage

    class Flat(surrogate):  # type: ignore[misc]
        def damage(self, pairs: Any) -> float:
            return 0.02 * exact(pairs) ** 0.1

    policies = sorted(uniform_grid(space, 100).values(), key=space.time_us, reverse=True)
    first, hidden = len(policies) // 2, len(policies) // 2 + 1

    def train(policy: Any) -> tuple[float, Any]:
        holds = policy in policies and (policies.index(policy) < first or policies.index(policy) == hidden)
        return 0.94 if holds else 0.5, None

    outcome, _ = flow(space, Flat(), 0, drop=0.01, train=train)
    assert outcome.chosen.policy == policies[hidden]


@pytest.mark.parametrize("count", [1, 2, 5])
def test_the_front_is_trained_where_it_is_asked_for(
    space: SearchSpace, surrogate: Callable[..., Any], count: int
) -> None:
    outcome, trials = flow(space, surrogate(), 0.9, pareto=count)
    assert len(outcome.along) == count
    front = {e.policy for e in outcome.pareto}
    assert {entry.policy for entry in outcome.along} <= front
    assert all(entry in outcome.trained for entry in outcome.along)
    times = [space.time_us(entry.policy) for entry in outcome.along]
    assert times == sorted(times, reverse=True)
    if count == 5:
        slowest = max(e.time_us for e in trials.evaluations if e.policy in front and e.speedup > 1)
        assert times[0] == slowest
        steps = [math.log(a / b) for a, b in itertools.pairwise(times)]
        assert max(steps) < 3 * sum(steps) / len(steps)
    assert flow(space, surrogate(), 0.9)[0].along == []
