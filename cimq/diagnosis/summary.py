"""What `doctor` returns: rows, counts of converters and findings, as text and as plain values."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

from cimq.diagnosis.advice import Finding, lines_of
from cimq.diagnosis.converters import AdcRow
from cimq.diagnosis.rows import DoctorRow
from cimq.text_table import aligned_table

_LAYERS_WITH_SLICES = 3  # in the printed text


@dataclass(frozen=True)
class Diagnosis:
    """What `doctor` found.

    Attributes:
        rows: One per layer, the one that disturbs the network's output most first.
        converters: One per layer and weight slice where all layers have converters; else empty.
        findings: What is wrong and what to change, the most harmful layer first; empty for a healthy model.
        output_sqnr_db: Of the network's output with every layer quantised.
    """

    rows: list[DoctorRow]
    converters: list[AdcRow]
    findings: list[Finding]
    output_sqnr_db: float

    def to_dict(self) -> dict[str, Any]:
        """Plain values; what is infinite is None, as JSON has no other way to say it; what is not known is left out."""
        return {key: _plain(value) for key, value in dataclasses.asdict(self).items()}

    def __str__(self) -> str:
        analog = any(row.adc_sqnr_db < math.inf or row.cell_sqnr_db < math.inf for row in self.rows)
        head = ["layer", "W", "A", "clip", "inputs dB", "weights dB", "ADC dB", "cells dB", "all dB", "output dB"]
        table = [[*head, *(["ideal ADC", "ideal cells"] if analog else []), "cause"]]
        for row in self.rows:
            values = [row.act_sqnr_db, row.weight_sqnr_db, row.adc_sqnr_db, row.cell_sqnr_db, row.sqnr_db]
            values += [row.output_sqnr_db]
            values += [row.output_without_adc_db, row.output_without_cell_db] if analog else []
            names = [row.layer, str(row.weight_bits), str(row.act_bits), f"{row.clipped_inputs:.0%}"]
            table.append([*names, *map(_text, values), row.cause])
        lines = [aligned_table(table)]
        if any(row.weight_sqnr_db is None for row in self.rows):
            lines.append("?: needs the fp32 weights: the prepared model, or reference=")
        lines.append(f"network output: {self.output_sqnr_db:.1f} dB with every layer quantised")
        lines += lines_of(self.findings) or ["nothing stands out"]
        return "\n".join([*lines, *self._slices()])

    def _slices(self) -> list[str]:
        """Converters slice by slice, of the first layers that are named for them."""
        named = [finding.layer for finding in self.findings if finding.cause == "adc"][:_LAYERS_WITH_SLICES]
        table = [["layer", "slice", "clip", "codes used", "share of the error"]]
        for name in named:
            for row in self.converters:
                if row.layer == name:
                    shares = (row.clip_low + row.clip_high, row.used_codes, row.error_share)
                    table.append([name, str(row.slice), *(f"{share:.0%}" for share in shares)])
        return ["converters:", aligned_table(table)] if len(table) > 1 else []


def _text(decibels: float | None) -> str:
    if decibels is None:
        return "?"
    return f"{decibels:.1f}" if math.isfinite(decibels) else "-"


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
