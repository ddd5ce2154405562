"""The ladder: correlations of rungs, and what a search does where one does not predict."""

from __future__ import annotations

import math
import random
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from cimq import CimqWarning
from cimq.cost_model import LayerShape
from cimq.policy_search import STRATEGIES, Budget, Reward, SearchSpace, StrategyTask
from cimq.policy_search.evaluators import Evaluator, Measured
from cimq.policy_search.evaluators.remembered import Remembered
from cimq.policy_search.ladder import CALIBRATED, PROXY, SHARED, TRAINED, Ladder
from cimq.policy_search.rung_check import RungCheck
from cimq.policy_search.space import Pairs
from cimq.policy_search.uniform_front import uniform_grid

Damage = Callable[[Pairs], float]


class Function:
    """An evaluator of a function."""

    def __init__(self, damage: Damage) -> None:
        self.damage = damage
        self.calls = 0

    def measure(self, policies: Sequence[Pairs]) -> Iterator[Measured]:
        for policy in policies:
            self.calls += 1
            yield Measured(0.9, self.damage(policy))


def noise(policy: Pairs) -> float:
    """No relation to anything."""
    return random.Random(str(policy)).random()


def checked(
    space: SearchSpace,
    true: Damage,
    *,
    shared: Damage | None = None,
    calibrated: Damage | None = None,
    alone: Damage | None = None,
    after: Damage | None = None,
    trained: int = 0,
    limit: int = 200,
) -> tuple[RungCheck, Budget]:
    """A check in which rungs are `true` where nothing else is said."""
    budget = Budget(limit)
    rungs: dict[str, Evaluator] = {
        CALIBRATED: Function(calibrated or true), SHARED: Remembered(Function(shared or true), budget)
    }  # fmt: skip
    sensitivities = rungs[SHARED] if alone is None else Remembered(Function(alone), budget)
    check = RungCheck(space, budget, rungs, rungs, sensitivities, trained=trained)
    uniform = {policy: true(policy) for policy in uniform_grid(space, 50).values()}
    given = after or true
    check.run(uniform, true(space.canonical(space.uniform(4, 4))), lambda policies: [given(p) for p in policies])
    return check, budget


def test_rungs_that_agree_are_kept(space: SearchSpace, surrogate: Callable[..., Any]) -> None:
    damage = surrogate().damage
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check, budget = checked(space, damage, trained=16)
    assert check.passed_over == []
    assert check.ranking == SHARED
    assert check.start is not None
    found = {(c.lower, c.higher): c for c in check.ladder.correlations}
    assert len(found) == 6
    assert all(c.count == 16 and c.enough for c in found.values())
    assert found[SHARED, TRAINED].correlation == found[CALIBRATED, SHARED].correlation == pytest.approx(1)
    # Sums of what layers do alone are not all there is: neighbours interact.
    assert 0.8 < found[PROXY, SHARED].correlation <= 1
    assert budget.sensitivities > 32


def test_the_policies_lie_where_it_matters(space: SearchSpace, surrogate: Callable[..., Any]) -> None:
    damage = surrogate().damage
    check, _ = checked(space, damage)
    target = damage(space.canonical(space.uniform(4, 4)))
    damages = [damage(policy) for policy in check.policies]
    assert len(set(check.policies)) == 16
    assert all(space.canonical(policy) == policy for policy in check.policies)
    assert sum(target / 5 <= d <= target * 5 for d in damages) >= 14
    assert min(damages) < 0.7 * target < 1.4 * target < max(damages)
    again, _ = checked(space, damage)
    assert again.policies == check.policies
    uniform = set(uniform_grid(space, 50).values())
    assert 3 <= sum(policy in uniform for policy in check.policies) <= 8


def test_a_proxy_that_does_not_predict_starts_nothing(space: SearchSpace, surrogate: Callable[..., Any]) -> None:
    damage = surrogate().damage

    def misleading(policy: Pairs) -> float:
        """Layers that matter look as if they did not."""
        worst = max(range(7), key=lambda i: damage(tuple((2, 2) if j == i else (8, 8) for j in range(7))))
        return 1e-3 * damage(policy) + sum(noise(((i, w),)) for i, (w, a) in enumerate(policy) if a < 8 or w < 8) * (
            policy[worst] == (8, 8)
        )

    with pytest.warns(CimqWarning, match=r"by 'additive proxy' does not predict that by 'shared weights'.*without it"):
        check, _ = checked(space, damage, alone=misleading)
    assert check.passed_over == [PROXY]
    assert check.start is None


def test_shared_weights_that_do_not_predict_are_replaced_by_calibrated_ones(
    space: SearchSpace, surrogate: Callable[..., Any]
) -> None:
    damage = surrogate().damage
    with pytest.warns(CimqWarning, match="ranked by: calibrated"):
        check, _ = checked(space, damage, shared=noise, alone=damage, trained=16)
    assert check.ranking == CALIBRATED
    assert SHARED in check.passed_over
    assert check.ranker is check.ladder.evaluator(CALIBRATED)
    assert check.start is check.ranker


