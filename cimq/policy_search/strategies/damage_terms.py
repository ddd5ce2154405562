"""What the damage of a policy is made of: terms with unknown coefficients, which a Bayesian linear model learns.

To first order the damage is a sum over layers of what their weight bits and their activation bits cost alone, the
sensitivities. They are off together (another set of samples), layer by layer (the errors of the others shape what comes
in) and width by width (what was interpolated). And errors of two layers meet: what both do to the outputs may point the
same way or cancel, in proportion to the roots of what each does alone (CLADO, arXiv 2307.05657). Each of these is a
group of terms. Their prior deviations are shares of the sensitivities, so that the numbers here have no units.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

from cimq._C import DamageModel, PairwiseDamage
from cimq.policy_search.knapsack import Sensitivity, assumed_sensitivity
from cimq.policy_search.space import Pairs, Row, SearchSpace

# Groups of terms, and the prior deviations of their coefficients.
_CONSTANT, _TOGETHER, _HEAD, _WIDTH, _NEIGHBOURS, _OTHERS = range(6)
_DEVIATIONS = (0.3, 0.5, 0.6, 0.3, 0.4, 0.1)
# Without sensitivities, layers differ by far more than measured ones are off.
_COLD_HEAD = 1.0


@dataclasses.dataclass(frozen=True)
class DamageFunction:
    """Damage of one option per slot, with the coefficients known.

    Attributes:
        constant: What the most bits cost.
        choices: The rest; options are in the order of `Slot.pairs`.
    """

    constant: float
    choices: PairwiseDamage


class DamageTerms:
    """Terms of policies of a space.

    Args:
        space: The search space.
        sensitivity: What was measured; None: nothing was, see `assumed_sensitivity`.
        target: The damage that is wanted at most.
    """

    def __init__(self, space: SearchSpace, sensitivity: Sensitivity | None, target: float) -> None:
        self._space = space
        self._target = target
        self._warm = sensitivity is not None
        self._axes = space.axes
        self._count = len(space.axes.names)  # heads of a slot
        heads = [choices for slot in space.slots for choices in slot.choices]
        expected = sensitivity or assumed_sensitivity(space)
        # 4 bits everywhere are about what is wanted.
        unit = 1.0 if self._warm else target
        self._least = expected.least
        tables = [table for of_slot in zip(*expected.tables, strict=True) for table in of_slot]
        self._alone = [{w: unit * table[w] for w in choices} for table, choices in zip(tables, heads, strict=True)]
        free = [index for index, slot in enumerate(space.slots) if len(slot.pairs) > 1]
        self._meeting = [(i, j) for number, i in enumerate(free) for j in free[number + 1 :]]
        # Terms: the constant, weights together, activations together (and so on), heads, widths, pairs of slots.
        self._first_head = 1 + self._count
        self._width_of: dict[tuple[int, Any], int] = {}
        for head, choices in enumerate(heads):
            for width in choices[:-1]:
                self._width_of[head, width] = self._first_head + len(heads) + len(self._width_of)
        self._first_pair = self._first_head + len(heads) + len(self._width_of)

    def model(self) -> DamageModel:
        """The prior."""
        heads, widths = len(self._alone), len(self._width_of)
        groups = [_CONSTANT] + [_TOGETHER] * self._count + [_HEAD] * heads + [_WIDTH] * widths
        groups += [_NEIGHBOURS if j == i + 1 else _OTHERS for i, j in self._meeting]
        deviations = [_DEVIATIONS[group] for group in groups]
        deviations[0] *= self._target
        if not self._warm:
            deviations[self._first_head : self._first_head + heads] = [_COLD_HEAD] * heads
        means = [self._least] + [1.0] * self._count + [0.0] * (len(groups) - self._first_head)
        return DamageModel(means, deviations, groups)

    def alone(self, index: int, row: Row) -> float:
        """What a row of a slot is expected to cost, before anything is learned."""
        alone = self._alone[self._count * index :]
        return math.fsum(alone[axis][value] for axis, value in enumerate(self._axes.values(row)))

    def features(self, policy: Pairs) -> tuple[list[int], list[float]] | None:
        """Terms of a policy and their values; None for one that the space does not hold."""
        together = [0.0] * self._count
        terms: list[tuple[int, float]] = [(0, 1.0)]
        roots = []
        for index, slot in enumerate(self._space.slots):
            own = 0.0
            for position, width in enumerate(self._axes.values(policy[slot.layers[0]])):
                head = self._count * index + position
                value = self._alone[head].get(width)
                if value is None:
                    return None
                if value > 0:
                    terms.append((self._first_head + head, value))
                    terms.append((self._width_of[head, width], value))
                together[position] += value
                own += value
            roots.append(math.sqrt(own))
        terms += [(1 + axis, value) for axis, value in enumerate(together)]
        terms += [
            (self._first_pair + number, roots[i] * roots[j])
            for number, (i, j) in enumerate(self._meeting)
            if roots[i] and roots[j]
        ]
        return [term for term, _ in terms], [value for _, value in terms]

    def function(self, coefficients: Sequence[float]) -> DamageFunction:
        """The damage under such coefficients; fewer bits are never taken to cost less."""
        tables = [self._head_table(head, coefficients) for head in range(len(self._alone))]
        slots = []
        for index, slot in enumerate(self._space.slots):
            own = tables[self._count * index : self._count * (index + 1)]
            slots.append(
                [
                    (
                        slot.cost[row],
                        sum(table[value] for table, value in zip(own, self._axes.values(row), strict=True)),
                        math.sqrt(self.alone(index, row)),
                    )
                    for row in slot.pairs
                ]
            )
        pairs = [(i, j, coefficients[self._first_pair + number]) for number, (i, j) in enumerate(self._meeting)]
        return DamageFunction(coefficients[0], PairwiseDamage(slots, pairs))

    def _head_table(self, head: int, coefficients: Sequence[float]) -> dict[Any, float]:
        axis = head % self._count
        shared = coefficients[1 + axis] + coefficients[self._first_head + head]
        table: dict[Any, float] = {}
        least = 0.0
        for width in reversed(self._alone[head]):  # what costs least is the last of the choices
            alone = self._alone[head][width]
            own = coefficients[self._width_of[head, width]] if alone > 0 else 0.0
            table[width] = max(least, alone * (shared + own))
            least = 0.0 if axis == self._axes.mapping_axis else table[width]  # mappings have no order
        return table
