"""Other programs: run with a time to keep, their output in a file."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

TAIL = 2000  # characters of output that a note shows
GRACE = 5.0  # seconds between the request to end and the end


@dataclass(frozen=True)
class Ran:
    """A program that has ended.

    Attributes:
        status: Its exit status; None: its time was over.
        output: Of stdout and stderr together.
    """

    status: int | None
    output: str

    @property
    def tail(self) -> str:
        return self.output[-TAIL:].strip()


def run_command(
    command: Sequence[str], limit: float, log: Path, *, cwd: Path, env: Mapping[str, str] | None = None
) -> Ran:
    """Runs a program; when `limit` seconds are over, it and what it started are ended."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, stdout=output, stderr=subprocess.STDOUT, cwd=cwd, start_new_session=True,
            env={**os.environ, **(env or {})},
        )  # fmt: skip
        try:
            status: int | None = process.wait(timeout=min(limit, 10**6))
        except subprocess.TimeoutExpired:
            status = None
        finally:
            end_group(process)
    return Ran(status, log.read_text(encoding="utf-8", errors="replace"))


def end_group(process: subprocess.Popen[bytes]) -> None:
    """Ends a program that was started as a session of its own, with all that it started."""
    if process.poll() is not None:
        return
    for request in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, request)
            process.wait(timeout=GRACE)
            return
        except ProcessLookupError:
            return
        except subprocess.TimeoutExpired:
            continue
