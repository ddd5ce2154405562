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
    file: Annotated[Path, typer.Argument(help="JSON or YAML with hardware, layers and policies.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print {name: {mapping: {...}}}.")] = False,
) -> None:
    """Latency of the policies in FILE.

    Closed form, for each of the three mappings, and the speed-up over uniform 8-bit.
    """
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
