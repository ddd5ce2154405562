"""An additive model of the sensitivities and the latency table, solved exactly: where strategies start.

Quantisation noise of layers adds up to first order, and the latency is a sum over layers, so that the best policy under
the model is a multiple-choice knapsack. Its front is a path of policies from accurate to fast; a few evaluations along
it find where the target lies (`strategies.knapsack_walk`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence

from cimq._C import KnapsackFront
from cimq.policy_search.budget import Budget
from cimq.policy_search.evaluators import Evaluator
from cimq.policy_search.space import Pairs, SearchSpace, Slot

# Sums that the knapsack keeps: what it takes in time is above the least by at most slots / states of the range.
_STATES = 4096
_MEASURED_WIDTHS = 3


@dataclasses.dataclass(frozen=True)
class Sensitivity:
    """Damage of quantising one slot alone, additive over slots; 0 is none.

    Attributes:
        weight: Per slot: weight bits -> damage.
        act: Per slot: activation bits -> damage.
    """

    weight: Sequence[Mapping[int, float]]
    act: Sequence[Mapping[int, float]]

    def of(self, index: int, pair: tuple[int, int]) -> float:
        """Damage of slot `index` under (w, a)."""
        return self.weight[index][pair[0]] + self.act[index][pair[1]]


def measure_sensitivity(space: SearchSpace, evaluator: Evaluator, budget: Budget) -> Sensitivity:
    """Sensitivities from the damage of policies, one layer (or group) quantised at a time, the rest at its most bits.

    A few widths per slot are measured, the others interpolated: the power of quantisation noise falls by 4 per bit, so
    that its logarithm is close to linear in the bits.

    Args:
        space: The search space.
        evaluator: Measures the damage of policies.
        budget: Counts what is measured.
    """
    heads = [head for slot in space.slots for head in ((slot, slot.weight_choices, 0), (slot, slot.act_choices, 1))]
    policies = [
        _alone(space, slot, position, width) for slot, choices, position in heads for width in _some(choices)[:-1]
    ]
    budget.sensitivities += 1 + len(policies)
    least, *found = (measured.damage for measured in evaluator.measure([space.widest, *policies]))
    left = iter(found)
    tables = []
    for _, choices, _ in heads:
        measured = {width: max(0.0, next(left) - least) for width in _some(choices)[:-1]}
        tables.append(_interpolated({**measured, choices[-1]: 0.0}, choices))
    return Sensitivity(tables[0::2], tables[1::2])


def _alone(space: SearchSpace, slot: Slot, position: int, width: int) -> Pairs:
    """The most bits everywhere but in a slot's weights (position 0) or activations (1)."""
    top = space.widest[slot.layers[0]]
    pair = (width, top[1]) if position == 0 else (top[0], width)
    return tuple(pair if layer in slot.layers else bits for layer, bits in enumerate(space.widest))


class PolicyFront:
    """Policies that no other beats in both time and damage, if the damage is a sum over slots; the fastest first.

    Attributes:
        times_ps: Times, ascending.
        damages: Damages, descending.

    Args:
        space: The search space.
        damage: `damage(index, pair)` of a slot under (w, a).
        states: See `cimq._C.KnapsackFront`.
    """

    def __init__(self, space: SearchSpace, damage: Callable[[int, tuple[int, int]], float], states: int) -> None:
        self._space = space
        self._front = KnapsackFront(
            [
                [(slot.time_ps[pair], damage(index, pair)) for pair in slot.pairs]
                for index, slot in enumerate(space.slots)
            ],
            states,
        )
        self.times_ps = self._front.costs
        self.damages = self._front.damages

    def policy(self, point: int) -> Pairs:
        """The policy of a point of the front."""
        chosen = zip(self._space.slots, self._front.choices(point), strict=True)
        return self._space.assigned([slot.pairs[choice] for slot, choice in chosen])


def knapsack_path(space: SearchSpace, sensitivity: Sensitivity) -> list[Pairs]:
    """Policies that no other beats in both time and summed sensitivity, from the most accurate to the fastest."""
    front = PolicyFront(space, sensitivity.of, _STATES)
    return [front.policy(point) for point in reversed(range(len(front.times_ps)))]


def _some(choices: Sequence[int]) -> list[int]:
    """The largest width last, before it at most a few others, among them the smallest."""
    if len(choices) <= _MEASURED_WIDTHS:
        return list(choices)
    below = list(choices[:-1])
    middle = below[len(below) // 2]
    return sorted({below[0], middle, choices[-1]})


def _interpolated(measured: Mapping[int, float], choices: Sequence[int]) -> dict[int, float]:
    """Log-linear between measured widths; 4 times less per bit above the last measured one; falling with the bits."""
    known = sorted(measured)
    tiny = 1e-12
    table: dict[int, float] = {}
    for width in choices:
        if width in measured:
            table[width] = measured[width]
            continue
        below = max(w for w in known if w < width)
        above = min(w for w in known if w > width)
        left = max(measured[below], tiny)
        if above == known[-1]:
            table[width] = left * 4.0 ** (below - width)
        else:
            right = max(measured[above], tiny)
            table[width] = left * (right / left) ** ((width - below) / (above - below))
    for narrow, wide in zip(choices[-2::-1], choices[:0:-1], strict=True):
        table[narrow] = max(table[narrow], table[wide])  # measurement noise must not make fewer bits look better
    return table
