"""What the numbers of `doctor` mean: findings with the option to change."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from cimq.cell import Cell, Wires
from cimq.diagnosis.converters import AdcRow
from cimq.diagnosis.rows import DoctorRow
from cimq.hardware import Hardware

# Below this a layer's error is worth a word: networks of 2-bit layers that were trained for it lie about there.
_POOR_DB = 12.0
# A layer that alone leaves the network's output this clean is not where accuracy goes, whatever its own error.
_HARMLESS_DB = 30.0
# Ideal converters (or cells) in a layer must make the network's output this much cleaner to be advised about.
_GAIN_DB = 1.0
# Converters clip on purpose (a narrower range has finer steps); more than this cuts into the signal.
_MANY_CLIPPED = 0.02
_MANY_CLIPPED_INPUTS = 0.05
# A converter (an input) that gives fewer of its codes has a range far beyond its currents (values).
_FEW_CODES = 0.1
_FEW_INPUT_CODES = 0.3
_LARGEST_ADC_BITS = 16
_NAMES_IN_A_LINE = 6
_NOUNS = {"act": "inputs", "weight": "weights", "adc": "converters", "cell": "cells"}


@dataclass(frozen=True)
class Finding:
    """Something to change.

    Attributes:
        layer: Name of the layer, or of a batch normalisation.
        cause: "act", "weight", "adc", "cell" or "norm".
        text: What was measured and what to change.
        change: What to change.
        sqnr_db: The layer's signal-to-noise ratio for this cause; None for a normalisation.
    """

    layer: str
    cause: str
    text: str
    change: str
    sqnr_db: float | None


def findings(
    rows: Sequence[DoctorRow],
    converters: Sequence[AdcRow],
    machines: Mapping[str, Hardware],
    norms_without_data: Iterable[str] = (),
) -> list[Finding]:
    """Findings in the order of `rows`, after those about normalisations that have seen no data.

    A layer is named for a cause that leaves it little signal, if the network's output suffers; converters and cells
    where they are its largest cause and the output gets cleaner without them.

    Args:
        rows: One per layer.
        converters: One per layer and weight slice, or none.
        machines: By layer, in policy order.
        norms_without_data: Names of batch normalisations.
    """
    change = "load the trained weights, or train, or call cimq.reestimate_bn(model, loader)"
    text = f"has seen no data (mean 0, variance 1): {change}"
    found = [Finding(name, "norm", text, change, None) for name in norms_without_data]
    names = list(machines)
    ends = {*names[:1], *names[-1:]}
    for row in rows:
        if row.output_sqnr_db > _HARMLESS_DB:
            continue
        machine = machines[row.layer]
        slices = [converter for converter in converters if converter.layer == row.layer]
        if row.act_sqnr_db < _POOR_DB:
            found.append(_poor_inputs(row, row.layer in ends))
        if row.weight_sqnr_db is not None and row.weight_sqnr_db < _POOR_DB:
            found.append(_poor_weights(row, row.layer in ends))
        if row.cause == "adc" and row.adc_sqnr_db < _POOR_DB and _gains(row, row.output_without_adc_db):
            found.append(_poor_conversions(row, slices, machine))
        if row.cause == "cell" and row.cell_sqnr_db < _POOR_DB:
            converts = machine.adc.bits is not None and _gains(row, row.output_without_adc_db)
            fixed = not machine.varies and (machine.cell != Cell() or machine.wires != Wires())
            if fixed and (converts or _gains(row, row.output_without_cell_db)):
                found.append(_fixed_cells(row, machine, converts))
            elif not fixed and _gains(row, row.output_without_cell_db):
                found.append(_poor_cells(row, machine))
    return found


def lines_of(found: Sequence[Finding]) -> list[str]:
    """One line per finding; those of several layers that ask for the same change share one."""
    groups: dict[tuple[str, str], list[Finding]] = {}
    for finding in found:
        groups.setdefault((finding.cause, finding.change), []).append(finding)
    lines = []
    for (cause, change), members in groups.items():
        if len(members) == 1:
            lines.append(f"{members[0].layer}: {members[0].text}")
            continue
        names = ", ".join(member.layer for member in members[:_NAMES_IN_A_LINE])
        if len(members) > _NAMES_IN_A_LINE:
            names += f", ... ({len(members)} layers)"
        levels = [member.sqnr_db for member in members if member.sqnr_db is not None]
        if levels:
            lines.append(f"{names}: {_NOUNS[cause]} leave {min(levels):.1f} to {max(levels):.1f} dB: {change}")
        else:
            lines.append(f"{names}: {members[0].text}")
    return lines


def _gains(row: DoctorRow, output_without: float) -> bool:
    return output_without >= row.output_sqnr_db + _GAIN_DB


def _made(row: DoctorRow, cause: str, level: float, seen: str, changes: Sequence[str]) -> Finding:
    change = ", or ".join(changes)
    return Finding(row.layer, cause, f"{seen}: {change}", change, level)


def _poor_inputs(row: DoctorRow, at_the_end: bool) -> Finding:
    if row.clipped_inputs > _MANY_CLIPPED_INPUTS and row.clip_error > 0.5:
        seen = (
            f"{row.clipped_inputs:.0%} of the inputs lie beyond the activation scale and leave {row.act_sqnr_db:.1f} dB"
        )
        changes = [
            'calibrate again with data like these (method="minmax" clips nothing)',
            "prepare(..., act_offset=True) if they are one-sided",
        ]
        return _made(row, "act", row.act_sqnr_db, seen, changes)
    seen = f"{row.act_bits}-bit inputs leave {row.act_sqnr_db:.1f} dB"
    changes = []
    if row.act_bits > 2 and row.used_input_codes < _FEW_INPUT_CODES:
        seen += f" and use {row.used_input_codes:.0%} of their integers"
        changes.append("calibrate again with data like these")
    changes.append(
        f"{row.act_bits + 1} activation bits in the policy" if row.act_bits < 8 else "prepare(..., act_offset=True)"
    )
    changes += _first_last(at_the_end, row.act_bits)
    return _made(row, "act", row.act_sqnr_db, seen, [*changes, "train (cimq.finetune)"])


def _poor_weights(row: DoctorRow, at_the_end: bool) -> Finding:
    assert row.weight_sqnr_db is not None
    more = (
        f"{row.weight_bits + 1} weight bits in the policy" if row.weight_bits < 8 else "prepare(..., per_channel=True)"
    )
    seen = f"{row.weight_bits}-bit weights leave {row.weight_sqnr_db:.1f} dB"
    changes = [more, *_first_last(at_the_end, row.weight_bits), "train (cimq.finetune)"]
    return _made(row, "weight", row.weight_sqnr_db, seen, changes)


def _first_last(at_the_end: bool, bits: int) -> list[str]:
    return ["first_last_bits=8"] if at_the_end and bits < 8 else []


def _poor_conversions(row: DoctorRow, slices: Sequence[AdcRow], machine: Hardware) -> Finding:
    adc, changes = machine.adc, []
    seen = f"converters leave {row.adc_sqnr_db:.1f} dB"
    from_data = adc.range in ("calibrated", "learned")
    worst = max(slices, key=lambda s: s.error_share, default=None)
    if worst is not None and worst.clip_low + worst.clip_high > _MANY_CLIPPED:
        seen += f" and clip {worst.clip_low + worst.clip_high:.0%} of slice {worst.slice}"
        changes.append("calibrate again" if from_data else "adc.range: calibrated")
    elif worst is not None and worst.used_codes < _FEW_CODES and not from_data:
        seen += f" and use {worst.used_codes:.0%} of their codes in slice {worst.slice}"
        changes.append("adc.range: calibrated")
    elif worst is not None and len(slices) > 1:
        seen += f", {worst.error_share:.0%} of the error in slice {worst.slice}"
    if adc.bits is not None and adc.bits < _LARGEST_ADC_BITS:
        changes.append(f"adc.bits: {adc.bits + 1}")
    if machine.rows >= 4:
        changes.append(f"rows: {machine.rows // 2}")
    return _made(row, "adc", row.adc_sqnr_db, seen, [*changes, "train through them"])


def _poor_cells(row: DoctorRow, machine: Hardware) -> Finding:
    changes = [f"cell_bits: {machine.cell_bits - 1}"] if machine.cell_bits > 1 else []
    changes.append(
        "train on this machine (a fresh chip in every step, cimq.finetune), and judge by several chips "
        "(cimq.evaluate_chips)"
    )
    return _made(row, "cell", row.cell_sqnr_db, f"cells leave {row.cell_sqnr_db:.1f} dB", changes)


def _fixed_cells(row: DoctorRow, machine: Hardware, converts: bool) -> Finding:
    """Cells that are the same on every chip: mostly it is the converters that cannot hold their currents."""
    adc, cell, changes = machine.adc, machine.cell, []
    seen = f"cells, the same on every chip, leave {row.cell_sqnr_db:.1f} dB"
    ratio = _on_off_ratio(machine)
    if converts:
        if ratio is not None:
            seen += f" (the current of cells at level 0, on/off ratio {ratio:.3g}, takes codes of the converters)"
        else:
            seen += " through these converters"
        if adc.range not in ("calibrated", "learned"):
            changes.append("adc.range: calibrated")
        if ratio is not None and adc.placement == "per_column" and machine.mapping == "differential_column":
            changes.append("adc.placement: differential")
        if adc.bits is not None and adc.bits < _LARGEST_ADC_BITS:
            changes.append(f"adc.bits: {adc.bits + 1}")
    if cell.drift.nu != 0:
        changes.append("cells that are read sooner after programming (cell.drift.time_s)")
    if max(machine.wires.word_line_ohm, machine.wires.bit_line_ohm) > 0 and machine.rows >= 4:
        changes.append(f"rows: {machine.rows // 2}")
    return _made(row, "cell", row.cell_sqnr_db, seen, [*changes, "train on this machine (cimq.finetune)"])


def _on_off_ratio(machine: Hardware) -> float | None:
    """Conductance of the top level over that of level 0, if that is finite."""
    cell = machine.cell
    if cell.g_min_microsiemens and cell.g_max_microsiemens:
        return cell.g_max_microsiemens / cell.g_min_microsiemens
    return cell.hrs_ohm / cell.lrs_ohm if cell.hrs_ohm and cell.lrs_ohm else None
