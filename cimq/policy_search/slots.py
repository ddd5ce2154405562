"""What layers that share their bits may choose, and which choices are worth it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

import numpy as np

from cimq.policy import MAX_BITS, MIN_BITS
from cimq.policy_search.axes import ACTIVATIONS, WEIGHTS, Axes, Row


@dataclasses.dataclass(frozen=True)
class Slot:
    """Layers that share their bits, and what they may choose.

    Attributes:
        layers: Positions in module order.
        cost: Share of what the objective counts of these layers together for every allowed row, an integer:
            picoseconds, femtojoules, or a mean of both (see `SearchSpace`).
        canonical: For every allowed row the one with the most bits that costs no more.
        choices: Per axis what is worth sampling, ascending; what `top` has is the last.
        top: The row that does the least damage, in canonical form.
        pairs: What is worth choosing, most bits first.
    """

    layers: tuple[int, ...]
    cost: Mapping[Row, int]
    canonical: Mapping[Row, Row]
    choices: tuple[tuple[Any, ...], ...]
    top: Row
    pairs: tuple[Row, ...]

    @property
    def weight_choices(self) -> tuple[int, ...]:
        """Weight widths worth sampling, ascending."""
        return self.choices[WEIGHTS]

    @property
    def act_choices(self) -> tuple[int, ...]:
        """Activation widths worth sampling, ascending."""
        return self.choices[ACTIVATIONS]


def make_slot(
    layers: tuple[int, ...], cost: Mapping[Row, int], axes: Axes, kinds: Mapping[Row, Any] | None = None
) -> Slot:
    """The slot of some layers, of what all that they are allowed costs.

    Args:
        layers: Their positions.
        cost: Per row.
        axes: What rows choose.
        kinds: Per row, where costs do not say which rows cost no more in every policy: rows of one kind do not.
    """
    order = _Order(axes, cost, kinds)
    canonical = order.canonical()
    top = canonical[max(cost, key=order.accurate)]
    kept = set(canonical.values())
    pairs = (top, *sorted(kept - {top}, key=order.bits, reverse=True))
    values = [axes.values(row) for row in kept]
    choices = tuple(
        (*sorted({value[axis] for value in values} - {last}), last) for axis, last in enumerate(axes.values(top))
    )
    return Slot(layers, cost, canonical, choices, top, pairs)


class _Order:
    """How rows compare."""

    def __init__(self, axes: Axes, cost: Mapping[Row, int], kinds: Mapping[Row, Any] | None) -> None:
        self._rows = list(cost)
        self._kinds = kinds
        lossless = {machine: axes.is_lossless((0, 0, *machine)) for machine in set(map(axes.machine, cost))}
        self._lossless = {row: lossless[axes.machine(row)] for row in cost}
        # Numbers in their order; of mappings the machine's own is the most.
        options = axes.options(())
        self._bits = {
            row: tuple(
                -options[axis].index(value) if axis == axes.mapping_axis else value
                for axis, value in enumerate(axes.values(row))
            )
            for row in cost
        }
        self._cost = cost
        self._has_mappings, self._has_adc_bits = bool(axes.mappings), bool(axes.adc_bits)

    def bits(self, row: Row) -> tuple[int, ...]:
        """What rows are sorted by."""
        return self._bits[row]

    def accurate(self, row: Row) -> tuple[int, ...]:
        """Bits before all; of as many what loses nothing."""
        w, a, *more = self._bits[row]
        return (w, a, self._lossless[row], *more)

    def canonical(self) -> dict[Row, Row]:
        """For every row the one with the most bits (weights first on a tie) that is as good and costs no more.

        Where converters and cells lose nothing, ADC bits and mapping do not change the result.
        """
        bits = np.array([self._bits[row] for row in self._rows])
        lossless = np.array([self._lossless[row] for row in self._rows])
        cost = np.array([self._cost[row] for row in self._rows], dtype=object if _is_large(self._cost) else np.int64)
        ranked = sorted(range(len(self._rows)), key=lambda number: self._rank(self._rows[number]))
        rank = np.empty(len(ranked), dtype=np.int64)
        rank[ranked] = np.arange(len(ranked))
        numbers: dict[Any, int] = {}
        kinds = np.array([numbers.setdefault((self._kinds or {}).get(row), len(numbers)) for row in self._rows])
        found = {}
        for number, row in enumerate(self._rows):
            as_cheap = cost <= cost[number] if self._kinds is None else kinds == kinds[number]
            better = as_cheap & (bits[:, 0] >= bits[number, 0]) & (bits[:, 1] >= bits[number, 1])
            if lossless[number]:
                better &= lossless
            else:
                alike = np.ones(len(ranked), dtype=bool)
                if self._has_mappings:
                    alike &= bits[:, -1] == bits[number, -1]
                if self._has_adc_bits:
                    alike &= bits[:, 2] >= bits[number, 2]
                better &= lossless | alike
            found[row] = self._rows[int(np.where(better, rank, -1).argmax())]
        return found

    def _rank(self, row: Row) -> tuple[int, ...]:
        w, a, *more = self._bits[row]
        lossless = self._lossless[row]
        return (w + a, w, lossless, *((0,) * len(more) if lossless else more), -self._cost[row], *more)


def _is_large(cost: Mapping[Row, int]) -> bool:
    return max(cost.values()) >= 2**63


def partition(names: Sequence[str], groups: Sequence[Sequence[str]]) -> list[tuple[int, ...]]:
    """Layers that go together, in the order of their first members.

    Raises:
        TypeError: If a group is no list.
        ValueError: If a group names no layer or overlaps another; names it.
    """
    group_of: dict[int, int] = {}
    for number, patterns in enumerate(groups):
        if isinstance(patterns, str):
            raise TypeError(f"search: groups must be lists of layer names, got the text {patterns!r}")
        for pattern in patterns:
            found = [i for i, name in enumerate(names) if fnmatchcase(name, pattern)]
            if not found:
                raise ValueError(f"search: group {number}: no layer is called {pattern!r}; there are {tuple(names)}")
            for layer in found:
                if group_of.setdefault(layer, number) != number:
                    raise ValueError(f"search: layer {names[layer]!r} is in two groups")
    parts: dict[tuple[str, int], list[int]] = {}
    for layer in range(len(names)):
        key = ("group", group_of[layer]) if layer in group_of else ("layer", layer)
        parts.setdefault(key, []).append(layer)
    return [tuple(part) for part in parts.values()]


def check_bits(bits: tuple[int, int], first_last_bits: int | None) -> tuple[int, int]:
    """The smallest and the largest width.

    Raises:
        ValueError: For an impossible range or width.
    """
    if (
        not isinstance(bits, Sequence)
        or len(bits) != 2
        or not all(isinstance(bit, int) and not isinstance(bit, bool) for bit in bits)
    ):
        raise ValueError(f"search: bits must be a pair (smallest, largest), got {bits!r}")
    low, high = bits
    if not MIN_BITS <= low <= high <= MAX_BITS:
        raise ValueError(f"search: bits must satisfy {MIN_BITS} <= smallest <= largest <= {MAX_BITS}, got {bits!r}")
    if first_last_bits is not None and not MIN_BITS <= first_last_bits <= MAX_BITS:
        raise ValueError(f"search: first_last_bits must be None or {MIN_BITS} to {MAX_BITS}, got {first_last_bits!r}")
    return low, high
