"""The page that a run writes: one table of all cases, the claims, what was run and what was not."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import _static
import _times
from _claims import CUDA_CLAIMS, Asked, verdicts
from _floor import floor_seconds
from _record import DONE, OUT_OF_TIME, Record

MISSING = "-"


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Lines of a table; cells keep to their line."""
    lines = [list(head), ["---"] * len(head), *(list(row) for row in rows)]
    return ["| " + " | ".join(" ".join(cell.split()).replace("|", "\\|") for cell in line) + " |" for line in lines]


def page(record: Record, title: str, listed: dict[str, Any], claims: Mapping[str, Asked], found: Mapping[str, float],
         why: Mapping[str, str]) -> str:  # fmt: skip
    """The whole page.

    Args:
        record: What the run found.
        title: The first line.
        listed: The worker's list of cases; empty where it could not be had.
        claims: Those that this run is about.
        found: Of the claims.
        why: Why others were not found.
    """
    environment = record.content["environment"]
    lines = [f"# {title}", "", *(f"    {command}" for command in record.content["commands"]), ""]
    lines += [", ".join(f"{key} {value}" for key, value in environment.items() if value not in ("", None)) + ".", ""]
    if claims:
        rows = verdicts(claims, found, why)
        lines += ["## Claims", ""]
        lines += markdown_table(
            ["claim", "asked", "found", "verdict"], ((row.claim, row.asked, row.found, row.verdict) for row in rows)
        )
        lines.append("")
    if record.parts(_times.STAGE):
        lines += _measured(record, listed)
    if record.parts(_static.STAGE):
        lines += _floors(listed)
    lines += _kernels(record)
    lines += _what_was_run(record)
    return "\n".join(lines).rstrip() + "\n"


def _measured(record: Record, listed: dict[str, Any]) -> list[str]:
    peaks = record.values(_times.STAGE, _times.PEAKS)
    lines = ["## Times", ""]
    if peaks:
        lines += [
            "Measured in this run: copy {:.0f} GB/s read and written; plain products of int8 {:.0f}, float32 {:.1f}, "
            "float64 {:.1f} tera-operations per second.".format(
                peaks["bytes"] / 1e9, peaks["int8"] / 1e12, peaks["float32"] / 1e12, peaks["float64"] / 1e12
            ),
            "",
        ]
    lines += [
        "Floor: bytes over the copy's bandwidth, or operations over the rate of the product of their type (half of it "
        "for floats, whose products and sums are not contracted), whichever is more. Bytes: every operand once, every "
        "result once. Measured: median of single calls, caches written over before each; every result was first "
        "compared with the CPU's. Ratio: measured over floor.",
        "",
    ]
    lines += markdown_table(
        ["case", "operands", "MB", "G operations", "floor us", "bound by", "measured us", "ratio"],
        (_row(case, record, peaks) for case in listed.get("cases", [])),
    )
    lines.append("")
    without = listed.get("without_case", [])
    lines += [f"Operators without a case: {', '.join(without) or 'none'}.", ""]
    lines += _clocks(record)
    refused = sorted(
        {case["operator"] for case in listed.get("cases", []) if _part(record, case).get("values", {}).get("no_kernel")}
    )
    lines += [f"Operators without a kernel for this device: {', '.join(refused) or 'none'}.", ""]
    return lines


def _clocks(record: Record) -> list[str]:
    """What the driver read right after each case; its own words where it read nothing."""
    read = [part["values"]["clocks"] for part in record.parts(_times.STAGE).values() if part["values"].get("clocks")]
    speeds = [int(match[1]) for text in read if (match := re.match(r"(\d+) MHz", text))]
    if speeds:
        return [f"Clock of the multiprocessors, read after each case: {min(speeds)} to {max(speeds)} MHz.", ""]
    return [f"Clocks: {read[0]}.", ""] if read else []


def _part(record: Record, case: dict[str, Any]) -> dict[str, Any]:
    return record.parts(_times.STAGE).get(case["case"], {})


def _counts(case: dict[str, Any]) -> list[str]:
    operations = ", ".join(f"{count / 1e9:.3g} {kind}" for kind, count in case["operations"].items())
    return [f"{case['bytes'] / 1e6:.4g}", operations or MISSING]


def _row(case: dict[str, Any], record: Record, peaks: dict[str, float]) -> list[str]:
    part = _part(record, case)
    cells = [case["case"], case["shape"], *_counts(case)]
    floor = None
    if peaks:
        rates = {"int8": peaks["int8"], "float32": peaks["float32"] / 2, "float64": peaks["float64"] / 2}
        floor, bound = floor_seconds(case["bytes"], case["operations"], peaks["bytes"], rates)
        cells += [f"{floor * 1e6:.1f}", bound]
    else:
        cells += [MISSING, MISSING]
    if part.get("status") == DONE:
        median = part["values"]["median"]
        return [*cells, f"{median * 1e6:.1f}", f"{median / floor:.2f}" if floor else MISSING]
    if part.get("values", {}).get("no_kernel"):
        return [*cells, "no kernel", MISSING]
    return [*cells, part.get("status", "not run"), MISSING]


