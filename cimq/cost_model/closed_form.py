"""Closed-form latency of a network on a crossbar machine (tier 1).

One crossbar is re-written for every tile, everything serial, batch 1 (Pelke et al., DATE 2026,
doi 10.23919/date69613.2026.11539262):

    T = ceil(columns / cols) * ceil(rows_needed / rows)
    writes = R * T        mvms = R * I * T * ceil(a / d)
    time = writes * write_time + mvms * mvm_time

Counts are integers and time is added up in whole picoseconds, in C++ (csrc/compiler/cost).
"""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cimq import _C
from cimq.cost_model.shapes import LayerShape
from cimq.errors import CimqWarning
from cimq.hardware import Hardware, resolve
from cimq.layer_machine import differing
from cimq.policy import AS_THE_MACHINE, MAX_BITS, LayerBits, LayerMachine
from cimq.text_table import aligned_table

_PS_PER_US = 1_000_000


@dataclasses.dataclass(frozen=True)
class LayerLatency:
    """Cost of one layer. Times in microseconds; `tiles` is per matrix, the other counts include the repeats.

    `machine` is what the layer has otherwise than the machine of the report.
    """

    name: str
    kind: str
    weight_bits: int
    act_bits: int
    tiles: int
    writes: int
    mvms: int
    write_time_us: float
    mvm_time_us: float
    time_us: float
    machine: LayerMachine = AS_THE_MACHINE

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; of the machine what the layer chooses."""
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        del fields["machine"]
        return fields | self.machine.given()


@dataclasses.dataclass(frozen=True)
class LatencyReport:
    """Latency of a network under a policy.

    Attributes:
        layers: Cost of every layer in module order.
        writes: Crossbars programmed in one inference.
        mvms: Crossbar activations in one inference.
        time_us: Time of one inference.
        write_time_us: Its part spent writing.
        mvm_time_us: Its part spent in MVMs.
        uniform8_time_us: Time of the same network with 8-bit weights and activations everywhere.
        speedup: uniform8_time_us / time_us.
        hardware: The machine.
    """

    layers: tuple[LayerLatency, ...]
    writes: int
    mvms: int
    time_us: float
    write_time_us: float
    mvm_time_us: float
    uniform8_time_us: float
    speedup: float
    hardware: Hardware

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, the layers included."""
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        fields["layers"] = [layer.to_dict() for layer in self.layers]
        fields["hardware"] = self.hardware.to_dict()
        return fields

    def __str__(self) -> str:
        head = ["layer", "w", "a", "tiles", "writes", "MVMs", "time us", "share"]
        rows = [
            [
                layer.name,
                str(layer.weight_bits),
                str(layer.act_bits),
                f"{layer.tiles:,}",
                f"{layer.writes:,}",
                f"{layer.mvms:,}",
                f"{layer.time_us:,.1f}",
                f"{100 * layer.time_us / self.time_us:.1f} %",
            ]
            for layer in self.layers
        ]
        total = f"{self.time_us:,.1f} us, {self.speedup:.3f}x against uniform 8-bit ({self.uniform8_time_us:,.1f} us)"
        add_machines(head, rows, [layer.machine for layer in self.layers])
        return f"{aligned_table([head, *rows])}\ntotal: {self.writes:,} writes, {self.mvms:,} MVMs, {total}"


def cost_table(
    shapes: Sequence[LayerShape], hardware: Hardware | str | Path, bits: Sequence[int]
) -> list[dict[int, dict[int, float]]]:
    """Time in microseconds of every layer for every pair of bit widths.

    Args:
        shapes: Layers in module order.
        hardware: Machine, preset or file.
        bits: Bit widths, each 1 to 8.

    Returns:
        `table[layer][weight bits][activation bits]`.

    Raises:
        ValueError: For bits outside 1..8 or an impossible layer; names the layer.

    Example:
        >>> table = cost_table([LayerShape("fc", "linear", 10, 512, 1)], "paper", [4, 8])
        >>> table[0][8][4]
        123.2
    """
    text, bits = closed_form_machine(hardware).to_json(), [int(bit) for bit in bits]
    table = []
    for shape in shapes:
        times = iter(_C.tier1_table(text, as_tuple(shape), bits))
        table.append({weight: {act: next(times) / _PS_PER_US for act in bits} for weight in bits})
    return table


def closed_form_machine(hardware: Hardware | str | Path) -> Hardware:
    """The machine; a warning where it has not the one crossbar that the closed form is about."""
    machine = resolve(hardware)
    if machine.resources.crossbars != 1:
        count = (
            "unlimited crossbars" if machine.resources.crossbars is None else f"{machine.resources.crossbars} crossbars"
        )
        text = f"hardware {machine.name!r} has {count}, but the closed-form latency is that of one, re-written per tile"
        warnings.warn(text, CimqWarning, stacklevel=3)
    return machine


def add_machines(head: list[str], rows: list[list[str]], machines: Sequence[LayerMachine]) -> None:
    """A column of a report that says what layers choose of the machine, where any does."""
    if any(machine.given() for machine in machines):
        head.append("otherwise")
        for row, machine in zip(rows, machines, strict=True):
            row.append(str(machine) if machine.given() else "")


def closed_form(
    shapes: Sequence[LayerShape],
    bits: Sequence[LayerBits],
    hardware: Hardware,
    machines: Sequence[LayerMachine] | None = None,
) -> LatencyReport:
    """Latency of layers in module order with these bits, and what they choose of the machine.

    Raises:
        ValueError: For an impossible layer, and for a choice that the machine cannot have; names the layer.
    """
    text, tuples = hardware.to_json(), [as_tuple(shape) for shape in shapes]
    machines = [AS_THE_MACHINE] * len(tuples) if machines is None else machines
    costs = _C.tier1_layers(text, tuples, [(pair.weight_bits, pair.act_bits) for pair in bits], machines)
    reference = _C.tier1_layers(text, tuples, [(MAX_BITS, MAX_BITS)] * len(tuples))
    layers = tuple(
        LayerLatency(
            shape.name,
            shape.kind,
            pair.weight_bits,
            pair.act_bits,
            tiles,
            writes,
            mvms,
            write_ps / _PS_PER_US,
            mvm_ps / _PS_PER_US,
            (write_ps + mvm_ps) / _PS_PER_US,
            differing(hardware, machine),
        )
        for shape, pair, machine, (tiles, writes, mvms, write_ps, mvm_ps) in zip(
            shapes, bits, machines, costs, strict=True
        )
    )
    write_ps, mvm_ps = sum(cost[3] for cost in costs), sum(cost[4] for cost in costs)
    uniform8_ps = sum(cost[3] + cost[4] for cost in reference)
    return LatencyReport(
        layers,
        sum(cost[1] for cost in costs),
        sum(cost[2] for cost in costs),
        (write_ps + mvm_ps) / _PS_PER_US,
        write_ps / _PS_PER_US,
        mvm_ps / _PS_PER_US,
        uniform8_ps / _PS_PER_US,
        uniform8_ps / (write_ps + mvm_ps),
        hardware,
    )


def as_tuple(shape: LayerShape) -> tuple[str, int, int, int, int]:
    """The layer as the extension takes it."""
    return shape.name, shape.outputs, shape.inputs, shape.invocations, shape.repeats
