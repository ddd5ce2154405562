"""Adds to result.json what was measured after the search."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cimq.atomic_files import write_text_atomically
from cimq.structured_files import plain_value, read_structured


def record_measurements(
    run_dir: str | Path,
    *,
    accuracies: Mapping[str, float] | None = None,
    measured_on: str | None = None,
    command: str | None = None,
    checks: Sequence[str] = (),
    bundle: str | None = None,
    versions: Mapping[str, str] | None = None,
    **further: Any,
) -> None:
    """Completes the result.json of a search with final measurements; the report shows them.

    Args:
        run_dir: Folder that `SearchResult.save` wrote.
        accuracies: Name of a row -> its final accuracy, which replaces the search's. Rows that are not named lose
            theirs, so that one column never mixes measurements.
        measured_on: What the accuracies were measured on, e.g. "the test set (360 images)".
        command: Command that repeats the run.
        checks: Sentences about what was verified.
        bundle: Name of the bundle inside `run_dir`.
        versions: Package -> version, added to those recorded.
        **further: Other keys of plain values, kept in the file.

    Raises:
        FileNotFoundError: If there is no result.json.
        ValueError: If it is damaged, or has no row of a name in `accuracies`.

    Example:
        ``record_measurements("runs/demo", accuracies={"found policy": 0.98}, measured_on="the test set")``
    """
    path = Path(run_dir) / "result.json"
    result = read_structured(path, "result file")
    rows = result.get("rows") if isinstance(result, dict) else None
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise ValueError(f"result file {path} must hold a list of rows")
    if accuracies is not None:
        names = [row.get("name") for row in rows]
        for name in accuracies:
            if name not in names:
                raise ValueError(f"result file {path} has no row {name!r}; there are: {', '.join(map(str, names))}")
        for row in rows:
            row["accuracy"] = accuracies.get(row["name"])
    given = {"measured_on": measured_on, "command": command, "bundle": bundle, **further}
    result.update({key: value for key, value in given.items() if value is not None})
    if checks:
        result["checks"] = list(checks)
    if versions:
        result["versions"] = {**result.get("versions", {}), **versions}
    write_text_atomically(path, json.dumps(plain_value(result, "result"), indent=1) + "\n")
