"""An additive model of the sensitivities and the latency table, solved exactly: where the agent starts.

Quantisation noise of layers adds up to first order, and the latency is a sum over layers, so that the best policy under
the model is a multiple-choice knapsack. Its Lagrangian separates per layer: for every price of sensitivity each layer
takes its own best pair. Sweeping the price gives a path of policies from accurate to fast; a few evaluations along it
find where the accuracy target lies (`strategies.knapsack_walk`). The agent then looks for what the model misses.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence

from cimq.policy_search.budget import Budget
from cimq.policy_search.evaluators import Measure
from cimq.policy_search.space import Pairs, SearchSpace, Slot

_PRICES = 400
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


def measure_sensitivity(space: SearchSpace, damage: Measure, budget: Budget) -> Sensitivity:
    """Sensitivities from the damage of policies, one layer (or group) quantised at a time, the rest at its most bits.

    A few widths per slot are measured, the others interpolated: the power of quantisation noise falls by 4 per bit, so
    that its logarithm is close to linear in the bits.

    Args:
        space: The search space.
        damage: Some distance between the outputs under a policy and those at the most bits; 0 or more.
        budget: Counts what is measured.
    """
    heads = [head for slot in space.slots for head in ((slot, slot.weight_choices, 0), (slot, slot.act_choices, 1))]
    policies = [
        _alone(space, slot, position, width) for slot, choices, position in heads for width in _some(choices)[:-1]
    ]
    budget.sensitivities += len(policies)
    found = iter(damage.measure(policies))
    tables = []
    for _, choices, _ in heads:
        measured = {width: max(0.0, next(found)) for width in _some(choices)[:-1]}
        tables.append(_interpolated({**measured, choices[-1]: 0.0}, choices))
    return Sensitivity(tables[0::2], tables[1::2])


def _alone(space: SearchSpace, slot: Slot, position: int, width: int) -> Pairs:
    """The most bits everywhere but in a slot's weights (position 0) or activations (1)."""
    top = space.widest[slot.layers[0]]
    pair = (width, top[1]) if position == 0 else (top[0], width)
    return tuple(pair if layer in slot.layers else bits for layer, bits in enumerate(space.widest))


def knapsack_path(space: SearchSpace, sensitivity: Sensitivity) -> list[Pairs]:
    """Policies on the lower hull of (time, summed sensitivity), from the most accurate to the fastest."""
    options = []
    for index, slot in enumerate(space.slots):
        pairs = _pairs(slot)
        options.append([(pair, slot.time_ps[pair], sensitivity.of(index, pair)) for pair in pairs])
    times = [time for slot in options for _, time, _ in slot]
    damages = [damage for slot in options for _, _, damage in slot if damage > 0]
    if not damages:
        return [tuple(_assign(space, [slot[0][0] for slot in options]))]
    # From a price at which only damage counts to one at which only time does.
    high = math.log(sum(times) / min(damages)) + 1
    low = math.log(1 / sum(damages)) - 1
    path: list[Pairs] = []
    for step in range(_PRICES):
        price = math.exp(high + (low - high) * step / (_PRICES - 1))
        chosen = [min(slot, key=lambda o: (o[1] + price * o[2], o[1], o[0]))[0] for slot in options]
        policy = tuple(_assign(space, chosen))
        if not path or policy != path[-1]:
            path.append(policy)
    return path


def _pairs(slot: Slot) -> list[tuple[int, int]]:
    """Pairs worth taking, most bits first."""
    return sorted(set(slot.canonical.values()), reverse=True)


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


def _assign(space: SearchSpace, chosen: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    rows: list[tuple[int, int]] = [(0, 0)] * len(space.shapes)
    for slot, pair in zip(space.slots, chosen, strict=True):
        for layer in slot.layers:
            rows[layer] = pair
    return rows
