"""What policies cost: by the closed form, a sum over layers. `program_prices` has costs of programs, which are none.

Whole policies have exact costs. What knapsacks add up are shares of slots (layers that have the same bits): of a sum
they are exact as well.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any, Protocol

from cimq.cost_model import LayerShape, cost_table
from cimq.cost_model.closed_form import closed_form_machine
from cimq.cost_model.component_energy import energy_hardware, energy_table, missing_parts
from cimq.errors import CimqWarning
from cimq.hardware import Hardware
from cimq.layer_machine import layer_hardware
from cimq.policy import MAX_BITS, MIN_BITS, LayerMachine
from cimq.policy_search.axes import Axes, Pairs, Row

# Layers of a slot, by their positions, and the rows that they may have.
Part = tuple[tuple[int, ...], Sequence[Row]]
# By the row of a slot.
Shares = dict[Row, int]

_PS_PER_US = 1_000_000
_WIDTHS = list(range(MIN_BITS, MAX_BITS + 1))


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

    def kinds(self, layers: Sequence[int], rows: Sequence[Row]) -> dict[Row, Any] | None:
        """Rows of one kind cost these layers the same in every policy; None: the shares say what costs no more."""
        ...


class ClosedFormPrices:
    """Closed-form latency and energy.

    Args:
        shapes: Layers in module order.
        hardware: The machine.
        with_energy: Whether energies are asked for.
        axes: What rows choose; None: bits alone.

    Raises:
        ValueError: With `with_energy`, if the machine describes no energy above 0.
    """

    sums = True

    def __init__(
        self, shapes: Sequence[LayerShape], hardware: Hardware, with_energy: bool, axes: Axes | None = None
    ) -> None:
        axes = axes or Axes(hardware)
        self._tables = {"time": _times(shapes, hardware, axes)}
        if with_energy:
            self._tables["energy"] = _energies(shapes, hardware, axes)
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

    def kinds(self, layers: Sequence[int], rows: Sequence[Row]) -> dict[Row, Any] | None:
        """Shares tell."""
        return None

    def _total(self, counted: str, pairs: Pairs) -> int:
        table = self._tables[counted]
        return sum(layer[row] for layer, row in zip(table, pairs, strict=True))


def _times(shapes: Sequence[LayerShape], hardware: Hardware, axes: Axes) -> list[Shares]:
    tables: list[Shares] = [{} for _ in shapes]
    closed_form_machine(hardware)  # has its say
    for machine in axes.machines():
        # The closed form looks at no other number of crossbars, and would say so again for every choice.
        own = layer_hardware(hardware, machine).replace(resources={"crossbars": 1})
        for rows, times in zip(tables, cost_table(shapes, own, _WIDTHS), strict=True):
            rows.update({row: round(times[w][a] * _PS_PER_US) for row, w, a in _rows(axes, machine)})
    return tables


def _energies(shapes: Sequence[LayerShape], hardware: Hardware, axes: Axes) -> list[Shares]:
    tables: list[Shares] = [{} for _ in shapes]
    for machine in axes.machines():
        energies = energy_table(shapes, energy_hardware(hardware, machine), _WIDTHS)
        for rows, energy in zip(tables, energies, strict=True):
            rows.update({row: energy[w][a] for row, w, a in _rows(axes, machine)})
    return tables


def _rows(axes: Axes, machine: LayerMachine) -> list[tuple[Row, int, int]]:
    return [(axes.with_machine(w, a, machine), w, a) for w in _WIDTHS for a in _WIDTHS]


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
