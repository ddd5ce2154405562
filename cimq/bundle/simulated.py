"""Tier 2: the time of a program on its machine, event by event (csrc/compiler/sim, docs/machines.md)."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from cimq import _C
from cimq.cost_model.machine_parts import MachineParts, area_for_layers
from cimq.hardware import Hardware
from cimq.policy import LayerMachine
from cimq.text_table import aligned_table

PICOSECONDS_PER_MICROSECOND = 1e6
_FJ_PER_PJ = 1e3
_UM2_PER_MM2 = 1e6

CAUSE_WORDS = {
    "write": "writing",
    "mvm": "multiplying",
    "adc": "converting",
    "move": "moving data",
    "digital": "digital work",
    "stall": "waiting for space in the buffer",
}


@dataclasses.dataclass(frozen=True)
class SimulatedLayer:
    """A crossbar layer on the machine. Of a batch everything but begin and end is a sample's share.

    Attributes:
        name: The layer's name.
        begin_us: When its (first) input is there and it is its turn.
        end_us: When its (last) result is there.
        writes: Crossbars written for it in one sample.
        mvms: Crossbar activations, one per input digit.
        write_us: Time that crossbars spent on its writes, added up over crossbars.
        mvm_us: Likewise reading cells for its activations.
        adc_us: Likewise held by converters that take longer than that.
        critical_us: Its part of the chain of instructions that waited for one another, by cause ("write", "mvm", "adc",
            "move", "digital", "stall"). Over all layers and `between_layers_us` these add up to the whole time.
        energy_pj: Energy of what it does, by component; None where the machine describes none.
    """

    name: str
    begin_us: float
    end_us: float
    writes: float
    mvms: int
    write_us: float
    mvm_us: float
    adc_us: float
    critical_us: Mapping[str, float]
    energy_pj: Mapping[str, float] | None


@dataclasses.dataclass(frozen=True)
class SimulatedTime:
    """Time of one sample, from the loaded network to the last result. Of a batch, its time divided by its samples.

    Attributes:
        time_us: The whole.
        critical_us: The same by cause, along the chain of instructions that waited for one another.
        between_layers_us: Its part that belongs to nodes that no crossbar computes.
        crossbars: Crossbars that the program uses.
        utilisation: Share of their time that was used.
        uses: Share of its time that each of the resources that the machine describes was in use: "write_ports",
            "bus_in", "bus_out", "vector_unit".
        buffer_bytes: The smallest buffer that the program can do with.
        layers: The crossbar layers in order of execution.
        energy_pj: Energy of one sample by component, from what the program does; None where the machine describes none.
        area: Area of the machine, of the crossbars that the program uses where there is no limit; None where the
            machine describes none.
        batch: Samples that the program computes together. Times, causes, writes and energy are a sample's share.
        batch_us: Time of the batch.
        first_us: When the result of the first sample is there.
    """

    time_us: float
    critical_us: Mapping[str, float]
    between_layers_us: Mapping[str, float]
    crossbars: int
    utilisation: float
    uses: Mapping[str, float]
    buffer_bytes: int
    layers: tuple[SimulatedLayer, ...]
    energy_pj: Mapping[str, float] | None
    area: MachineParts | None
    batch: int
    batch_us: float
    first_us: float

    @property
    def write_us(self) -> float:
        """Time of the chain that was spent writing."""
        return self.critical_us["write"]

    @property
    def mvm_us(self) -> float:
        """Time of the chain that was spent multiplying."""
        return self.critical_us["mvm"]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        fields["layers"] = [dataclasses.asdict(layer) for layer in self.layers]
        fields["area"] = None if self.area is None else self.area.to_dict()
        return fields

    def __str__(self) -> str:
        causes = [cause for cause, time in self.critical_us.items() if time > 0] or ["mvm"]
        rows = [["layer", "writes", "MVMs", "begin us", "end us", *(f"{cause} us" for cause in causes), "share"]]
        if self.energy_pj is not None:
            rows[0].append("energy nJ")
        for layer in self.layers:
            counts = [count_text(layer.writes), f"{layer.mvms:,}", f"{layer.begin_us:,.1f}", f"{layer.end_us:,.1f}"]
            rows.append([layer.name, *counts, *self._parts(causes, layer.critical_us)])
            if layer.energy_pj is not None:
                rows[-1].append(f"{sum(layer.energy_pj.values()) / 1e3:,.1f}")
        if any(self.between_layers_us.values()):
            empty = [""] if self.energy_pj is not None else []
            rows.append(["(between)", "", "", "", "", *self._parts(causes, self.between_layers_us), *empty])
        parts = ", ".join(f"{self.critical_us[cause]:,.1f} us {CAUSE_WORDS[cause]}" for cause in causes)
        lines = [aligned_table(rows), f"total: {self.time_us:,.1f} us{' a sample' * (self.batch > 1)} ({parts})"]
        if self.batch > 1:
            lines.append(
                f"batch: {self.batch:,} samples in {self.batch_us:,.1f} us, the first after {self.first_us:,.1f} us"
            )
        lines.append(
            f"used: {self.crossbars:,} crossbars, {100 * self.utilisation:.2f} % of their time used"
            + "".join(f"; {name.replace('_', ' ')} {100 * share:.2f} %" for name, share in self.uses.items())
            + f"; at least {self.buffer_bytes:,} bytes of buffer"
        )
        if self.energy_pj is not None:
            described = ", ".join(f"{part} {energy / 1e3:,.1f}" for part, energy in self.energy_pj.items() if energy)
            lines.append(f"energy: {sum(self.energy_pj.values()) / 1e3:,.1f} nJ ({described or 'nothing described'})")
        if self.area is not None:
            described = ", ".join(f"{part} {area / _UM2_PER_MM2:,.3f}" for part, area in self.area.parts.items())
            lines.append(
                f"area: {self.area.total / _UM2_PER_MM2:,.3f} mm2 of {self.area.crossbars:,} crossbars ({described})"
            )
        return "\n".join(lines)

    def _parts(self, causes: Sequence[str], times: Mapping[str, float]) -> list[str]:
        share = f"{100 * sum(times.values()) / self.time_us:.1f} %" if self.time_us else "-"
        return [*(f"{times[cause]:,.1f}" for cause in causes), share]


def simulate(
    program: str, layers_json: str, hardware: Hardware, machines: Sequence[LayerMachine] = ()
) -> SimulatedTime:
    """Times a program that has been verified.

    Args:
        program: The text of a program.jsonl.
        layers_json: The text of the layers.json that it was compiled from.
        hardware: The machine that it was compiled for.
        machines: What its layers choose of the machine: how large it must be.

    Raises:
        ValueError: If the program's input vectors and sums do not fit `resources.buffer_bytes`; names the instruction.
            If a layer chooses ADC bits whose energy (or area) is not known, on a machine that gives that of its own.
    """
    return _report(_C.simulate_program(program, layers_json), hardware, machines)


def trace(program: str, layers_json: str) -> str:
    """What happens when in a program that has been verified: JSON in Chrome's trace event format.

    https://ui.perfetto.dev opens it. It holds at most 100,000 events and 1,024 crossbars (docs/machines.md says what is
    made one then, and what is left out).
    """
    text: str = _C.simulate_program(program, layers_json, True)["trace"]
    return text


def count_text(count: float) -> str:
    """A count, or a sample's share of one."""
    return f"{count:,}" if isinstance(count, int) else f"{count:,.2f}"


