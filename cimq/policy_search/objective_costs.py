"""What policies cost: time, energy, or their product, in whole picoseconds and femtojoules."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence

from cimq.cost_model import LayerShape, cost_table
from cimq.cost_model.component_energy import energy_table, missing_parts
from cimq.errors import CimqWarning
from cimq.hardware import Hardware
from cimq.policy import MAX_BITS, MIN_BITS

OBJECTIVES = ("latency", "energy", "energy_delay")
_PS_PER_US = 1_000_000
_FJ_PER_PJ = 1_000
_MEAN_SCALE = 2**48  # of shares, so that integers hold them
_Table = Sequence[Mapping[tuple[int, int], int]]


class ObjectiveCosts:
    """Tables of what every layer costs with every pair of bits, and sums over policies.

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
    """

    def __init__(self, shapes: Sequence[LayerShape], hardware: Hardware, objective: str, middle: int) -> None:
        widths = list(range(MIN_BITS, MAX_BITS + 1))
        table = cost_table(shapes, hardware, widths)
        self._objective = objective
        self._time_ps: _Table = [
            {(w, a): round(layer[w][a] * _PS_PER_US) for w in widths for a in widths} for layer in table
        ]
        self._energy_fj: _Table = [] if objective == "latency" else _energies(shapes, hardware, objective, widths)
        self._middle = (middle, middle)
        self.layers: _Table = self._of_layers()
        self.uniform8 = self._eight(self.layers)

    def time_us(self, pairs: Sequence[tuple[int, int]]) -> float:
        """Closed-form latency, the same number as `cimq.latency` gives."""
        return _total(self._time_ps, pairs) / _PS_PER_US

    def speedup(self, pairs: Sequence[tuple[int, int]]) -> float:
        """Latency of 8 bits everywhere over that of the policy."""
        return self._eight(self._time_ps) / _total(self._time_ps, pairs)

    def energy_pj(self, pairs: Sequence[tuple[int, int]]) -> float:
        """Closed-form energy, the same number as `cimq.energy` gives; only where the objective counts it."""
        return _total(self._energy_fj, pairs) / _FJ_PER_PJ

    def cost(self, pairs: Sequence[tuple[int, int]]) -> float:
        """What the objective counts: microseconds, picojoules, or their product."""
        if self._objective == "latency":
            return self.time_us(pairs)
        energy = self.energy_pj(pairs)
        return energy if self._objective == "energy" else energy * self.time_us(pairs)

    def gain(self, pairs: Sequence[tuple[int, int]]) -> float:
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


def _energies(
    shapes: Sequence[LayerShape], hardware: Hardware, objective: str, widths: list[int]
) -> list[dict[tuple[int, int], int]]:
    table = energy_table(shapes, hardware, widths)
    if not any(layer[MAX_BITS][MAX_BITS] for layer in table):
        raise ValueError(f"search: objective {objective!r}: {hardware.name} needs energies above 0")
    missing = missing_parts(hardware)
    if missing:
        warnings.warn(
            f"search: {hardware.name} does not describe the energy of: {', '.join(missing)}; counted as 0",
            CimqWarning,
            stacklevel=5,
        )
    return [{(w, a): layer[w][a] for w in widths for a in widths} for layer in table]


def _total(table: _Table, pairs: Sequence[tuple[int, int]]) -> int:
    if len(pairs) != len(table):
        raise ValueError(f"search: a policy needs {len(table)} rows of bits, got {len(pairs)}")
    return sum(layer[pair[0], pair[1]] for layer, pair in zip(table, pairs, strict=True))
