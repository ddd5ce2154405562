"""What a search may choose: one weight width and one activation width per layer (or group of layers).

Masks apply before sampling. A choice is left out when it is outside the bit range, when `first_last_bits` fixes the
layer, when `weight_multiple_of_cell` asks for whole cells, or when the latency table shows that more bits cost no more
(dominance: a layer with 64 outputs fills one array of 256 columns with 8-bit weights as well as with 4-bit ones).
"""

from __future__ import annotations

import dataclasses
import functools
import math
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from cimq.cost_model import LayerShape
from cimq.errors import CimqWarning
from cimq.hardware import Hardware, resolve
from cimq.policy import MAX_BITS, MIN_BITS, Policy
from cimq.policy_search.prices import ClosedFormPrices, Prices
from cimq.policy_search.prices import Pairs as Pairs
from cimq.policy_search.slot_shares import SlotShares

OBJECTIVES = ("latency", "energy", "energy_delay")
_PS_PER_US = 1_000_000
_FJ_PER_PJ = 1_000


@dataclasses.dataclass(frozen=True)
class Slot:
    """Layers that share their bits, and what they may choose.

    Attributes:
        layers: Positions in module order.
        cost: Share of what the objective counts of these layers together for every allowed (w, a), an integer:
            picoseconds, femtojoules, or a mean of both (see `SearchSpace`).
        canonical: For every allowed (w, a) the pair with the most bits that costs no more.
        weight_choices: Weight widths worth sampling, ascending.
        act_choices: Activation widths worth sampling, ascending.
    """

    layers: tuple[int, ...]
    cost: Mapping[tuple[int, int], int]
    canonical: Mapping[tuple[int, int], tuple[int, int]]
    weight_choices: tuple[int, ...]
    act_choices: tuple[int, ...]

    @functools.cached_property
    def pairs(self) -> tuple[tuple[int, int], ...]:
        """What is worth choosing, most bits first."""
        return tuple(sorted(set(self.canonical.values()), reverse=True))


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
        prices: What policies cost; None: the closed form. The cost of a program (`ProgramPrices`) is no sum either:
            slots have what comes near to one, and only bits that no program can tell apart are taken for one another.

    Raises:
        ValueError: For an impossible range, a group that names no layer or overlaps another, or a layer without a legal
            choice; names what is wrong.

    Example:
        >>> shapes = [LayerShape(n, "Linear", 64, 512, 1) for n in ("a", "b", "c")]
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
        self.prices: Prices = prices or ClosedFormPrices(shapes, self.hardware, objective != "latency")
        self._eight: Pairs = ((MAX_BITS, MAX_BITS),) * len(self.shapes)
        cell = self.hardware.cell_bits
        weights = [w for w in range(low, high + 1) if not weight_multiple_of_cell or w % cell == 0]
        if not weights:
            raise ValueError(f"search: weight_multiple_of_cell leaves no width of {low}..{high} with {cell}-bit cells")
        acts = list(range(low, high + 1))
        self.weight_widths, self.act_widths = tuple(weights), tuple(acts)
        parts = self._partition(groups)
        middle: Pairs = ((sum(self.bits) // 2,) * 2,) * len(self.shapes)
        self._shares = SlotShares(self.prices, objective, middle, self._eight)
        self.uniform8_cost = self._shares.uniform8
        costs = self._shares.of([(layers, self._options(layers)) for layers in parts])
        self.slots = tuple(self._slot(layers, cost) for layers, cost in zip(parts, costs, strict=True))
        self._slot_of = {layer: slot for slot in self.slots for layer in slot.layers}

    @property
    def masks(self) -> list[list[bool]]:
        """For the agent: two heads per slot (weights, activations) over the widths low..high or `first_last_bits`."""
        return [[width in choices for width in self._widths] for slot in self.slots for choices in _heads(slot)]

    @property
    def _widths(self) -> tuple[int, ...]:
        extra = () if self.first_last_bits is None else (self.first_last_bits,)
        return tuple(sorted({*range(self.bits[0], self.bits[1] + 1), *extra}))

    @property
    def size(self) -> int:
        """Number of policies that can be sampled."""
        size = 1
        for slot in self.slots:
            size *= len(slot.weight_choices) * len(slot.act_choices)
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
        widths = self._widths
        chosen = zip(actions[0::2], actions[1::2], strict=True)
        return self.assigned(
            [slot.canonical[widths[w], widths[a]] for slot, (w, a) in zip(self.slots, chosen, strict=True)]
        )

    def logits_near(self, pairs: Sequence[tuple[int, int]], weight_slope: float, act_slope: float) -> list[list[float]]:
        """Warm-start logits that fall by a slope for every bit of distance from a policy."""
        rows = []
        for slot in self.slots:
            weight, act = pairs[slot.layers[0]]
            rows.append([-weight_slope * abs(width - weight) for width in self._widths])
            rows.append([-act_slope * abs(width - act) for width in self._widths])
        return rows

    @property
    def widest(self) -> Pairs:
        """The most bits that every layer may have."""
        return tuple(max(self._slot_of[layer].cost) for layer in range(len(self.shapes)))

    @property
    def fastest(self) -> Pairs:
        """The fewest bits that every layer may have, in canonical form: where costs are sums no policy costs less."""
        return self.canonical(self.uniform(self.weight_widths[0], self.act_widths[0]))

    def canonical(self, pairs: Sequence[tuple[int, int]]) -> Pairs:
        """The cache key of a policy: every layer gets the most bits that cost it no more.

        Raises:
            ValueError: If the policy is not in the space; names the layer.
        """
        self._check_length(pairs)
        rows: list[tuple[int, int]] = [(0, 0)] * len(self.shapes)
        for slot in self.slots:
            for layer in slot.layers:
                given = (pairs[layer][0], pairs[layer][1])
                if given not in slot.canonical or given != tuple(pairs[slot.layers[0]]):
                    raise ValueError(f"search: layer {self.names[layer]!r} may not have the bits {given}")
                rows[layer] = slot.canonical[given]
        return tuple(rows)

    def contains(self, pairs: Sequence[tuple[int, int]]) -> bool:
        """Whether a policy obeys range, fixed layers, cells and groups."""
        try:
            self.canonical(pairs)
        except ValueError:
            return False
        return True

    def assigned(self, pairs: Sequence[tuple[int, int]]) -> Pairs:
        """The policy with one pair for each slot."""
        rows: list[tuple[int, int]] = [(0, 0)] * len(self.shapes)
        for slot, pair in zip(self.slots, pairs, strict=True):
            for layer in slot.layers:
                rows[layer] = pair
        return tuple(rows)

    def uniform(self, weight_bits: int, act_bits: int) -> Pairs:
        """The same bits everywhere, `first_last_bits` in the layers that are fixed."""
        return tuple(
            (weight_bits, act_bits) if len(self._slot_of[layer].cost) > 1 else next(iter(self._slot_of[layer].cost))
            for layer in range(len(self.shapes))
        )

    def policy(self, pairs: Sequence[tuple[int, int]]) -> Policy:
        """The policy with layer names."""
        self._check_length(pairs)
        return Policy(dict(zip(self.names, pairs, strict=True)))

    def time_us(self, pairs: Sequence[tuple[int, int]]) -> float:
        """Latency of one inference, the same number as `cimq.latency` (or the simulated program) gives."""
        return self.prices.time_ps(self._checked(pairs)) / _PS_PER_US

    def speedup(self, pairs: Sequence[tuple[int, int]]) -> float:
        """Latency of 8 bits everywhere over that of the policy."""
        return self.prices.time_ps(self._eight) / self.prices.time_ps(self._checked(pairs))

    def energy_pj(self, pairs: Sequence[tuple[int, int]]) -> float:
        """Energy, the same number as `cimq.energy` (or the program) gives; only where the objective counts it."""
        return self.prices.energy_fj(self._checked(pairs)) / _FJ_PER_PJ

    def cost(self, pairs: Sequence[tuple[int, int]]) -> float:
        """What the objective counts: microseconds, picojoules, or their product."""
        if self.objective == "latency":
            return self.time_us(pairs)
        energy = self.energy_pj(pairs)
        return energy if self.objective == "energy" else energy * self.time_us(pairs)

    def gain(self, pairs: Sequence[tuple[int, int]]) -> float:
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

    def _checked(self, pairs: Sequence[tuple[int, int]]) -> Pairs:
        self._check_length(pairs)
        return tuple((weight, act) for weight, act in pairs)

    def _check_length(self, pairs: Sequence[tuple[int, int]]) -> None:
        if len(pairs) != len(self.shapes):
            raise ValueError(f"search: a policy needs {len(self.shapes)} rows of bits, got {len(pairs)}")

    def _partition(self, groups: Sequence[Sequence[str]]) -> list[tuple[int, ...]]:
        """Layers that go together, in the order of their first members."""
        group_of: dict[int, int] = {}
        for number, patterns in enumerate(groups):
            if isinstance(patterns, str):
                raise TypeError(f"search: groups must be lists of layer names, got the text {patterns!r}")
            for pattern in patterns:
                found = [i for i, name in enumerate(self.names) if fnmatchcase(name, pattern)]
                if not found:
                    raise ValueError(f"search: group {number}: no layer is called {pattern!r}; there are {self.names}")
                for layer in found:
                    if group_of.setdefault(layer, number) != number:
                        raise ValueError(f"search: layer {self.names[layer]!r} is in two groups")
        parts: dict[tuple[str, int], list[int]] = {}
        for layer in range(len(self.shapes)):
            key = ("group", group_of[layer]) if layer in group_of else ("layer", layer)
            parts.setdefault(key, []).append(layer)
        return [tuple(part) for part in parts.values()]

    def _options(self, layers: Sequence[int]) -> list[tuple[int, int]]:
        """Bits that layers may have."""
        fixed = self._is_fixed(layers)
        weights = [self.first_last_bits or 0] if fixed else self.weight_widths
        acts = [self.first_last_bits or 0] if fixed else self.act_widths
        return [(w, a) for w in weights for a in acts]

    def _slot(self, layers: tuple[int, ...], cost: Mapping[tuple[int, int], int]) -> Slot:
        def most_bits(pair: tuple[int, int]) -> tuple[int, int]:
            return _most_bits(pair, cost, lambda other: not self.prices.dearer(layers, pair, other, cost))

        canonical = {pair: most_bits(pair) for pair in cost}
        kept = set(canonical.values())
        return Slot(
            layers,
            cost,
            canonical,
            tuple(sorted({w for w, _ in kept})),
            tuple(sorted({a for _, a in kept})),
        )


def _heads(slot: Slot) -> tuple[tuple[int, ...], tuple[int, ...]]:
    return slot.weight_choices, slot.act_choices


def _most_bits(
    pair: tuple[int, int], options: Iterable[tuple[int, int]], as_cheap: Callable[[tuple[int, int]], bool]
) -> tuple[int, int]:
    """The pair with the most bits (weights first on a tie) that has no fewer of either and costs no more."""
    better = [other for other in options if other[0] >= pair[0] and other[1] >= pair[1] and as_cheap(other)]
    return max(better, key=lambda other: (other[0] + other[1], other[0]))


def check_bits(bits: tuple[int, int], first_last_bits: int | None) -> tuple[int, int]:
    """The smallest and the largest width.

    Raises:
        ValueError: For an impossible range or width.
    """
    if len(tuple(bits)) != 2 or not all(isinstance(bit, int) and not isinstance(bit, bool) for bit in bits):
        raise ValueError(f"search: bits must be a pair (smallest, largest), got {bits!r}")
    low, high = bits
    if not MIN_BITS <= low <= high <= MAX_BITS:
        raise ValueError(f"search: bits must satisfy {MIN_BITS} <= smallest <= largest <= {MAX_BITS}, got {bits!r}")
    if first_last_bits is not None and not MIN_BITS <= first_last_bits <= MAX_BITS:
        raise ValueError(f"search: first_last_bits must be None or {MIN_BITS} to {MAX_BITS}, got {first_last_bits!r}")
    return low, high