def _report(result: dict[str, Any], hardware: Hardware, machines: Sequence[LayerMachine]) -> SimulatedTime:
    batch: int = result["batch"]

    def micro(picoseconds: int) -> float:
        return picoseconds / PICOSECONDS_PER_MICROSECOND

    def share(count: int) -> float:
        return count // batch if count % batch == 0 else count / batch

    def by_cause(picoseconds: Sequence[int]) -> dict[str, float]:
        return {cause: micro(time) / batch for cause, time in zip(_C.CAUSES, picoseconds, strict=True)}

    def by_component(femtojoules: Sequence[int]) -> dict[str, float]:
        return {part: energy / batch / _FJ_PER_PJ for part, energy in zip(_C.ENERGY_PARTS, femtojoules, strict=True)}

    energies = [layer["energy_fj"] for layer in result["layers"] if "energy_fj" in layer]
    layers = tuple(
        SimulatedLayer(
            layer["name"],
            micro(layer["begin_ps"]),
            micro(layer["end_ps"]),
            share(layer["writes"]),
            layer["mvms"] // batch,
            micro(layer["write_ps"]) / batch,
            micro(layer["mvm_ps"]) / batch,
            micro(layer["adc_ps"]) / batch,
            by_cause(layer["critical_ps"]),
            by_component(layer["energy_fj"]) if "energy_fj" in layer else None,
        )
        for layer in result["layers"]
    )
    resources = hardware.resources
    limited = {
        "write_ports": resources.parallel_writes is not None,
        "bus_in": resources.bus_bytes_per_us is not None,
        "bus_out": resources.bus_bytes_per_us is not None,
        "vector_unit": hardware.timing.vector_time_us is not None,
    }

    def used(name: str) -> float:
        busy, parts = result["uses"][name]
        whole = result["time_ps"] * parts
        return busy / whole if whole else 0.0

    crossbars = result["uses"]["crossbars"][1]
    area = area_for_layers(hardware, resources.crossbars or max(1, crossbars), machines)
    return SimulatedTime(
        micro(result["time_ps"]) / batch,
        by_cause(result["critical_ps"]),
        by_cause(result["between_layers_ps"]),
        crossbars,
        used("crossbars"),
        {name: used(name) for name, given in limited.items() if given},
        result["buffer_bytes"],
        layers,
        by_component([sum(column) for column in zip(*energies, strict=True)]) if energies else None,
        area if area.parts else None,
        batch,
        micro(result["time_ps"]),
        micro(result["first_ps"]),
    )
