"""What the numbers of `doctor` mean: findings with the option to change."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cimq.hardware import Hardware

if TYPE_CHECKING:
    from cimq.quantization import AdcRow
    from cimq.training.layer_errors import DoctorRow

# Below this a layer's error is worth a word: networks of 2-bit layers that were trained for it lie about there.
_POOR_DB = 12.0
# Converters clip on purpose (a narrower range has finer steps); more than this cuts into the signal.
_MANY_CLIPPED = 0.02
_MANY_CLIPPED_INPUTS = 0.05
# A converter that gives fewer of its codes has a range far beyond its currents.
_FEW_CODES = 0.1


@dataclass(frozen=True)
class Finding:
    """Something to change.

    Attributes:
        layer: Name of the layer.
        cause: "act", "weight", "adc" or "cell".
        text: What was measured and what to change.
    """

    layer: str
    cause: str
    text: str


def findings(
    rows: Sequence[DoctorRow], converters: Sequence[AdcRow], machines: Mapping[str, Hardware]
) -> list[Finding]:
    """Findings in the order of `rows`; a cause is named where it is what limits a layer, or clips much."""
    found = []
    for row in rows:
        machine = machines[row.layer]
        slices = [converter for converter in converters if converter.layer == row.layer]
        if row.clipped_inputs > _MANY_CLIPPED_INPUTS:
            found.append(_clipped_inputs(row))
        elif row.act_sqnr_db < _POOR_DB:
            found.append(_poor_inputs(row))
        if row.weight_sqnr_db < _POOR_DB:
            found.append(_poor_weights(row))
        if row.adc_sqnr_db < min(_POOR_DB, row.act_sqnr_db, row.weight_sqnr_db):
            found.append(_poor_conversions(row, slices, machine))
        if row.cell_sqnr_db < min(_POOR_DB, row.act_sqnr_db, row.weight_sqnr_db):
            found.append(_poor_cells(row, machine))
    return found


def _clipped_inputs(row: DoctorRow) -> Finding:
    text = (
        f"{row.clipped_inputs:.0%} of the inputs lie beyond the activation scale: calibrate again with data like "
        'these (method="minmax" clips nothing), or prepare(..., act_offset=True) if they are one-sided'
    )
    return Finding(row.layer, "act", text)


def _poor_inputs(row: DoctorRow) -> Finding:
    more = f"{row.act_bits + 1} activation bits" if row.act_bits < 8 else "prepare(..., act_offset=True)"
    text = (
        f"{row.act_bits}-bit inputs leave {row.act_sqnr_db:.1f} dB: {more} in the policy, or train (cimq.finetune), or "
        "first_last_bits=8 if it is the first layer"
    )
    return Finding(row.layer, "act", text)


def _poor_weights(row: DoctorRow) -> Finding:
    more = (
        f"{row.weight_bits + 1} weight bits in the policy" if row.weight_bits < 8 else "prepare(..., per_channel=True)"
    )
    text = f"{row.weight_bits}-bit weights leave {row.weight_sqnr_db:.1f} dB: {more}, or train (cimq.finetune)"
    return Finding(row.layer, "weight", text)


def _poor_conversions(row: DoctorRow, slices: Sequence[AdcRow], machine: Hardware) -> Finding:
    adc, changes = machine.adc, []
    seen = f"converters leave {row.adc_sqnr_db:.1f} dB"
    clipping = max(slices, key=lambda s: s.clip_low + s.clip_high, default=None)
    sparse = min(slices, key=lambda s: s.used_codes, default=None)
    if clipping is not None and clipping.clip_low + clipping.clip_high > _MANY_CLIPPED:
        seen += f" and clip {clipping.clip_low + clipping.clip_high:.0%} of slice {clipping.slice}"
        changes.append("calibrate again" if adc.range in ("calibrated", "learned") else "adc.range: calibrated")
    elif sparse is not None and sparse.used_codes < _FEW_CODES and adc.range not in ("calibrated", "learned"):
        seen += f" and use {sparse.used_codes:.0%} of their codes in slice {sparse.slice}"
        changes.append("adc.range: calibrated")
    changes += [f"adc.bits: {(adc.bits or 0) + 1}", f"rows: {max(1, machine.rows // 2)}", "train through them"]
    return Finding(row.layer, "adc", f"{seen}: {', or '.join(changes)}")


def _poor_cells(row: DoctorRow, machine: Hardware) -> Finding:
    fewer = f"cell_bits: {machine.cell_bits - 1}, or " if machine.cell_bits > 1 else ""
    text = (
        f"cells leave {row.cell_sqnr_db:.1f} dB: {fewer}train on this machine (a fresh chip in every step, "
        "cimq.finetune), and judge by several chips (cimq.evaluate_chips)"
    )
    return Finding(row.layer, "cell", text)
