"""What policies cost: by the closed form, a sum over layers. `program_prices` has costs of programs, which are none.

Whole policies have exact costs. What knapsacks add up are shares of slots (layers that have the same bits): of a sum
they are exact as well.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Protocol

from cimq.cost_model import LayerShape, cost_table
from cimq.cost_model.component_energy import energy_table, missing_parts
from cimq.errors import CimqWarning
from cimq.hardware import Hardware
from cimq.policy import MAX_BITS, MIN_BITS

Pairs = tuple[tuple[int, int], ...]
# Layers of a slot, by their positions, and the bits that they may have.
Part = tuple[tuple[int, ...], Sequence[tuple[int, int]]]
# By the bits of a slot.
Shares = dict[tuple[int, int], int]

_PS_PER_US = 1_000_000


class Prices(Protocol):
    """What policies cost, in whole picoseconds and femtojoules."""

    @property
    def sums(self) -> bool:
        """Whether they are the sums of shares, or about that."""
        ...

    def time_ps(self, pairs: Pairs) -> int:
        """Of one inference."""
        ...

    def energy_fj(self, pairs: Pairs) -> int:
        """Of one inference; only where the objective counts it."""
        ...

    def shares(self, parts: Sequence[Part], counted: str) -> list[Shares]:
        """What slots take of a policy's time or energy, as numbers that are added up.

        Args:
            parts: The slots.
            counted: "time" or "energy".
        """
        ...

    def dearer(
        self, layers: Sequence[int], pair: tuple[int, int], other: tuple[int, int], cost: Mapping[tuple[int, int], int]
    ) -> bool:
        """Whether a policy may cost more with `other` bits for these layers; `cost`: their shares."""
        ...


class ClosedFormPrices:
    """Closed-form latency and energy.

    Args:
        shapes: Layers in module order.
        hardware: The machine.
        with_energy: Whether energies are asked for.

    Raises:
        ValueError: With `with_energy`, if the machine describes no energy above 0.
    """

    sums = True

    def __init__(self, shapes: Sequence[LayerShape], hardware: Hardware, with_energy: bool) -> None:
        widths = range(MIN_BITS, MAX_BITS + 1)
        table = cost_table(shapes, hardware, list(widths))
        self._tables = {
            "time": [{(w, a): round(layer[w][a] * _PS_PER_US) for w in widths for a in widths} for layer in table]
        }
        if with_energy:
            energies = energy_table(shapes, hardware, list(widths))
            self._tables["energy"] = [{(w, a): layer[w][a] for w in widths for a in widths} for layer in energies]
            check_energy(self.energy_fj(((MAX_BITS, MAX_BITS),) * len(shapes)), hardware)

    def time_ps(self, pairs: Pairs) -> int:
        """Of one inference, as `cimq.latency` has it."""
        return self._total("time", pairs)

    def energy_fj(self, pairs: Pairs) -> int:
        """Of one inference, as `cimq.energy` has it."""
        return self._total("energy", pairs)

    def shares(self, parts: Sequence[Part], counted: str) -> list[Shares]:
        """What the layers take by themselves, whatever the others do."""
        table = self._tables[counted]
        return [{pair: sum(table[layer][pair] for layer in layers) for pair in options} for layers, options in parts]

    def dearer(
        self, layers: Sequence[int], pair: tuple[int, int], other: tuple[int, int], cost: Mapping[tuple[int, int], int]
    ) -> bool:
        """Shares tell."""
        return cost[other] > cost[pair]

    def _total(self, counted: str, pairs: Pairs) -> int:
        table = self._tables[counted]
        return sum(layer[pair[0], pair[1]] for layer, pair in zip(table, pairs, strict=True))


def check_energy(uniform8_fj: int, hardware: Hardware) -> None:
    """Refuses energies that are all 0, and warns of those that a machine does not describe.

    Raises:
        ValueError: If 8 bits everywhere take none.
    """
    if not uniform8_fj:
        raise ValueError(f"search: the objective counts energy: {hardware.name} needs energies above 0")
    missing = missing_parts(hardware)
    if missing:
        warnings.warn(
            f"search: {hardware.name} does not describe the energy of: {', '.join(missing)}; counted as 0",
            CimqWarning,
            stacklevel=5,
        )
