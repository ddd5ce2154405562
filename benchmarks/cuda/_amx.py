"""The stage `amx`: the claims on the matrix tiles of the host's processor (benchmarks/ops/amx.py)."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

from _build import package_environment
from _claims import AMX_MATMUL, AMX_NOISE, AMX_TABLES
from _commands import run_command
from _record import ABSENT, DONE, FAILED, OUT_OF_TIME, ROOT, Outcome, Record
from _stages import Part

STAGE, PART = "amx", "crossbar product"
FOUND = {AMX_TABLES: "over_tables", AMX_MATMUL: "of_matmul", AMX_NOISE: "noisy_over_plain"}


class Amx:
    """The stage.

    Args:
        folder: For the log.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def parts(self) -> Iterator[Part]:
        yield Part(PART, self._run)

    def _run(self, limit: float) -> Outcome:
        command = [sys.executable, str(ROOT / "benchmarks/ops/amx.py"), "--json"]
        ran = run_command(command, limit, self.folder / "amx.log", cwd=ROOT, env=package_environment())
        return outcome_of(ran.status, ran.output, ran.tail)


def outcome_of(status: int | None, output: str, tail: str) -> Outcome:
    """From what the program printed."""
    if status is None:
        return Outcome(OUT_OF_TIME)
    start = output.find("{")
    if status != 0 or start < 0:
        return Outcome(FAILED, f"status {status}:\n{tail}")
    values = json.loads(output[start:])
    if "absent" in values:
        return Outcome(ABSENT, values["absent"])
    note = f"{values['layer']}, one thread: {100 * values['share_of_peak']:.0f} % of the peak of the tile instruction"
    return Outcome(DONE, note, values)


def found_amx_claims(record: Record) -> tuple[dict[str, float], dict[str, str]]:
    """What was found, and why nothing was."""
    if values := record.values(STAGE, PART):
        return {claim: values[key] for claim, key in FOUND.items()}, {}
    part = record.parts(STAGE).get(PART, {"status": "not run", "note": ""})
    return {}, dict.fromkeys(FOUND, ": ".join(filter(None, [part["status"], *part["note"].splitlines()[:1]])))