def test_calibrated_weights_that_do_not_predict_are_named(space: SearchSpace, surrogate: Callable[..., Any]) -> None:
    with pytest.warns(CimqWarning, match="by 'calibrated' does not predict"):
        check, _ = checked(space, surrogate().damage, calibrated=noise)
    assert (check.ranking, check.passed_over) == (SHARED, [CALIBRATED])


def test_a_rung_that_cannot_tell_policies_apart_is_named_so(space: SearchSpace, surrogate: Callable[..., Any]) -> None:
    with pytest.warns(CimqWarning, match="'calibrated' cannot tell 16 policies apart") as caught:
        check, _ = checked(space, surrogate().damage, calibrated=lambda policy: 0.5)
    assert "does not predict" not in str(caught[0].message)
    assert check.passed_over == [CALIBRATED]
    found = check.ladder.correlation(CALIBRATED, SHARED)
    assert found is not None
    assert found.alike == (CALIBRATED,)
    assert found.to_dict()["alike"] == [CALIBRATED]


def test_where_training_makes_all_alike_no_rung_is_blamed(space: SearchSpace, surrogate: Callable[..., Any]) -> None:
    damage = surrogate().damage
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check, _ = checked(space, damage, trained=16, after=lambda policy: 0.1)
    assert (check.passed_over, check.ranking) == ([], SHARED)
    found = check.ladder.correlation(SHARED, TRAINED)
    assert found is not None
    assert (found.alike, found.predicts) == ((TRAINED,), True)


def test_where_no_rung_predicts_the_search_says_so_and_goes_on(
    space: SearchSpace, surrogate: Callable[..., Any]
) -> None:
    with pytest.warns(CimqWarning, match="ranks candidates all the same"):
        check, _ = checked(space, surrogate().damage, shared=noise, calibrated=lambda p: noise(p[::-1]), trained=16)
    assert check.ranking == SHARED


def test_what_it_costs_is_counted_and_limited(space: SearchSpace, surrogate: Callable[..., Any]) -> None:
    damage = surrogate().damage
    check, budget = checked(space, damage, limit=79)
    assert (check.policies, check.ladder.correlations, budget.sensitivities) == ([], [], 0)
    for limit in (80, 200):
        budget = Budget(limit)
        function = Function(damage)
        rungs = {CALIBRATED: Function(damage), SHARED: function}
        check = RungCheck(space, budget, rungs, rungs, None)
        check.run(
            {p: damage(p) for p in uniform_grid(space, 50).values()},
            0.02,
            lambda policies: [damage(p) for p in policies],
        )
        assert 32 <= budget.sensitivities <= 0.1 * limit / 0.25
        trained = [space.canonical(space.uniform(w, a)) for w, a in ((4, 3), (4, 7), (8, 2), (8, 7))]
        before = budget.sensitivities
        check.finish({policy: damage(policy) for policy in trained})
        assert budget.sensitivities == before
        assert function.calls + rungs[CALIBRATED].calls <= budget.sensitivities
        assert check.ladder.correlation(SHARED, TRAINED) is not None or limit == 80


def test_a_few_trained_policies_are_shown_and_decide_nothing(space: SearchSpace, surrogate: Callable[..., Any]) -> None:
    damage = surrogate().damage
    check, _ = checked(space, damage)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check.finish({policy: noise(policy) for policy in check.policies[:5]})
    found = check.ladder.correlation(SHARED, TRAINED)
    assert found is not None
    assert (found.count, found.enough) == (5, False)
    assert "fewer than 16" in str(found)
    assert found.to_dict()["enough"] is False


def test_what_is_remembered_is_counted_once(space: SearchSpace) -> None:
    budget = Budget(10)
    function = Function(noise)
    remembered = Remembered(function, budget)
    policies = [space.uniform(bits, bits) for bits in (3, 4, 5)]
    for asked in (policies[:2], policies, policies):
        budget.sensitivities += len(asked)
        found = [measured.damage for measured in remembered.measure(asked)]
        assert found == [noise(policy) for policy in asked]
    assert (budget.sensitivities, function.calls) == (3, 3)


@pytest.mark.parametrize("strategy", ["thompson", "knapsack", "evolution", "reinforce"])
def test_a_strategy_takes_the_sensitivities_of_the_check(surrogate: Callable[..., Any], strategy: str) -> None:
    """Two widths of each layer were measured of the whole budget; of what is left then it would be one, another."""
    damage = surrogate().damage
    space = SearchSpace([LayerShape(f"layer {i}", "conv2d", 256, 1152, 49) for i in range(30)])
    check, budget = checked(space, damage, limit=100)
    assert check.start is not None
    widths = 28 * (1 + 2)  # of the weights and of the activations of the layers that are free
    assert 0.25 * widths > 0.25 * budget.left
    before = budget.sensitivities
    reward = Reward(damage(space.uniform(4, 4)))
    task = StrategyTask(space, budget, 0, 8, check.start, reward, check.sensitivity)
    assert STRATEGIES[strategy](task).propose(1)
    assert budget.sensitivities == before


def test_a_ladder_names_its_rungs() -> None:
    with pytest.raises(ValueError, match="rungs are called"):
        Ladder({"magic": Function(noise)})
    ladder = Ladder({})
    ladder.note(SHARED, [(((8, 8),), 0.1)])
    ladder.note(TRAINED, [(((8, 8),), math.pi)])
    assert ladder.correlations == []
