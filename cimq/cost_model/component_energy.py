"""Closed-form energy of a network on a crossbar machine: counted events times the energies of its description.

What is counted is in csrc/compiler/cost/energy.h; energies are added up in whole femtojoules there.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from cimq import _C
from cimq.cost_model.closed_form import add_machines, as_tuple
from cimq.cost_model.shapes import LayerShape
from cimq.hardware import Hardware
from cimq.layer_machine import differing
from cimq.policy import AS_THE_MACHINE, MAX_BITS, LayerBits, LayerMachine
from cimq.text_table import aligned_table

_FJ_PER_PJ = 1_000


@dataclasses.dataclass(frozen=True)
class LayerEnergy:
    """Energy of one layer in picojoules; `parts_pj` by component ("write", "mvm", "adc", ...).

    `machine` is what the layer has otherwise than the machine of the report.
    """

    name: str
    weight_bits: int
    act_bits: int
    parts_pj: Mapping[str, float]
    energy_pj: float
    machine: LayerMachine = AS_THE_MACHINE

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; of the machine what the layer chooses."""
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        del fields["machine"]
        return fields | self.machine.given()


@dataclasses.dataclass(frozen=True)
class EnergyReport:
    """Energy of one inference under a policy.

    Attributes:
        layers: Every layer in module order.
        parts_pj: Picojoules by component.
        energy_pj: Their sum.
        uniform8_energy_pj: That of the same network with 8-bit weights and activations everywhere.
        saving: uniform8_energy_pj / energy_pj.
        missing: Components whose energy the machine does not describe; they count as 0.
        hardware: The machine.
    """

    layers: tuple[LayerEnergy, ...]
    parts_pj: Mapping[str, float]
    energy_pj: float
    uniform8_energy_pj: float
    saving: float
    missing: tuple[str, ...]
    hardware: Hardware

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, the layers included."""
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        fields["layers"] = [layer.to_dict() for layer in self.layers]
        fields["missing"] = list(self.missing)
        fields["hardware"] = self.hardware.to_dict()
        return fields

    def __str__(self) -> str:
        parts = [part for part in self.parts_pj if part not in self.missing]
        head, rows = ["layer", "w", "a", *(f"{part} pJ" for part in parts), "share"], []
        for layer in self.layers:
            bits = [str(layer.weight_bits), str(layer.act_bits)]
            shares = f"{100 * layer.energy_pj / self.energy_pj:.1f} %" if self.energy_pj else "-"
            rows.append([layer.name, *bits, *(f"{layer.parts_pj[part]:,.1f}" for part in parts), shares])
        total = f"total: {self.energy_pj:,.1f} pJ, {self.saving:.3f}x less than uniform 8-bit"
        add_machines(head, rows, [layer.machine for layer in self.layers])
        text = f"{aligned_table([head, *rows])}\n{total} ({self.uniform8_energy_pj:,.1f} pJ)"
        return text + (f"\nnot described, counted as 0: {', '.join(self.missing)}" if self.missing else "")


def energy_hardware(hardware: Hardware, machine: LayerMachine, layer: str = "") -> Hardware:
    """The machine whose energies are those of a layer: `layer_hardware` with the energy of its conversions.

    A machine gives that for its own `adc.bits`; other bits follow by the table of docs/numbers.md, from 4 to 10.

    Args:
        hardware: The machine of the network.
        machine: What the layer chooses.
        layer: Its name, for errors.

    Raises:
        ValueError: As `layer_hardware`, and where the machine gives the energy of a conversion and the layer chooses
            other bits, if one of both is not 4 to 10.

    Example:
        >>> round(energy_hardware(Hardware.preset("isaac"), LayerMachine(4)).energy.adc_energy_pj, 3)
        0.789
    """
    if machine == AS_THE_MACHINE:
        return hardware
    return Hardware.from_json(_C.energy_hardware(hardware.to_json(), machine, layer))


def energy_table(
    shapes: Sequence[LayerShape], hardware: Hardware, bits: Sequence[int]
) -> list[dict[int, dict[int, int]]]:
    """Femtojoules of every layer: `table[layer][weight bits][activation bits]`.

    Raises:
        ValueError: As `cost_table`, and for a machine that describes no energy.
    """
    text, table = hardware.to_json(), []
    for shape in shapes:
        energies = iter(_C.energy_table(text, as_tuple(shape), list(bits)))
        table.append({weight: {act: next(energies) for act in bits} for weight in bits})
    return table


def closed_form_energy(
    shapes: Sequence[LayerShape],
    bits: Sequence[LayerBits],
    hardware: Hardware,
    machines: Sequence[LayerMachine] | None = None,
) -> EnergyReport:
    """Energy of layers in module order with these bits, and what they choose of the machine.

    Raises:
        ValueError: As `closed_form`, for a machine that describes no energy, and for ADC bits whose energy is not
            known; names the layer.
    """
    text, tuples = hardware.to_json(), [as_tuple(shape) for shape in shapes]
    machines = [AS_THE_MACHINE] * len(tuples) if machines is None else machines
    costs = _C.energy_layers(text, tuples, [(pair.weight_bits, pair.act_bits) for pair in bits], machines)
    reference_fj = sum(map(sum, _C.energy_layers(text, tuples, [(MAX_BITS, MAX_BITS)] * len(tuples))))
    layers = tuple(
        LayerEnergy(shape.name, *pair, _by_part(cost), sum(cost) / _FJ_PER_PJ, differing(hardware, machine))
        for shape, pair, cost, machine in zip(shapes, bits, costs, machines, strict=True)
    )
    total_fj = sum(map(sum, costs))
    return EnergyReport(
        layers,
        _by_part([sum(column) for column in zip(*costs, strict=True)]),
        total_fj / _FJ_PER_PJ,
        reference_fj / _FJ_PER_PJ,
        reference_fj / total_fj if total_fj else 1.0,
        missing_parts(hardware),
        hardware,
    )


def missing_parts(hardware: Hardware) -> tuple[str, ...]:
    """Components whose energy a machine does not describe."""
    values = [getattr(hardware.energy, field.name) for field in dataclasses.fields(hardware.energy)]
    return tuple(part for part, value in zip(_C.ENERGY_PARTS, values, strict=True) if value is None)


def _by_part(femtojoules: Sequence[int]) -> dict[str, float]:
    return {part: value / _FJ_PER_PJ for part, value in zip(_C.ENERGY_PARTS, femtojoules, strict=True)}
