"""What layers that share their bits may choose, and which choices are worth it."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase

from cimq.policy import MAX_BITS, MIN_BITS

Pairs = tuple[tuple[int, int], ...]


@dataclasses.dataclass(frozen=True)
class Slot:
    """Layers that share their bits, and what they may choose.

    Attributes:
        layers: Positions in module order.
        cost: What the objective counts of these layers together for every allowed (w, a), an integer: picoseconds,
            femtojoules, or a mean of both (see `SearchSpace`).
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


def make_slot(layers: tuple[int, ...], cost: Mapping[tuple[int, int], int]) -> Slot:
    """The slot of some layers, of what all that they are allowed costs."""
    canonical = {pair: _most_bits(pair, cost) for pair in cost}
    kept = set(canonical.values())
    return Slot(
        layers,
        cost,
        canonical,
        tuple(sorted({w for w, _ in kept})),
        tuple(sorted({a for _, a in kept})),
    )


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


def _most_bits(pair: tuple[int, int], cost: Mapping[tuple[int, int], int]) -> tuple[int, int]:
    """The pair with the most bits (weights first on a tie) that has no fewer of either and costs no more."""
    w, a = pair
    better = [other for other, value in cost.items() if other[0] >= w and other[1] >= a and value <= cost[pair]]
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
