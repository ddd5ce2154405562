"""The damage of policies as it was learned so far, and the best policy under it.

The best policy is found by exact knapsack on what each slot contributes while the others stay, repeated around what was
found until that no longer helps, then by local search with moves of one and of two slots.
"""

from __future__ import annotations

import bisect
import dataclasses
import math
from collections.abc import Sequence

from cimq._C import KnapsackFront
from cimq.policy_search.reward import AnyReward
from cimq.policy_search.space import Pairs, SearchSpace
from cimq.policy_search.strategies.damage_terms import DamageFunction, DamageTerms

# How far a policy's damage may be from what its terms add up to, as a share of the target.
_MISFIT = 0.02
# Policies far from the target say less of those near it: this share of their distance is added to the misfit.
_MISFIT_AWAY = 0.1
# What is measured on few samples is off by a share of itself.
_MISFIT_FEW = 0.1
# Sums that the knapsack keeps: enough for what it takes in time to be off by less than what is learned.
_LEAST_STATES, _STATES_PER_SLOT = 512, 10
_ROUNDS = 4
# Damages between which the largest reward is, as shares of the target.
_NEAREST, _FARTHEST = 0.6, 1.3
# Points of a front that are looked at: places of the damages that the sum over slots promises, in those of the best.
_PROMISED = (1.0, 0.97, 0.94, 0.9, 1.03)
# Within a cost all of these are cheaper.
_PROMISED_WITHIN = (1.0, 1.01, 1.03, 1.06, 1.1)
# Scales of the groups' deviations that are tried, and how much better the evidence must be than at the present scale.
_SCALES = (0.0, 0.3, 0.6, 1.0, 1.6, 2.5)
_EVIDENCE = 1.0
_OBSERVATIONS_PER_FIT = 16
_TINY = 1e-9


class LearnedDamage:
    """Bayesian model of the damage of policies.

    Args:
        space: The search space.
        terms: What damages are made of.
        reward: What the best policy makes large.
    """

    def __init__(self, space: SearchSpace, terms: DamageTerms, reward: AnyReward) -> None:
        self._space = space
        self._terms = terms
        self._reward = reward
        self._model = terms.model()
        self._fitted = 0
        self._near = reward.target  # damages that matter are about that

    def observe(self, policy: Pairs, damage: float) -> None:
        """Takes in one measured policy; of those that the space does not hold nothing is learned."""
        limit = self._reward.limit
        if limit is not None and limit.fits(policy):
            self._near = min(self._near, max(damage, _TINY * self._reward.target))
        self._learn(policy, damage, max(_MISFIT * self._near, _MISFIT_AWAY * abs(damage - self._near)))

    def observe_few(self, policy: Pairs, damage: float) -> None:
        """Takes in one policy with most layers at their most bits, measured as sensitivities are."""
        self._learn(policy, damage, _MISFIT_FEW * max(damage, _MISFIT * self._reward.target))

    def _learn(self, policy: Pairs, damage: float, misfit: float) -> None:
        found = self._terms.features(policy)
        if found is not None:
            self._model.observe(*found, damage, misfit)

    def fit(self) -> None:
        """Chooses how large the terms of each group are taken to be, by the evidence."""
        model = self._model
        if model.observations < self._fitted + _OBSERVATIONS_PER_FIT:
            return
        self._fitted = model.observations
        scales = model.scales
        best = model.log_evidence(scales)
        for group in range(1, len(scales)):
            for scale in _SCALES:
                tried = [*scales[:group], scale, *scales[group + 1 :]]
                evidence = model.log_evidence(tried)
                if evidence > best + _EVIDENCE:
                    best, scales = evidence, tried
        model.scales = scales

    def best(self, seed: int, number: int, temperature: float, start: Pairs | None = None, aim: float = 1.0) -> Pairs:
        """The policy with the largest reward under one draw.

        Args:
            seed: Of the draw.
            number: Of the draw.
            temperature: Of the draw; 0 is the mean.
            start: Where the search begins; None: the most bits.
            aim: The target in place of the reward's, as a share of it; within a cost there is none.
        """
        reward = dataclasses.replace(self._reward, target=aim * self._reward.target)
        slots = self._space.slots
        function = self._terms.function(self._model.draw(seed, number, temperature))
        choices = [0] * len(slots)
        if start is not None:
            choices = [slot.pairs.index(start[slot.layers[0]]) for slot in slots]
        found = self._search(function, choices, reward)
        return self._space.assigned([slot.pairs[choice] for slot, choice in zip(slots, found, strict=True)])

    def _search(self, function: DamageFunction, choices: list[int], reward: AnyReward) -> list[int]:
        best, most = choices, self._value(function, choices, reward)
        for _ in range(_ROUNDS):
            tried = max(self._around(function, best, reward), key=lambda found: self._value(function, found, reward))
            value = self._value(function, tried, reward)
            if value <= most + 1e-9:
                break
            best, most = tried, value
            if reward.limit is not None:  # what is saved at the same damage, the next round spends
                best = function.choices.polished(best, function.choices.damage(best))
                most = self._value(function, best, reward)
        polished = function.choices.polished(best, function.choices.damage(best))
        return polished if self._value(function, polished, reward) > most else best

    def _around(self, function: DamageFunction, choices: Sequence[int], reward: AnyReward) -> list[list[int]]:
        """Points of the knapsack's front where slots contribute what they do around `choices`."""
        table = function.choices.around(choices)
        slots = [
            [(slot.cost[pair], damage) for pair, damage in zip(slot.pairs, row, strict=True)]
            for slot, row in zip(self._space.slots, table, strict=True)
        ]
        front = KnapsackFront(slots, max(_LEAST_STATES, _STATES_PER_SLOT * len(slots)))
        # Damages fall along the front.
        rising = [-(function.constant + damage) for damage in front.damages]
        top = self._top(rising, front.costs, reward)
        shares, last = (_PROMISED, len(rising) - 1) if reward.limit is None else (_PROMISED_WITHIN, top)
        points = [bisect.bisect_left(rising, share * rising[top]) for share in shares]
        return [front.choices(point) for point in dict.fromkeys(min(point, last) for point in points)]

    def _top(self, rising: Sequence[float], costs: Sequence[int], reward: AnyReward) -> int:
        """The point with the largest reward, if the front holds what it promises."""
        if reward.limit is not None:
            return max(0, bisect.bisect_right(costs, reward.limit.cost) - 1)
        total = self._space.uniform8_cost
        # All points whose reward may be the largest.
        first = bisect.bisect_left(rising, -_FARTHEST * reward.target)
        last = max(first + 1, bisect.bisect_right(rising, -_NEAREST * reward.target))
        near = range(min(first, len(rising) - 1), min(last, len(rising)))
        return max(near, key=lambda point: reward(-rising[point], total / costs[point]))

    def _value(self, function: DamageFunction, choices: Sequence[int], reward: AnyReward) -> float:
        damage, cost = function.constant + function.choices.damage(choices), function.choices.cost(choices)
        if reward.limit is not None:  # a draw may make the damage less than nothing: the least all the same
            return -damage if cost <= reward.limit.cost else -math.inf
        return reward(damage, self._space.uniform8_cost / cost)
