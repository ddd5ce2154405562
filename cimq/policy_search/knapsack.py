"""An additive model of the sensitivities and the latency table, solved exactly: where strategies start.

Quantisation noise of layers adds up to first order, and the latency is a sum over layers, so that the best policy under
the model is a multiple-choice knapsack. Its front is a path of policies from accurate to fast; a few evaluations along
it find where the target lies (`strategies.knapsack_walk`).
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from cimq._C import KnapsackFront
from cimq.policy_search.axes import Axes
from cimq.policy_search.budget import SENSITIVITY_SHARE, Budget
from cimq.policy_search.evaluators import Evaluator
from cimq.policy_search.space import Pairs, Row, SearchSpace, Slot

# Sums that the knapsack keeps: what it takes in time is above the least by at most slots / states of the range.
_STATES = 4096
# Two widths of a slot's weights and activations are measured where that takes no more of the evaluations.
_LARGEST_SHARE = 0.25
# Where even one takes more than this, evaluations of whole policies say more.
_MOST = 0.6
# How much less a bit more costs: by the law, and at most and at least.
_FALL, _LARGEST_FALL, _SMALLEST_FALL = 4.0, 8.0, 2.0
# A sensitivity is at least this share of the mean of its width: one that was measured as 0 would have no prior.
_LEAST_SHARE = 0.03
_TINY = 1e-12
# Where nothing was measured another mapping is taken to cost what so many bits do.
_ASSUMED_WIDTH = 6


@dataclasses.dataclass(frozen=True)
class Sensitivity:
    """Damage of quantising one slot alone, additive over slots; 0 is none.

    Attributes:
        weight: Per slot: weight bits -> damage.
        act: Per slot: activation bits -> damage.
        least: Damage of the most bits, which is in none of the others.
        others: The same of the other axes of the space, ADC bits and mapping, where it has them.
        axes: Those of the space, where it has others.
    """

    weight: Sequence[Mapping[int, float]]
    act: Sequence[Mapping[int, float]]
    least: float = 0.0
    others: Sequence[Sequence[Mapping[Any, float]]] = ()
    axes: Axes | None = None

    @property
    def tables(self) -> list[Sequence[Mapping[Any, float]]]:
        """Of every axis: per slot its values -> damage."""
        return [self.weight, self.act, *self.others]

    def of(self, index: int, row: Row) -> float:
        """Damage of slot `index` under a row."""
        values = row if self.axes is None else self.axes.values(row)
        return sum(tables[index][value] for tables, value in zip(self.tables, values, strict=True))


def measure_sensitivity(space: SearchSpace, evaluator: Evaluator | None, budget: Budget) -> Sensitivity | None:
    """Sensitivities from the damage of policies, one layer (or group) quantised at a time, the rest at its most bits.

    Two widths of each slot's weights and activations (and converters) are measured where that takes little of the
    budget, else one; the others follow from the law that the power of quantisation noise falls by 4 per bit. Of
    mappings, which have no order, all are measured.

    Args:
        space: The search space.
        evaluator: Measures the damage of policies; None: nothing is measured.
        budget: Counts what is measured.

    Returns:
        None where nothing was measured: where that would take most of the budget.
    """
    if evaluator is None:
        return None
    axes = space.axes
    count = len(axes.names)
    heads = [(slot, choices, axis) for slot in space.slots for axis, choices in enumerate(slot.choices)]
    chosen = [_measured_values(choices, axis == axes.mapping_axis, _two_widths) for _, choices, axis in heads]
    if SENSITIVITY_SHARE * sum(map(len, chosen)) > _LARGEST_SHARE * budget.left:
        chosen = [_measured_values(choices, axis == axes.mapping_axis, _one_width) for _, choices, axis in heads]
    if SENSITIVITY_SHARE * sum(map(len, chosen)) > _MOST * budget.left:
        return None
    policies = [
        _alone(space, slot, axis, value)
        for (slot, _, axis), values in zip(heads, chosen, strict=True)
        for value in values
    ]
    budget.sensitivities += 1 + len(policies)
    least, *found = (measured.damage for measured in evaluator.measure([space.widest, *policies]))
    left = iter(found)
    differences = [{value: next(left) - least for value in values} for values in chosen]
    # Errors of weights and activations are of one size; those of converters and mappings are of their own.
    kinds = [(0,) if axis < 2 else (axis,) for _, _, axis in heads]
    measured = _raised(differences, kinds)
    tables = [
        _unordered_table(alone, choices) if axis == axes.mapping_axis else _table(alone, choices)
        for alone, (_, choices, axis) in zip(measured, heads, strict=True)
    ]
    by_axis = [tables[axis::count] for axis in range(count)]
    return Sensitivity(by_axis[0], by_axis[1], least, by_axis[2:], axes)


def assumed_sensitivity(space: SearchSpace) -> Sensitivity:
    """What is assumed where nothing was measured: all layers alike, and noise power that falls by 4 per bit.

    4 bits everywhere cost 1.
    """
    share = 0.5 / len(space.slots)

    def table(choices: Sequence[int]) -> dict[int, float]:
        return {**{width: share * _FALL ** (4 - width) for width in choices[:-1]}, choices[-1]: 0.0}

    def unordered(choices: Sequence[Any]) -> dict[Any, float]:
        return {**dict.fromkeys(choices[:-1], share * _FALL ** (4 - _ASSUMED_WIDTH)), choices[-1]: 0.0}

    axes = space.axes
    by_axis = [
        [(unordered if axis == axes.mapping_axis else table)(slot.choices[axis]) for slot in space.slots]
        for axis in range(len(axes.names))
    ]
    return Sensitivity(by_axis[0], by_axis[1], 0.0, by_axis[2:], axes)


def _alone(space: SearchSpace, slot: Slot, axis: int, value: Any) -> Pairs:
    """What does the least damage everywhere, but for one axis of a slot."""
    values = list(space.axes.values(slot.top))
    values[axis] = value
    row = space.axes.row(values)
    return tuple(row if layer in slot.layers else other for layer, other in enumerate(space.widest))


class PolicyFront:
    """Policies that no other beats in both time and damage, if the damage is a sum over slots; the fastest first.

    Attributes:
        costs: What the objective counts, ascending.
        damages: Damages, descending.

    Args:
        space: The search space.
        damage: `damage(index, row)` of a slot under a row.
        states: See `cimq._C.KnapsackFront`.
    """

    def __init__(self, space: SearchSpace, damage: Callable[[int, Row], float], states: int) -> None:
        self._space = space
        self._front = KnapsackFront(
            [[(slot.cost[pair], damage(index, pair)) for pair in slot.pairs] for index, slot in enumerate(space.slots)],
            states,
        )
        self.costs = self._front.costs
        self.damages = self._front.damages

    def policy(self, point: int) -> Pairs:
        """The policy of a point of the front."""
        chosen = zip(self._space.slots, self._front.choices(point), strict=True)
        return self._space.assigned([slot.pairs[choice] for slot, choice in chosen])


def knapsack_path(space: SearchSpace, sensitivity: Sensitivity) -> list[Pairs]:
    """Policies that no other beats in both time and summed sensitivity, from the most accurate to the fastest."""
    front = PolicyFront(space, sensitivity.of, _STATES)
    return [front.policy(point) for point in reversed(range(len(front.costs)))]


def _measured_values(
    choices: Sequence[Any], unordered: bool, widths: Callable[[Sequence[int]], list[int]]
) -> list[Any]:
    """What of an axis of a slot is measured, of all but the last."""
    return list(choices[:-1]) if unordered else widths(choices)


def _two_widths(choices: Sequence[int]) -> list[int]:
    """The smallest and the next that is two bits wider, of all but the largest."""
    smallest = choices[0]
    return [*_one_width(choices, 0), *[width for width in choices[:-1] if width >= smallest + 2][:1]]


def _one_width(choices: Sequence[int], above: int = 1) -> list[int]:
    """The first that is `above` bits above the smallest, of all but the largest; else the last of them."""
    below = choices[:-1]
    return ([width for width in below if width >= choices[0] + above] or list(below[-1:]))[:1]


def _raised(measured: Sequence[Mapping[Any, float]], kinds: Sequence[Any]) -> list[dict[Any, float]]:
    """Differences of measurements with errors, none of which is 0 or less than a share of the mean of its width.

    Those of other kinds are not in that mean.
    """
    found: dict[Any, list[float]] = {}
    for alone, kind in zip(measured, kinds, strict=True):
        for width, damage in alone.items():
            found.setdefault((kind, width), []).append(max(0.0, damage))
    least = {key: max(_TINY, _LEAST_SHARE * sum(values) / len(values)) for key, values in found.items()}
    return [
        {width: max(damage, least[kind, width]) for width, damage in alone.items()}
        for alone, kind in zip(measured, kinds, strict=True)
    ]


def _unordered_table(measured: Mapping[Any, float], choices: Sequence[Any]) -> dict[Any, float]:
    """As measured, 0 for the last."""
    return {**measured, choices[-1]: 0.0}


def _table(measured: Mapping[int, float], choices: Sequence[int]) -> dict[int, float]:
    """Log-linear between measured widths and by the law outside; falling with the bits, 0 for the most bits."""
    table: dict[int, float] = {choices[-1]: 0.0}
    known = sorted(measured)
    values = [measured[width] for width in known[:1]]
    for narrow, wide in itertools.pairwise(known):
        # Small damages are measured with large errors: no more and no less than the law makes likely is believed.
        least, most = (values[-1] * fall ** (narrow - wide) for fall in (_LARGEST_FALL, _SMALLEST_FALL))
        values.append(min(max(measured[wide], least), most))
    for width in choices[:-1]:
        above = [(w, value) for w, value in zip(known, values, strict=True) if w >= width]
        below = [(w, value) for w, value in zip(known, values, strict=True) if w <= width]
        if above and below:
            (high, small), (low, large) = above[0], below[-1]
            table[width] = large if high == low else large * (small / large) ** ((width - low) / (high - low))
        else:
            near, value = above[0] if above else below[-1]
            table[width] = value * _FALL ** (near - width)
    return table
