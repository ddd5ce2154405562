"""The journal of a search: one JSON object per line and evaluation, appended and flushed as they happen."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TextIO

from cimq.atomic_files import write_text_atomically
from cimq.policy_search.records import Evaluation
from cimq.policy_search.space import Pairs

LOG_NAME = "evaluations.jsonl"
SETTINGS_NAME = "search.json"


class Journal:
    """Append-only log in a folder, and the settings that it belongs to.

    Without a folder it keeps nothing. A search is resumed by running it again: the log answers what was measured
    before, so that the continued search takes the same path as an uninterrupted one.

    Args:
        folder: Where `evaluations.jsonl` and `search.json` lie; None logs nothing.
        settings: Plain values that determine the search.
        resume: Continue a log that is there.

    Raises:
        ValueError: If there is a log and `resume` is false, the log belongs to other settings (named), or one of its
            lines is damaged. A cut last line, as an interruption leaves it, is dropped.
    """

    def __init__(self, folder: str | Path | None, settings: dict[str, Any], *, resume: bool = False) -> None:
        self.recorded: list[Evaluation] = []
        self._file: TextIO | None = None
        if folder is None:
            return
        folder = Path(folder)
        self.path = folder / LOG_NAME
        settings = json.loads(json.dumps(settings))
        present = check_folder(folder, resume)
        folder.mkdir(parents=True, exist_ok=True)
        if present or (resume and (folder / SETTINGS_NAME).exists()):  # the shared weights come before evaluations
            _check_settings(folder / SETTINGS_NAME, settings)
        else:
            write_text_atomically(folder / SETTINGS_NAME, json.dumps(settings, indent=1) + "\n")
        if present:
            self.recorded = self._read()
        self._file = self.path.open("a", encoding="utf-8")

    def expect(self, index: int, policies: Sequence[Pairs]) -> None:
        """Refuses evaluations, from `index` on, of other policies than the journal holds.

        Raises:
            ValueError: For the first that differs.
        """
        for number, (recorded, policy) in enumerate(zip(self.recorded[index:], policies, strict=False), start=index):
            if recorded.policy != policy:
                raise ValueError(
                    f"search: the log's evaluation {number} is of another policy than the search now asks for; it was "
                    "made by another version or on another machine and cannot be resumed"
                )

    def record(self, evaluation: Evaluation) -> None:
        """Writes one line and flushes it, unless the journal that is resumed has it already.

        Raises:
            OSError: If that fails; names the file. The search can be resumed once there is space.
        """
        if self._file is not None and evaluation.index >= len(self.recorded):
            try:
                self._file.write(json.dumps(evaluation.to_dict()) + "\n")
                self._file.flush()
            except OSError as error:  # whose own text names no file
                raise OSError(
                    error.errno, f"search: the log cannot be written ({error.strerror})", str(self.path)
                ) from error

    def close(self) -> None:
        """Closes the file."""
        if self._file is not None:
            with contextlib.suppress(OSError):  # a line that could not be written was reported by `record`
                self._file.close()
            self._file = None

    def _read(self) -> list[Evaluation]:
        content = self.path.read_bytes()
        complete, newline, rest = content.rpartition(b"\n")
        if rest:  # the interruption cut this line: forget it in the file as well
            with self.path.open("r+b") as file:
                file.truncate(len(complete) + len(newline))
        found: list[Evaluation] = []
        for number, line in enumerate(complete.split(b"\n") if complete else [], start=1):
            try:
                evaluation = Evaluation.from_dict(json.loads(line))
            except (ValueError, TypeError, AttributeError) as error:
                raise ValueError(f"search: {self.path}, line {number} is damaged: {error}") from None
            if evaluation.index != len(found):
                raise ValueError(
                    f"search: {self.path}, line {number}: index must be {len(found)}, got {evaluation.index}"
                )
            found.append(evaluation)
        return found


def check_folder(folder: str | Path | None, resume: bool) -> bool:
    """Whether a log is there to be continued.

    Raises:
        ValueError: If one is there, and is not to be continued.
    """
    path = None if folder is None else Path(folder) / LOG_NAME
    present = path is not None and path.exists() and path.stat().st_size > 0
    if present and not resume:
        raise ValueError(f"search: {path} holds a search already; pass resume=True or another folder as out")
    return present


def _check_settings(path: Path, settings: dict[str, Any]) -> None:
    if not path.exists():
        raise ValueError(f"search: {path} is missing; without it the log beside it cannot be resumed")
    try:
        before = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"search: {path} is damaged: {error}") from None
    keys = sorted({*before, *settings}) if isinstance(before, dict) else []
    differing = [
        f"{key} was {json.dumps(before.get(key))}, is {json.dumps(settings.get(key))}"
        for key in keys
        if before.get(key) != settings.get(key)
    ]
    if differing or not keys:
        raise ValueError(f"search: {path.parent} holds a search with other settings: {'; '.join(differing)}")