def _floors(listed: dict[str, Any]) -> list[str]:
    """Least times by data sheets, of every case and architecture."""
    lines = ["## Least times by data sheets", ""]
    sheets = _static.SHEETS
    chips = "; ".join(
        f"{architecture}: {sheet.chip}, {sheet.bytes_per_s / 1e9:.0f} GB/s, {sheet.int8 / 1e12:.0f} TOPS of int8"
        for architecture, sheet in sheets.items()
    )
    lines += [f"Not a measurement. {chips}. Microseconds; m: bound by memory, else by operations.", ""]
    rows = []
    for case in listed.get("cases", []):
        cells = [case["case"], ", ".join(case["kernels"]) or "none yet", case["shape"], *_counts(case)]
        for sheet in sheets.values():
            floor, bound = floor_seconds(case["bytes"], case["operations"], sheet.bytes_per_s, sheet.rates())
            cells.append(f"{floor * 1e6:.1f}{' m' if bound == 'memory' else ''}")
        rows.append(cells)
    lines += markdown_table(["case", "kernels", "operands", "MB", "G operations", *sheets], rows)
    without = listed.get("without_case", [])
    return [*lines, "", f"Operators without a case: {', '.join(without) or 'none'}.", ""]


def _kernels(record: Record) -> list[str]:
    """One row per instance of a kernel; registers and occupancy by architecture."""
    found: list[dict[str, Any]] = []
    for stage, part in ((_static.STAGE, _static.KERNELS), ("build", "extension")):
        found += record.parts(stage).get(part, {}).get("values", {}).get("kernels", [])
    if not found:
        return []
    chips = sorted({row["architecture"] for row in found}, key=lambda name: int(name.removeprefix("sm_")))
    by_kernel: dict[str, dict[str, dict[str, Any]]] = {}
    for row in sorted(found, key=lambda row: str(row["kernel"])):
        by_kernel.setdefault(row["kernel"], {})[row["architecture"]] = row
    lines = ["## What nvcc makes of the kernels", ""]
    lines += [
        "By architecture: registers, and occupancy, the share of a multiprocessor's threads that can be resident. "
        "Shared: bytes of fixed size and of the launch. Spilled: bytes, of all architectures together. IMMA: int8 "
        "tensor-core instructions in the code, one number for each architecture where they differ.",
        "",
    ]
    head = ["kernel", *chips, "shared", "spilled", "IMMA"]
    lines += markdown_table(head, (_kernel_cells(name, rows, chips) for name, rows in by_kernel.items()))
    return [*lines, ""]


def _kernel_cells(name: str, rows: dict[str, dict[str, Any]], chips: list[str]) -> list[str]:
    here = [rows[chip] for chip in chips if chip in rows]
    by_chip = [
        f"{rows[chip]['registers']}, {rows[chip]['occupancy']:.0%}" if chip in rows else "not built" for chip in chips
    ]
    counts = [row["matrix_instructions"] for row in here]
    matrix = MISSING if None in counts else " / ".join(map(str, counts if len(set(counts)) > 1 else counts[:1]))
    shared = " / ".join(map(str, sorted({row["shared_bytes"] for row in here})))
    return [name, *by_chip, shared, str(sum(row["spill_bytes"] for row in here)), matrix]


def _what_was_run(record: Record) -> list[str]:
    rows = []
    for stage, parts in record.content["stages"].items():
        done = [name for name, part in parts.items() if part["status"] == DONE]
        seconds = sum(part["seconds"] for part in parts.values())
        rows.append([stage, f"{len(done)} of {len(parts)} parts done", f"{seconds:.0f} s", ""])
        alike: dict[str, list[str]] = {"no kernel": [], OUT_OF_TIME: []}
        for name, part in parts.items():
            status = "no kernel" if part["values"].get("no_kernel") else part["status"]
            if status in alike:
                alike[status].append(name)
            elif status != DONE or part["note"]:
                rows.append([f"{stage}: {name}", status, f"{part['seconds']:.0f} s", part["note"][:600]])
        for status, names in alike.items():
            if names:
                rows.append([f"{stage}: {len(names)} parts", status, "", ", ".join(names)])
    return ["## What was run", "", *markdown_table(["stage or part", "outcome", "took", "note"], rows)]


def claims_of(record: Record) -> Mapping[str, Asked]:
    """Those of CUDA where a device was there."""
    return CUDA_CLAIMS if record.content["environment"].get("chip") else {}
