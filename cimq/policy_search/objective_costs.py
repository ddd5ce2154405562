"""What policies cost: time, energy, or their product, in whole picoseconds and femtojoules."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence

from cimq.cost_model import LayerShape, cost_table
from cimq.cost_model.closed_form import closed_form_machine
from cimq.cost_model.component_energy import energy_hardware, energy_table, missing_parts
from cimq.errors import CimqWarning
from cimq.hardware import Hardware
from cimq.layer_machine import layer_hardware
from cimq.policy import MAX_BITS, MIN_BITS, LayerMachine
from cimq.policy_search.axes import Axes, Row

OBJECTIVES = ("latency", "energy", "energy_delay")
_PS_PER_US = 1_000_000
_FJ_PER_PJ = 1_000
_WIDTHS = list(range(MIN_BITS, MAX_BITS + 1))
_MEAN_SCALE = 2**48  # of shares, so that integers hold them
_Table = Sequence[Mapping[Row, int]]


class ObjectiveCosts:
    """Tables of what every layer costs with every row that it may have, and sums over policies.

    A product of sums is no sum over layers: its logarithm is, to first order around the middle of the bit range, that
    of the mean of both in shares of what they are there, which `layers` has then; `cost` and `gain` are exact.

    Attributes:
        layers: Per layer what the objective counts, integers that a knapsack adds up.
        uniform8: Their sum with 8 bits everywhere.

    Args:
        shapes: Layers in module order.
        hardware: The machine.
        objective: One of `OBJECTIVES`.
        middle: The middle of the bit range.
        axes: What rows choose; None: bits alone.
    """

    def __init__(
        self, shapes: Sequence[LayerShape], hardware: Hardware, objective: str, middle: int, axes: Axes | None = None
    ) -> None:
        axes = axes or Axes(hardware)
        self._objective = objective
        self._time_ps: _Table = _times(shapes, hardware, axes)
        self._energy_fj: _Table = [] if objective == "latency" else _energies(shapes, hardware, objective, axes)
        self._middle = (middle, middle)
        self.layers: _Table = self._of_layers()
        self.uniform8 = self._eight(self.layers)

    def time_us(self, pairs: Sequence[Row]) -> float:
        """Closed-form latency, the same number as `cimq.latency` gives."""
        return _total(self._time_ps, pairs) / _PS_PER_US

    def speedup(self, pairs: Sequence[Row]) -> float:
        """Latency of 8 bits everywhere over that of the policy."""
        return self._eight(self._time_ps) / _total(self._time_ps, pairs)

    def energy_pj(self, pairs: Sequence[Row]) -> float:
        """Closed-form energy, the same number as `cimq.energy` gives; only where the objective counts it."""
        return _total(self._energy_fj, pairs) / _FJ_PER_PJ

    def cost(self, pairs: Sequence[Row]) -> float:
        """What the objective counts: microseconds, picojoules, or their product."""
        if self._objective == "latency":
            return self.time_us(pairs)
        energy = self.energy_pj(pairs)
        return energy if self._objective == "energy" else energy * self.time_us(pairs)

    def gain(self, pairs: Sequence[Row]) -> float:
        """The cost of 8 bits everywhere over that of the policy; of a product its root, as a gain in both."""
        if self._objective == "latency":
            return self.speedup(pairs)
        saving = self._eight(self._energy_fj) / _total(self._energy_fj, pairs)
        return saving if self._objective == "energy" else math.sqrt(saving * self.speedup(pairs))

    def cost_at(self, gain: float) -> int:
        """The largest sum of `layers` at which a policy has a gain for certain.

        Of a product the layers count a mean, which is no less than the root of the product that the gain is of:
        policies whose time and energy fall differently may cost a little more, and have that gain all the same.
        """
        if self._objective == "energy_delay":
            time, energy = (
                self._eight(table) / middle
                for table, middle in zip((self._time_ps, self._energy_fj), self._in_the_middle(), strict=True)
            )
            return math.floor((1 - 1e-12) * _MEAN_SCALE * math.sqrt(time * energy) / gain)
        cost = math.floor(self.uniform8 / gain)  # of floats: the last place may be off
        return next(value for value in (cost + 1, cost, cost - 1) if self.uniform8 / value >= gain)

    def _of_layers(self) -> _Table:
        if self._objective == "latency":
            return self._time_ps
        if self._objective == "energy":
            return self._energy_fj
        time, energy = self._in_the_middle()
        return [
            {pair: round(_MEAN_SCALE * (times[pair] / time + energies[pair] / energy) / 2) for pair in times}
            for times, energies in zip(self._time_ps, self._energy_fj, strict=True)
        ]

    def _in_the_middle(self) -> tuple[int, int]:
        """Time and energy of the middle of the bit range everywhere."""
        time, energy = (sum(layer[self._middle] for layer in table) for table in (self._time_ps, self._energy_fj))
        return time, energy

    def _eight(self, table: _Table) -> int:
        return sum(layer[MAX_BITS, MAX_BITS] for layer in table)


def _times(shapes: Sequence[LayerShape], hardware: Hardware, axes: Axes) -> _Table:
    tables: list[dict[Row, int]] = [{} for _ in shapes]
    closed_form_machine(hardware)  # has its say
    for machine in axes.machines():
        # The closed form looks at no other number of crossbars, and would say so again for every choice.
        own = layer_hardware(hardware, machine).replace(resources={"crossbars": 1})
        for rows, times in zip(tables, cost_table(shapes, own, _WIDTHS), strict=True):
            rows.update({row: round(times[w][a] * _PS_PER_US) for row, w, a in _rows(axes, machine)})
    return tables


def _energies(shapes: Sequence[LayerShape], hardware: Hardware, objective: str, axes: Axes) -> _Table:
    tables: list[dict[Row, int]] = [{} for _ in shapes]
    for machine in axes.machines():
        for rows, energies in zip(
            tables, energy_table(shapes, energy_hardware(hardware, machine), _WIDTHS), strict=True
        ):
            rows.update({row: energies[w][a] for row, w, a in _rows(axes, machine)})
    if not any(rows[MAX_BITS, MAX_BITS] for rows in tables):
        raise ValueError(f"search: objective {objective!r}: {hardware.name} needs energies above 0")
    missing = missing_parts(hardware)
    if missing:
        warnings.warn(
            f"search: {hardware.name} does not describe the energy of: {', '.join(missing)}; counted as 0",
            CimqWarning,
            stacklevel=5,
        )
    return tables


def _rows(axes: Axes, machine: LayerMachine) -> list[tuple[Row, int, int]]:
    return [(axes.with_machine(w, a, machine), w, a) for w in _WIDTHS for a in _WIDTHS]


def _total(table: _Table, pairs: Sequence[Row]) -> int:
    if len(pairs) != len(table):
        raise ValueError(f"search: a policy needs {len(table)} rows of bits, got {len(pairs)}")
    return sum(layer[tuple(row)] for layer, row in zip(table, pairs, strict=True))
