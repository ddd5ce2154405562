"""What a search may choose: one weight width and one activation width per layer (or group of layers).

Where asked for, also the bits of its conversions and the mapping of its weights.

Masks apply before sampling. A choice is left out when it is outside the bit range, when `first_last_bits` fixes the
layer, when `weight_multiple_of_cell` asks for whole cells, or when the latency table shows that more bits cost no more
(dominance: a layer with 64 outputs fills one array of 256 columns with 8-bit weights as well as with 4-bit ones; and
where converters and cells lose nothing, ADC bits and mapping do not change the result, so that the cheapest stay).
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cimq.cost_model import LayerShape
from cimq.errors import CimqWarning
from cimq.hardware import Hardware, resolve
from cimq.policy import MAX_BITS, Policy
from cimq.policy_search.axes import Axes, Pairs, Row, check_axes, check_axes_of_programs
from cimq.policy_search.prices import ClosedFormPrices, Prices
from cimq.policy_search.slot_shares import SlotShares
from cimq.policy_search.slots import Slot, check_bits, make_slot, partition

__all__ = ["OBJECTIVES", "Pairs", "Row", "SearchSpace", "Slot", "check_bits"]

OBJECTIVES = ("latency", "energy", "energy_delay")
_PS_PER_US = 1_000_000
_FJ_PER_PJ = 1_000


class SearchSpace:
    """The policies that a search may return.

    Args:
        shapes: Layers in module order.
        hardware: Machine, preset or file; its closed-form latency or energy is the cost, unless there are `prices`.
        bits: Smallest and largest width of weights and activations, both included.
        first_last_bits: Width of weights and activations of the first and the last layer; None leaves them free.
        weight_multiple_of_cell: Allow only weight widths that fill whole cells.
        groups: Each a list of layer names (or glob patterns) that must share their bits, e.g. layers whose outputs are
            added.
        objective: "latency", "energy", or "energy_delay", the product of both. A product of sums is no sum over layers:
            its logarithm is, to first order around the middle of the bit range, that of the mean of both in shares of
            what they are there, which slots have as their `cost`; `cost` and `gain` of a policy are exact.
        adc_bits: Smallest and largest bits of a converter that a layer may choose; None: as the machine. Layers that
            `first_last_bits` fixes are as the machine in this and in the next.
        mappings: Mappings that a layer may choose; None: as the machine.
        prices: What policies cost; None: the closed form. The cost of a program (`ProgramPrices`) is no sum either:
            slots have what comes near to one, and only bits that no program can tell apart are taken for one another.
            Programs are costed as the machine is: not with `adc_bits` or `mappings`.

    Raises:
        ValueError: For an impossible range, a group that names no layer or overlaps another, or a layer without a legal
            choice; names what is wrong.

    Example:
        >>> shapes = [LayerShape(n, "linear", 64, 512, 1) for n in ("a", "b", "c")]
        >>> space = SearchSpace(shapes, "paper")
        >>> space.slots[1].weight_choices, space.slots[1].act_choices
        ((8,), (2, 3, 4, 5, 6, 7, 8))
        >>> space.canonical([(8, 8), (4, 5), (8, 8)])
        ((8, 8), (8, 5), (8, 8))
    """

    def __init__(
        self,
        shapes: Sequence[LayerShape],
        hardware: Hardware | str | Path = "paper",
        *,
        bits: tuple[int, int] = (2, 8),
        first_last_bits: int | None = 8,
        weight_multiple_of_cell: bool = False,
        groups: Sequence[Sequence[str]] = (),
        objective: str = "latency",
        adc_bits: tuple[int, int] | None = None,
        mappings: Sequence[str] | None = None,
        prices: Prices | None = None,
    ) -> None:
        if objective not in OBJECTIVES:
            raise ValueError(f"search: objective must be one of {', '.join(OBJECTIVES)}, got {objective!r}")
        if not shapes:
            raise ValueError("search: the model has no layer that could be on a crossbar")
        self.shapes = tuple(shapes)
        self.hardware = resolve(hardware)
        self.names = tuple(shape.name for shape in shapes)
        low, high = check_bits(bits, first_last_bits)
        self.bits = (low, high)
        self.first_last_bits = first_last_bits
        self.objective = objective
        check_axes(self.hardware, objective, adc_bits, mappings)
        self.axes = Axes(self.hardware, adc_bits, mappings)
        if prices is not None and not prices.sums:
            check_axes_of_programs(adc_bits, mappings)
        self.prices: Prices = prices or ClosedFormPrices(shapes, self.hardware, objective != "latency", self.axes)
        self._eight: Pairs = ((MAX_BITS, MAX_BITS),) * len(self.shapes)
        cell = self.hardware.cell_bits
        weights = [w for w in range(low, high + 1) if not weight_multiple_of_cell or w % cell == 0]
        if not weights:
            raise ValueError(f"search: weight_multiple_of_cell leaves no width of {low}..{high} with {cell}-bit cells")
        acts = list(range(low, high + 1))
        self.weight_widths, self.act_widths = tuple(weights), tuple(acts)
        parts = [(layers, self._allowed(layers)) for layers in partition(self.names, groups)]
        middle: Pairs = ((sum(self.bits) // 2,) * 2,) * len(self.shapes)
        self._shares = SlotShares(self.prices, objective, middle, self._eight)
        self.uniform8_cost = self._shares.uniform8
        self.slots = tuple(
            make_slot(layers, cost, self.axes, self.prices.kinds(layers, rows))
            for (layers, rows), cost in zip(parts, self._shares.of(parts), strict=True)
        )
        self._slot_of = {layer: slot for slot in self.slots for layer in slot.layers}

    @property
    def masks(self) -> list[list[bool]]:
        """For the agent: a head per slot and axis, of bits over the widths low..high and `first_last_bits`."""
        options = self.axes.options(self._widths)
        return [
            [option in choices for option in every]
            for slot in self.slots
            for every, choices in zip(options, slot.choices, strict=True)
        ]

    @property
    def _widths(self) -> tuple[int, ...]:
        extra = () if self.first_last_bits is None else (self.first_last_bits,)
        return tuple(sorted({*range(self.bits[0], self.bits[1] + 1), *extra}))

    @property
    def size(self) -> int:
        """Number of policies that can be sampled."""
        size = 1
        for slot in self.slots:
            size *= math.prod(map(len, slot.choices))
        return size

    def check_choice(self) -> None:
        """Refuses a space in which nothing can be chosen, and warns of one in which no choice makes a difference.

        Raises:
            ValueError: If every layer has one allowed pair of bits; names what leaves no other.
        """
        if self.size > 1:
            return
        count = len(self.shapes)
        if any(len(slot.cost) > 1 for slot in self.slots):
            warnings.warn(
                f"search: there is nothing to choose: on {self.hardware.name}, fewer bits make none of the {count} "
                f"layers faster (first_last_bits={self.first_last_bits}); the result is the policy with the most bits",
                CimqWarning,
                stacklevel=3,
            )
            return
        fixed = self.first_last_bits is not None and all(self._is_fixed(slot.layers) for slot in self.slots)
        by = (
            f"first_last_bits={self.first_last_bits} fixes"
            if fixed
            else (f"bits={self.bits} with first_last_bits={self.first_last_bits} and weight_multiple_of_cell fix")
        )
        hint = "; pass first_last_bits=None to leave the first and the last layer free" if fixed else ""
        raise ValueError(f"search: there is nothing to choose: {by} the bits of all {count} layers{hint}")

    def _is_fixed(self, layers: Sequence[int]) -> bool:
        return self.first_last_bits is not None and not {0, len(self.shapes) - 1}.isdisjoint(layers)

    def decode(self, actions: Sequence[int]) -> Pairs:
        """The canonical policy of one choice index per head."""
        options, count = self.axes.options(self._widths), len(self.axes.names)
        rows = []
        for number, slot in enumerate(self.slots):
            chosen = actions[number * count : (number + 1) * count]
            values = [every[action] for every, action in zip(options, chosen, strict=True)]
            rows.append(slot.canonical[self.axes.row(values)])
        return self.assigned(rows)

    def logits_near(
        self, pairs: Sequence[Row], weight_slope: float, act_slope: float, other_slope: float = 1.0
    ) -> list[list[float]]:
        """Warm-start logits that fall by a slope for every bit of distance from a policy.

        `other_slope` is that of ADC bits, and of the mapping, where another one is one bit away.
        """
        rows = []
        slopes = (weight_slope, act_slope, *[other_slope] * (len(self.axes.names) - 2))
        for slot in self.slots:
            start = self.axes.values(pairs[slot.layers[0]])
            for every, value, slope in zip(self.axes.options(self._widths), start, slopes, strict=True):
                rows.append([-slope * _distance(option, value) for option in every])
        return rows

    @property
    def widest(self) -> Pairs:
        """What does the least damage that every layer may have."""
        return self.assigned([slot.top for slot in self.slots])

    @property
    def fastest(self) -> Pairs:
        """In canonical form, the policy of which no other costs less; where costs are no sums, the fewest bits."""
        if not self.prices.sums:
            return self.canonical(self.uniform(self.weight_widths[0], self.act_widths[0]))
        cheapest = []
        for slot in self.slots:
            least = min(slot.cost.values())
            cheapest.append(min((row for row, cost in slot.cost.items() if cost == least), key=lambda row: row[:2]))
        return self.canonical(self.assigned(cheapest))

    def canonical(self, pairs: Sequence[Row]) -> Pairs:
        """The cache key of a policy: every layer gets the most bits that cost it no more.

        Raises:
            ValueError: If the policy is not in the space; names the layer.
        """
        self._check_length(pairs)
        rows: list[Row] = [(0, 0)] * len(self.shapes)
        for slot in self.slots:
            for layer in slot.layers:
                given = tuple(pairs[layer])
                if given not in slot.canonical or given != tuple(pairs[slot.layers[0]]):
                    raise ValueError(f"search: layer {self.names[layer]!r} may not have the bits {given}")
                rows[layer] = slot.canonical[given]
        return tuple(rows)

    def contains(self, pairs: Sequence[Row]) -> bool:
        """Whether a policy obeys range, fixed layers, cells and groups."""
        try:
            self.canonical(pairs)
        except ValueError:
            return False
        return True

    def assigned(self, pairs: Sequence[Row]) -> Pairs:
        """The policy with one pair for each slot."""
        rows: list[Row] = [(0, 0)] * len(self.shapes)
        for slot, pair in zip(self.slots, pairs, strict=True):
            for layer in slot.layers:
                rows[layer] = pair
        return tuple(rows)

    def uniform(self, weight_bits: int, act_bits: int) -> Pairs:
        """The same bits everywhere, `first_last_bits` in the layers that are fixed; otherwise as the machine."""
        row = self.axes.with_machine(weight_bits, act_bits, self.axes.plain)
        return tuple(
            row if len(self._slot_of[layer].cost) > 1 else next(iter(self._slot_of[layer].cost))
            for layer in range(len(self.shapes))
        )

    def policy(self, pairs: Sequence[Row]) -> Policy:
        """The policy with layer names."""
        self._check_length(pairs)
        return Policy(dict(zip(self.names, pairs, strict=True)))

    def time_us(self, pairs: Sequence[Row]) -> float:
        """Latency of one inference, the same number as `cimq.latency` (or the simulated program) gives."""
        return self.prices.time_ps(self._checked(pairs)) / _PS_PER_US

    def speedup(self, pairs: Sequence[Row]) -> float:
        """Latency of 8 bits everywhere over that of the policy."""
        return self.prices.time_ps(self._eight) / self.prices.time_ps(self._checked(pairs))

    def energy_pj(self, pairs: Sequence[Row]) -> float:
        """Energy, the same number as `cimq.energy` (or the program) gives; only where the objective counts it."""
        return self.prices.energy_fj(self._checked(pairs)) / _FJ_PER_PJ

    def cost(self, pairs: Sequence[Row]) -> float:
        """What the objective counts: microseconds, picojoules, or their product."""
        if self.objective == "latency":
            return self.time_us(pairs)
        energy = self.energy_pj(pairs)
        return energy if self.objective == "energy" else energy * self.time_us(pairs)

    def gain(self, pairs: Sequence[Row]) -> float:
        """The cost of 8 bits everywhere over that of the policy; of a product its root, as a gain in both."""
        if self.objective == "latency":
            return self.speedup(pairs)
        saving = self.prices.energy_fj(self._eight) / self.prices.energy_fj(self._checked(pairs))
        return saving if self.objective == "energy" else math.sqrt(saving * self.speedup(pairs))

    def cost_at(self, gain: float) -> int:
        """The largest sum of the slots' costs at which a policy has a gain, for certain where policies are sums.

        Of a product the slots count a mean, which is no less than the root of the product that the gain is of: policies
        whose time and energy fall differently may cost a little more, and have that gain all the same.
        """
        return self._shares.at(gain)

    def _checked(self, pairs: Sequence[Row]) -> Pairs:
        self._check_length(pairs)
        return tuple(map(tuple, pairs))

    def _check_length(self, pairs: Sequence[Row]) -> None:
        if len(pairs) != len(self.shapes):
            raise ValueError(f"search: a policy needs {len(self.shapes)} rows of bits, got {len(pairs)}")

    def _allowed(self, layers: Sequence[int]) -> list[Row]:
        """Rows that layers may have."""
        if self._is_fixed(layers):
            return [(self.first_last_bits, self.first_last_bits)]
        return [
            self.axes.with_machine(w, a, machine)
            for w in self.weight_widths
            for a in self.act_widths
            for machine in self.axes.chosen_machines()
        ]


def _distance(option: Any, value: Any) -> float:
    return float(option != value) if isinstance(value, str) else abs(option - value)
