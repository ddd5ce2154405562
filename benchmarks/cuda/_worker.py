"""The process that measures, seen from the one that keeps time and records.

A kernel that reads where it must not ends every later call of its process, and one that hangs never answers. The
worker is therefore a process of its own: where it dies or does not answer, the part at hand has failed, and the next
one gets a new worker.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from _commands import GRACE, TAIL, end_group
from _record import ABSENT, DONE, FAILED, OUT_OF_TIME, Outcome

MARK = "@@"  # begins the lines that are answers


class WorkerError(Exception):
    """The worker ended, or did not answer."""


class NoAnswerError(WorkerError):
    """The worker did not answer in time."""


class Worker:
    """Starts the worker with the first request, and again after it was lost.

    Args:
        command: The program; it reads a request per line and answers each with one line that begins with MARK.
        log: For its stderr.
        cwd: Its folder.
        env: What is added to the environment.
    """

    def __init__(self, command: Sequence[str], log: Path, cwd: Path, env: Mapping[str, str] | None = None) -> None:
        self._command, self._log, self._cwd = list(command), log, cwd
        self._env = {**os.environ, "PYTHONUNBUFFERED": "1", **(env or {})}
        self._process: subprocess.Popen[bytes] | None = None
        self._reader: threading.Thread | None = None
        self._lines: queue.Queue[str | None] = queue.Queue()

    def outcome(self, request: dict[str, Any], limit: float, patience: float) -> Outcome:
        """A request as a part of a stage: it failed where the worker ends, or says nothing for `patience` seconds (a
        kernel that hangs must not take all time there is); where `limit` is less than that, there was no time for it.
        """
        try:
            answer = self.ask(request, min(limit, patience))
        except NoAnswerError as error:
            return Outcome(FAILED if patience <= limit else OUT_OF_TIME, str(error))
        except WorkerError as error:
            return Outcome(FAILED, str(error))
        if "no_kernel" in answer:
            return Outcome(ABSENT, f"no kernel: {answer['no_kernel']}", {"no_kernel": True})
        if faults := answer.pop("faults", None):
            return Outcome(FAILED, "; ".join(map(str, faults)))
        return Outcome(DONE, "", answer)

    def ask(self, request: dict[str, Any], limit: float) -> dict[str, Any]:
        """One request, one answer.

        Raises:
            WorkerError: With what the worker said last.
        """
        process = self._running()
        assert process.stdin is not None
        try:
            process.stdin.write((json.dumps(request) + "\n").encode())
            process.stdin.flush()
            answer = self._lines.get(timeout=min(limit, 10**6))
        except queue.Empty:
            self.end()
            raise NoAnswerError(f"no answer within {limit:.0f} s{self._said()}") from None
        except BrokenPipeError:
            answer = None
        if answer is None:
            status = process.wait()
            self.end()
            raise WorkerError(f"the measuring process ended with status {status}{self._said()}")
        found: dict[str, Any] = json.loads(answer)
        if found.pop("lost", False):
            self.end()  # its device answers no more
        return found

    def end(self) -> None:
        """Ends the worker, if one runs."""
        if self._process is None or self._reader is None:
            return
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        end_group(self._process)
        self._process.wait()
        self._reader.join(timeout=GRACE)
        self._process = self._reader = None

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            self._log.parent.mkdir(parents=True, exist_ok=True)
            with self._log.open("wb") as errors:
                self._process = subprocess.Popen(
                    self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, cwd=self._cwd,
                    start_new_session=True, env=self._env,
                )  # fmt: skip
            self._lines = queue.Queue()
            self._reader = threading.Thread(target=_read, args=(self._process, self._lines), daemon=True)
            self._reader.start()
        return self._process

    def _said(self) -> str:
        text = self._log.read_text(encoding="utf-8", errors="replace")[-TAIL:].strip()
        return f"; it said last:\n{text}" if text else ""


def _read(process: subprocess.Popen[bytes], lines: queue.Queue[str | None]) -> None:
    assert process.stdout is not None
    with process.stdout:
        for line in process.stdout:
            text = line.decode(errors="replace")
            if text.startswith(MARK):
                lines.put(text.removeprefix(MARK))
            else:
                sys.stderr.write(text)
    lines.put(None)
