"""A budget on cost: what fits, the nearest that does, and strategies that propose nothing else."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable
from typing import Any

import pytest

from cimq.policy_search import STRATEGIES, Budget, Proposal, SearchSpace, StrategyTask, Trials
from cimq.policy_search.cost_limit import CostLimit
from cimq.policy_search.reward import LeastDamage
from cimq.policy_search.space import OBJECTIVES
from cimq.policy_search.uniform_front import uniform_grid

HARDWARE = {"latency": "paper", "energy": "isaac", "energy_delay": "isaac"}


@pytest.fixture(params=OBJECTIVES)
def some_space(request: pytest.FixtureRequest, space: SearchSpace) -> SearchSpace:
    return SearchSpace(space.shapes, HARDWARE[request.param], bits=(3, 7), objective=request.param)


@pytest.fixture
def small(space: SearchSpace) -> SearchSpace:
    """All of its policies can be gone through."""
    return SearchSpace(space.shapes, "paper", bits=(3, 7))


def drawn(space: SearchSpace, count: int) -> list[Any]:
    numbers = random.Random(0)
    return [space.assigned([numbers.choice(slot.pairs) for slot in space.slots]) for _ in range(count)]


@pytest.mark.filterwarnings("ignore::cimq.CimqWarning")
def test_what_fits_is_what_has_the_gain(some_space: SearchSpace) -> None:
    reach = some_space.gain(some_space.fastest)
    assert all(some_space.gain(policy) <= reach for policy in drawn(some_space, 200))
    for gain in (1.0001, 0.5 * (1 + reach), reach):
        limit = CostLimit(some_space, gain)
        for policy in drawn(some_space, 50):
            assert limit.fits(policy) == (some_space.gain(policy) >= gain)
            cost = sum(slot.cost[policy[slot.layers[0]]] for slot in some_space.slots)
            if cost <= limit.cost:
                assert limit.fits(policy)
            elif some_space.objective != "energy_delay":  # of a product, a little more may fit
                assert not limit.fits(policy)
    with pytest.raises(ValueError, match=rf"min_speedup=.* is out of reach: .* {math.floor(1000 * reach) / 1000:.3f} "):
        CostLimit(some_space, reach * 1.001)


def test_the_largest_sum_is_exact(space: SearchSpace) -> None:
    for policy in drawn(space, 100):
        gain = space.gain(policy)
        if gain > 1:
            assert space.cost_at(gain) == sum(slot.cost[policy[slot.layers[0]]] for slot in space.slots)


def test_the_nearest_that_fits_has_the_fewest_bits_changed(space: SearchSpace) -> None:
    small = SearchSpace(space.shapes, "paper", bits=(4, 7))
    limit = CostLimit(small, 1.8)

    def changed(policy: Any, other: Any) -> int:
        rows = zip(policy, other, strict=True)
        return sum(abs(w - v) + abs(a - b) for (w, a), (v, b) in rows)

    fitting = [p for p in itertools.product(*(slot.pairs for slot in small.slots)) if limit.fits(p)]
    for policy in [small.widest, *drawn(small, 10)]:
        found = limit.nearest(policy)
        assert limit.fits(found)
        assert changed(found, policy) == min(changed(other, policy) for other in fitting)
        assert (found == policy) == limit.fits(policy)


def test_of_few_uniform_policies_one_fits(space: SearchSpace) -> None:
    for gain in (1.3, 2.0, space.gain(space.fastest)):
        limit = CostLimit(space, gain)
        for count in (2, 3, 6):
            grid = uniform_grid(space, count, gain)
            assert len(grid) == count
            assert next(iter(grid)) == (8, 8)
            assert any(limit.fits(policy) for policy in grid.values())


def test_the_reward_is_the_less_damage_the_better_within_the_limit(space: SearchSpace) -> None:
    reward = LeastDamage(0.1, CostLimit(space, 2.0))
    assert reward(0.1, 2.0) == 0
    assert reward(0.05, 2.0) == reward(0.05, 3.0) == pytest.approx(math.log(2))
    assert reward(0.0, 2.0) > reward(0.1, 2.0) > reward(1e9, 2.0) > reward(0.0, 1.999) > reward(0.0, 1.5)
    assert reward(math.inf, 2.0) > reward(0.0, 1.0)
    assert (reward.feasible(9.0, 2.0), reward.feasible(0.0, 1.99)) == (True, False)
    with pytest.raises(ValueError, match="target must be above 0"):
        LeastDamage(0.0, reward.limit)


def within(space: SearchSpace, surrogate: Callable[..., Any], strategy: str, gain: float, count: int = 60) -> Trials:
    """A search after its baselines, as the flow runs it."""
    evaluator = surrogate()
    limit = CostLimit(space, gain)
    grid = list(uniform_grid(space, 6, gain).values())
    trials = Trials(space, evaluator, Budget(count + len(grid)))
    trials.reward = LeastDamage(min(evaluator.damage(p) for p in grid if limit.fits(p)), limit)
    trials.evaluate([Proposal(policy, "baseline") for policy in grid])
    trials.run(STRATEGIES[strategy](StrategyTask(space, trials.budget, 3, 8, surrogate(), trials.reward)), 8)
    return trials


@pytest.mark.parametrize("gain", [1.4, 1.8])
def test_strategies_stay_within_and_come_near_the_least_damage(
    small: SearchSpace, surrogate: Callable[..., Any], gain: float
) -> None:
    options = itertools.product(*(slot.pairs for slot in small.slots))
    least = min(surrogate().damage(policy) for policy in options if small.gain(policy) >= gain)
    best = {}
    for strategy in STRATEGIES:
        trials = within(small, surrogate, strategy, gain)
        proposed = [e for e in trials.evaluations if e.strategy != "baseline"]
        assert all(small.gain(e.policy) >= gain and e.feasible for e in proposed)
        assert len({e.policy for e in trials.evaluations}) == len(trials.evaluations)
        best[strategy] = min(e.damage for e in trials.evaluations if e.feasible)
    for strategy, share in (
        ("thompson", 1.001), ("pairwise", 1.001), ("reinforce", 1.1), ("evolution", 1.1), ("knapsack", 1.1),
    ):  # fmt: skip
        assert best[strategy] <= share * least, strategy
        assert best[strategy] < best["random"]
        assert best[strategy] < best["uniform"]


@pytest.mark.parametrize("strategy", sorted(STRATEGIES))
def test_at_the_end_of_the_space_the_fastest_is_left(
    space: SearchSpace, surrogate: Callable[..., Any], strategy: str
) -> None:
    trials = within(space, surrogate, strategy, space.gain(space.fastest), 20)
    assert {e.policy for e in trials.evaluations if e.feasible} == {space.fastest}


@pytest.mark.filterwarnings("ignore::cimq.CimqWarning")
@pytest.mark.parametrize("strategy", ["thompson", "evolution", "reinforce", "knapsack"])
def test_other_objectives(some_space: SearchSpace, surrogate: Callable[..., Any], strategy: str) -> None:
    gain = 0.4 + 0.6 * some_space.gain(some_space.fastest)
    trials = within(some_space, surrogate, strategy, gain, 40)
    proposed = [e for e in trials.evaluations if e.strategy != "baseline"]
    assert proposed
    assert all(some_space.gain(e.policy) >= gain for e in proposed)
    uniform = min(e.damage for e in trials.evaluations if e.strategy == "baseline" and e.feasible)
    assert min(e.damage for e in proposed) < uniform
