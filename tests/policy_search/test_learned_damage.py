"""Terms of damages, and the model that learns their coefficients."""

from __future__ import annotations

import itertools
import math
import random
from typing import Any

import pytest

from cimq.policy_search import Budget, Reward, SearchSpace
from cimq.policy_search.evaluators import Measured
from cimq.policy_search.knapsack import measure_sensitivity
from cimq.policy_search.strategies.damage_terms import DamageTerms
from cimq.policy_search.strategies.learned_damage import LearnedDamage


class Network:
    """Damages of layers, and of pairs of any layers."""

    def __init__(self, layers: int, strength: float) -> None:
        numbers = random.Random(5)
        self.pairs = [(i, j, strength * numbers.gauss(0, 1)) for i, j in itertools.combinations(range(layers), 2)]
        self.size = [numbers.lognormvariate(0, 1) for _ in range(layers)]

    def damage(self, policy: Any) -> float:
        own = [size * (4.0**-w + 4.0**-a) for size, (w, a) in zip(self.size, policy, strict=True)]
        return 0.002 + sum(own) + sum(strength * math.sqrt(own[i] * own[j]) for i, j, strength in self.pairs)

    def measure(self, policies: Any) -> list[Measured]:
        return [Measured(0.5, self.damage(policy)) for policy in policies]


def made(space: SearchSpace, network: Network) -> tuple[DamageTerms, Reward]:
    reward = Reward(network.damage(space.uniform(4, 4)))
    return DamageTerms(space, measure_sensitivity(space, network, Budget(200)), reward.target), reward


def drawn(space: SearchSpace, numbers: random.Random) -> Any:
    return space.assigned([numbers.choice(slot.pairs) for slot in space.slots])


def test_the_function_of_coefficients_is_what_the_features_add_up_to(space: SearchSpace) -> None:
    terms, _ = made(space, Network(len(space.shapes), 0.3))
    numbers = random.Random(1)
    coefficients = terms.model().mean()
    first_pair = len(coefficients) - 10  # of every two of the five slots that are free
    for index in (0, *range(first_pair, len(coefficients))):
        coefficients[index] += numbers.gauss(0, 0.5)
    function = terms.function(coefficients)
    for _ in range(20):
        policy = drawn(space, numbers)
        found = terms.features(policy)
        assert found is not None
        wanted = sum(coefficients[index] * value for index, value in zip(*found, strict=True))
        choices = [slot.pairs.index(policy[slot.layers[0]]) for slot in space.slots]
        assert function.constant + function.choices.damage(choices) == pytest.approx(wanted)
        assert space.uniform8_cost / function.choices.cost(choices) == pytest.approx(space.speedup(policy))


def test_fewer_bits_never_cost_less_in_a_draw(space: SearchSpace) -> None:
    terms, _ = made(space, Network(len(space.shapes), 0.0))
    model = terms.model()
    for number in range(20):
        function = terms.function(model.draw(0, number, 3.0))
        own = function.choices.around([0] * len(space.slots))  # at the most bits no pair meets
        for slot, row in zip(space.slots, own, strict=True):
            for one, other in itertools.combinations(range(len(row)), 2):
                if all(a >= b for a, b in zip(slot.pairs[one], slot.pairs[other], strict=True)):
                    assert row[one] <= row[other] + 1e-15


def test_a_policy_that_the_space_does_not_hold_teaches_nothing(space: SearchSpace) -> None:
    small = SearchSpace(space.shapes, "paper", bits=(3, 6))
    terms, reward = made(small, Network(len(space.shapes), 0.0))
    assert terms.features(space.uniform(8, 8)) is None
    damage = LearnedDamage(small, terms, reward)
    before = damage.best(0, 0, 0.0)
    damage.observe(space.uniform(8, 8), 100.0)
    assert damage.best(0, 0, 0.0) == before


@pytest.mark.parametrize("strength", [0.0, 0.6])
def test_the_best_policy_of_what_was_learned_is_close_to_the_best_of_all(space: SearchSpace, strength: float) -> None:
    small = SearchSpace(space.shapes, "paper", bits=(3, 6))
    network = Network(len(space.shapes), strength)
    terms, reward = made(small, network)
    damage = LearnedDamage(small, terms, reward)
    numbers = random.Random(2)
    for _ in range(80):
        policy = drawn(small, numbers)
        damage.observe(policy, network.damage(policy))
        damage.fit()

    def value(policy: Any) -> float:
        return reward(network.damage(policy), small.speedup(policy))

    policies = itertools.product(*(slot.pairs for slot in small.slots))
    best = max(map(value, policies))
    assert value(damage.best(0, 0, 0.0)) > best - 0.03
    # A larger aim is faster, a smaller one less damaging.
    slow, fast = (damage.best(0, 0, 0.0, None, aim) for aim in (0.7, 1.4))
    assert small.speedup(slow) < small.speedup(damage.best(0, 0, 0.0)) < small.speedup(fast)


def test_how_layers_meet_is_learned_from_whole_policies(space: SearchSpace) -> None:
    small = SearchSpace(space.shapes, "paper", bits=(3, 6))
    network = Network(len(space.shapes), 0.6)
    terms, reward = made(small, network)
    model = terms.model()
    numbers = random.Random(2)

    def error(count: int) -> float:
        """Of what is expected of policies that were not measured, as a share of the target."""
        coefficients = model.mean()
        squares = []
        for _ in range(count):
            policy = drawn(small, numbers)
            found = terms.features(policy)
            assert found is not None
            expected = sum(coefficients[index] * value for index, value in zip(*found, strict=True))
            squares.append((expected - network.damage(policy)) ** 2)
        return math.sqrt(sum(squares) / count) / reward.target

    before = error(50)
    for _ in range(80):
        policy = drawn(small, numbers)
        found = terms.features(policy)
        assert found is not None
        model.observe(*found, network.damage(policy), 0.02 * reward.target)
    assert error(50) < min(0.05, before / 5)
