"""Cross-layer terms from perturbations of two layers, and local search of the quadratic programme that they make.

CLADO (arXiv 2307.05657) measures every pair of choices of every two layers. Here one measurement for each two layers
tells how their errors meet, the most important first, as far as a share of the budget goes; what is proposed is then
found, and corrected by what is measured of it, as `thompson` does.
"""

from __future__ import annotations

from cimq.policy_search.budget import SENSITIVITY_SHARE
from cimq.policy_search.evaluators import Evaluator
from cimq.policy_search.space import Pairs, SearchSpace
from cimq.policy_search.strategies.damage_terms import DamageTerms
from cimq.policy_search.strategies.learned_damage import LearnedDamage
from cimq.policy_search.strategies.thompson import Thompson

# Share of the evaluations that are left after the sensitivities.
_SHARE = 0.4
# Neighbours meet more than layers apart.
_NEIGHBOURS = 3.0
# Layers are perturbed by more than the best policy does: what is larger is measured better.
_FARTHER = 4.0


class Pairwise(Thompson):
    """Measures pairs of layers first."""

    name = "pairwise"

    def prepare(self, terms: DamageTerms, damage: LearnedDamage, few: Evaluator) -> None:
        """Pairs of layers, each as a quarter of an evaluation."""
        task = self._task
        count = int(_SHARE * task.budget.left / SENSITIVITY_SHARE)
        policies = _perturbed_pairs(task.space, terms, damage.best(task.seed, 0, 0.0))[:count]
        task.budget.sensitivities += len(policies)
        for policy, measured in zip(policies, few.measure(policies), strict=True):
            damage.observe_few(policy, measured.damage)


def _perturbed_pairs(space: SearchSpace, terms: DamageTerms, best: Pairs) -> list[Pairs]:
    """Policies with two slots at fewer bits, all others at the most; the most important first.

    A pair matters by the roots of what its slots cost in the best policy.
    """
    lowered = []
    for index, slot in enumerate(space.slots):
        own = terms.alone(index, best[slot.layers[0]])
        if own > 0:
            farther = min(slot.pairs, key=lambda pair: abs(terms.alone(index, pair) - _FARTHER * own))
            lowered.append((index, own, farther))
    weighed = []
    for number, (i, first, low) in enumerate(lowered):
        for j, second, lower in lowered[number + 1 :]:
            importance = (first * second) ** 0.5 * (_NEIGHBOURS if j == i + 1 else 1.0)
            weighed.append((-importance, i, j, low, lower))  # i and j differ: rows are not compared
    policies = []
    for _, i, j, low, lower in sorted(weighed):
        pairs = [slot.top for slot in space.slots]
        pairs[i], pairs[j] = low, lower
        policies.append(space.assigned(pairs))
    return policies
