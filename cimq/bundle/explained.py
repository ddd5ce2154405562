"""A layer of a compiled program, in words: how it lies in the crossbars, what its time goes to, and what would help."""

from __future__ import annotations

import math

from cimq import _C
from cimq.bundle.programs import CompiledLayer, CompiledProgram
from cimq.bundle.simulated import CAUSE_WORDS, SimulatedLayer
from cimq.hardware import Hardware
from cimq.layer_machine import layer_hardware


def explain_layer(program: CompiledProgram, name: str) -> str:
    """Explains one layer of a program.

    Args:
        program: What `cimq.compile` returned.
        name: The layer's name.

    Returns:
        Lines of text.

    Raises:
        ValueError: If there is no such layer; names the nearest. As `CompiledProgram.simulated`.
    """
    layers = {layer.name: layer for layer in program.layers}
    if name not in layers:
        nearest = _C.nearest_word(name, list(layers))
        hint = f" (did you mean {nearest!r}?)" if nearest else ""
        raise ValueError(f"explain: there is no crossbar layer {name!r}{hint}; the layers are {', '.join(layers)}")
    layer = layers[name]
    simulated = next(entry for entry in program.simulated.layers if entry.name == name)
    machine = layer_hardware(program.hardware, layer.machine, name)
    lines = [
        *_shape(layer, machine),
        *_writing(layer, simulated, program),
        *_vector(layer, machine),
        *_time(simulated, program),
        *_energy(simulated),
        *_advice(layer, simulated, program, machine),
    ]
    return "\n".join(lines)


def _plural(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def _shape(layer: CompiledLayer, machine: Hardware) -> list[str]:
    groups = "" if layer.repeats == 1 else f", {layer.repeats:,} groups of it"
    tiles = layer.row_tiles * layer.column_tiles
    cells = layer.rows * layer.columns / (tiles * machine.rows * machine.cols)
    held = "values" if layer.op == "crossbar_matmul" else "weights"
    return [
        f"{layer.name} ({layer.op}): {layer.outputs:,} outputs of {layer.inputs:,} inputs{groups}, "
        f"{_plural(layer.invocations, 'input vector')} each",
        f"{held} of {layer.weight_bits} bits in {_plural(layer.slices, 'cell')} of {machine.cell_bits} bits, "
        f"{machine.mapping}: {layer.rows:,} word lines x {layer.columns:,} bit lines",
        *([f"otherwise than the machine: {layer.machine}"] if layer.machine.given() else []),
        f"on arrays of {machine.rows:,} x {machine.cols:,}: {layer.row_tiles:,} x {layer.column_tiles:,} tiles "
        f"(rows x columns), {100 * cells:.1f} % of their cells used",
    ]


def _writing(layer: CompiledLayer, simulated: SimulatedLayer, program: CompiledProgram) -> list[str]:
    tiles = layer.repeats * layer.row_tiles * layer.column_tiles
    write_us = program.hardware.timing.write_time_us
    if simulated.writes == 0:
        return [f"all {tiles:,} tiles stay in their crossbars: nothing is written for a sample"]
    return [
        f"{simulated.writes:,} of {_plural(tiles, 'tile')} are written for every sample, {write_us:g} us each: "
        f"{simulated.write_us:,.1f} us over all crossbars"
    ]


def _line_count(layer: CompiledLayer, machine: Hardware) -> int:
    """Lines of the widest tile that are converted for a digit."""
    pairs = machine.mapping == "differential_column" and machine.adc.placement == "differential"
    return min(layer.columns, machine.cols) // (2 if pairs else 1)


def _step(layer: CompiledLayer, machine: Hardware) -> tuple[float, float]:
    """Microseconds of a digit: reading the cells of the widest tile, converting its lines."""
    lines = _line_count(layer, machine)
    converters = machine.resources.adcs_per_crossbar or lines
    return machine.timing.mvm_time_us, math.ceil(lines / converters) * (machine.timing.adc_time_us or 0.0)


def _vector(layer: CompiledLayer, machine: Hardware) -> list[str]:
    read, convert = _step(layer, machine)
    lines = [
        f"an input vector: {_plural(layer.digits, 'digit')} of {machine.dac_bits} bit, {read:g} us each to read"
        + (f", {convert:g} us to convert {_line_count(layer, machine):,} lines" if convert else "")
        + f": {layer.digits * max(read, convert):g} us"
    ]
    bandwidth = machine.resources.bus_bytes_per_us
    if bandwidth is not None:
        size = math.ceil(layer.inputs * layer.act_bits / 8)
        lines.append(
            f"on the bus: {size:,} bytes in ({size / bandwidth:.3g} us), {layer.outputs:,} bytes back "
            f"({layer.outputs / bandwidth:.3g} us)"
        )
    return lines


def _time(simulated: SimulatedLayer, program: CompiledProgram) -> list[str]:
    whole = program.simulated.time_us
    mine = sum(simulated.critical_us.values())
    share = f" ({100 * mine / whole:.1f} %)" if whole else ""
    lines = [f"its part of the {whole:,.1f} us of a sample: {mine:,.1f} us{share}"]
    for cause, time in simulated.critical_us.items():
        if time > 0:
            lines.append(f"  {time:,.1f} us {CAUSE_WORDS[cause]}")
    return lines


def _energy(simulated: SimulatedLayer) -> list[str]:
    if simulated.energy_pj is None:
        return []
    parts = ", ".join(f"{part} {energy / 1e3:,.2f}" for part, energy in simulated.energy_pj.items() if energy)
    return [f"energy: {sum(simulated.energy_pj.values()) / 1e3:,.2f} nJ ({parts or 'nothing described'})"]


def _advice(layer: CompiledLayer, simulated: SimulatedLayer, program: CompiledProgram, machine: Hardware) -> list[str]:
    cause = max(simulated.critical_us, key=lambda name: simulated.critical_us[name])
    if simulated.critical_us[cause] == 0:
        return ["it is hidden behind other layers: making it faster makes nothing faster"]
    read, convert = _step(layer, machine)
    if cause == "write" and layer.op == "crossbar_matmul":
        text = "fewer weight bits, so that there are fewer tiles: values are written for every sample wherever they are"
    elif cause == "write":
        text = "crossbars for all tiles, so that they stay; fewer weight bits, so that there are fewer tiles"
    elif cause == "mvm":
        text = f"fewer activation bits: a digit less saves {simulated.critical_us['mvm'] / layer.digits:,.1f} us"
    elif cause == "adc":
        text = _converters(_line_count(layer, machine), read, convert, machine.timing.adc_time_us or 0.0)
    elif cause == "move":
        text = f"a wider bus: it is in use {100 * max(_bus(program)):.1f} % of the time"
    elif cause == "digital":
        text = f"more vector lanes: they are in use {100 * program.simulated.uses['vector_unit']:.1f} % of the time"
    else:
        text = f"more buffer: it has {machine.resources.buffer_bytes:,} bytes"
    return [f"most of that is {CAUSE_WORDS[cause]}; what would help: {text}"]


def _converters(lines: int, read: float, convert: float, each: float) -> str:
    if convert <= read:
        return "faster converters: the last conversion of a vector is waited for"
    if each > read:
        return "faster converters: one conversion takes longer than reading the cells"
    enough = math.ceil(lines / math.floor(read / each))
    return f"more converters for a crossbar: {_plural(enough, 'converter')} would keep up with its cells"


def _bus(program: CompiledProgram) -> tuple[float, float]:
    return program.simulated.uses["bus_in"], program.simulated.uses["bus_out"]
