"""`cimq latency`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from cimq.cli.output import say
from cimq.cli.user_errors import one_sentence

_SPEEDUP_DIGITS = 6


@one_sentence
def command(
    file: Annotated[
        Path, typer.Argument(help="JSON or YAML with hardware, layers and policies; or an ONNX model (NAME.onnx).")
    ],
    as_json: Annotated[
        bool, typer.Option("--json", help="Print {name: {mapping: {...}}}; of an ONNX model, its layers and sums.")
    ] = False,
    hardware: Annotated[
        str | None, typer.Option(help="Preset or hardware file, for an ONNX model; default: paper.")
    ] = None,
) -> None:
    """Latency of the policies in FILE, or of a quantised ONNX model.

    Closed form, and the speed-up over uniform 8-bit: of policies for each of the three mappings, of a model layer by
    layer.
    """
    if file.suffix == ".onnx":
        _of_onnx(file, as_json, hardware)
        return
    if hardware is not None:
        raise ValueError("latency: --hardware is for an ONNX model; a file of policies names its own")
    from cimq.cost_model.policy_table import read_policy_table
    from cimq.text_table import aligned_table

    reports = {entry.name: entry.latencies() for entry in read_policy_table(file)}
    if as_json:
        plain = {
            name: {
                mapping: {
                    "writes": report.writes,
                    "mvms": report.mvms,
                    "time_us": report.time_us,
                    "uniform8_time_us": report.uniform8_time_us,
                    "speedup": round(report.speedup, _SPEEDUP_DIGITS),
                }
                for mapping, report in by_mapping.items()
            }
            for name, by_mapping in reports.items()
        }
        say(json.dumps(plain, indent=2))
        return
    rows = [["policy", "mapping", "writes", "MVMs", "time us", "uniform 8-bit us", "speed-up"]]
    for name, by_mapping in reports.items():
        for mapping, report in by_mapping.items():
            counts = [f"{report.writes:,}", f"{report.mvms:,}"]
            times = [f"{report.time_us:,.1f}", f"{report.uniform8_time_us:,.1f}", f"{report.speedup:.3f}x"]
            rows.append([name, mapping, *counts, *times])
    say(aligned_table(rows, left=2))


def _of_onnx(file: Path, as_json: bool, hardware: str | None) -> None:
    import cimq

    report = cimq.latency(file, hardware=hardware)
    say(json.dumps(report.to_dict(), indent=2) if as_json else str(report))
