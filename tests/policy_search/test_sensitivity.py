"""Sensitivities: what is measured, what it counts, and what is made of noisy numbers."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest

from cimq.policy_search import Budget, SearchSpace
from cimq.policy_search.evaluators import Measured
from cimq.policy_search.knapsack import Sensitivity, assumed_sensitivity, measure_sensitivity


class Damage:
    """An evaluator that is a function, and remembers what it was asked."""

    def __init__(self, damage: Callable[[Any], float]) -> None:
        self.damage = damage
        self.asked: list[Any] = []

    def measure(self, policies: Any) -> list[Measured]:
        self.asked += policies
        return [Measured(0.5, self.damage(policy)) for policy in policies]


def by_the_law(policy: Any) -> float:
    return 0.5 + sum(4.0**-w + 4.0**-a for w, a in policy)


def measured(space: SearchSpace, evaluator: Damage, evaluations: int) -> Sensitivity:
    found = measure_sensitivity(space, evaluator, Budget(evaluations))
    assert found is not None
    return found


def test_one_layer_at_a_time_and_counted(space: SearchSpace) -> None:
    few = Damage(by_the_law)
    budget = Budget(100)
    sensitivity = measure_sensitivity(space, few, budget)
    assert sensitivity is not None
    assert budget.sensitivities == len(few.asked)
    assert budget.left == 100 - math.ceil(len(few.asked) / 4)
    assert few.asked[0] == space.widest
    assert all(sum(p != q for p, q in zip(pairs, space.widest, strict=True)) == 1 for pairs in few.asked[1:])
    assert sensitivity.least == by_the_law(space.widest)


@pytest.mark.parametrize(("evaluations", "acts"), [(100, {2, 4}), (12, {3})])
def test_fewer_widths_where_evaluations_are_few(space: SearchSpace, evaluations: int, acts: set[int]) -> None:
    few = Damage(by_the_law)
    sensitivity = measured(space, few, evaluations)
    layer = 2  # free in weights and activations
    assert {policy[layer][1] for policy in few.asked} - {8} == acts
    table = sensitivity.act[layer]
    assert table.keys() == set(range(2, 9))
    assert table[8] == 0
    for width in range(2, 8):  # 8 bits are not nothing, which is all that is missing
        assert table[width] == pytest.approx(4.0**-width - 4.0**-8, rel=0.1 if width < 6 else 0.4)


def test_nothing_where_it_would_take_most_of_the_evaluations(space: SearchSpace) -> None:
    few = Damage(by_the_law)
    budget = Budget(3)
    assert measure_sensitivity(space, few, budget) is None
    assert measure_sensitivity(space, None, Budget(100)) is None
    assert (few.asked, budget.left) == ([], 3)


def test_errors_of_small_damages_do_no_harm(space: SearchSpace) -> None:
    layer = 2

    def noisy(policy: Any) -> float:
        return by_the_law(policy) if policy[layer][1] != 4 else 0.4  # less than the most bits, by an error

    table = measured(space, Damage(noisy), 100).act[layer]
    assert table[2] == pytest.approx(4.0**-2, rel=0.01)
    assert table[4] == pytest.approx(table[2] / 8**2)  # the largest fall that is believed
    assert table[2] > table[3] > table[4] > table[5] > 0

    def blind(policy: Any) -> float:
        return by_the_law(policy) - sum(4.0**-w + 4.0**-a for w, a in [policy[layer]])

    table = measured(space, Damage(blind), 100).act[layer]
    others = measured(space, Damage(by_the_law), 100).act[layer]
    assert table[2] == pytest.approx(0.03 * sum_of_others(others[2], space), rel=0.01)


def sum_of_others(alone: float, space: SearchSpace) -> float:
    """Mean over the layers whose activations are free, where one of them shows nothing."""
    free = sum(len(slot.act_choices) > 1 for slot in space.slots)
    return alone * (free - 1) / free


def test_what_is_assumed_is_alike_for_all_layers(space: SearchSpace) -> None:
    assumed = assumed_sensitivity(space)
    free = [table for table in assumed.act if len(table) > 1]
    assert all(table == free[0] for table in free)
    assert free[0][3] == 4 * free[0][4]
    assert free[0][8] == 0
