"""What a run has found so far, on disk after every part: a run that is cut short loses one part at most."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
SCHEMA = 1

DONE, FAILED, ABSENT, OUT_OF_TIME = "done", "failed", "absent", "out of time"


@dataclass(frozen=True)
class Outcome:
    """How a part ended.

    Attributes:
        status: DONE; FAILED: it ran and was not right; ABSENT: what it needs is not here; OUT_OF_TIME.
        note: Why, where it is not DONE; else what is good to know.
        values: What it found; plain values for JSON.
    """

    status: str
    note: str = ""
    values: dict[str, Any] = field(default_factory=dict)


class Record:
    """The parts of all stages that were run, kept in a JSON file.

    Args:
        path: The file.
        environment: What the numbers belong to: chip, versions, digest of the sources.
        command: As it was given.
        resume: Go on with what the file has, if it is of this environment.
    """

    def __init__(self, path: Path, environment: dict[str, Any], command: str, *, resume: bool) -> None:
        self.path = path
        self.content: dict[str, Any] = {"schema": SCHEMA, "commands": [], "environment": environment, "stages": {}}
        if resume and path.exists():
            before = json.loads(path.read_text(encoding="utf-8"))
            _refuse_other(path, before, environment)
            self.content = before
        self.content["commands"].append(command)
        path.parent.mkdir(parents=True, exist_ok=True)
        self.save()

    def save(self) -> None:
        temporary = self.path.with_suffix(".json.part")
        temporary.write_text(json.dumps(self.content, indent=1) + "\n", encoding="utf-8")
        os.replace(temporary, self.path)

    def put(self, stage: str, part: str, outcome: Outcome, seconds: float) -> None:
        parts = self.content["stages"].setdefault(stage, {})
        parts[part] = asdict(outcome) | {"seconds": round(seconds, 2)}
        self.save()

    def parts(self, stage: str) -> dict[str, dict[str, Any]]:
        """Part -> status, note, values, seconds; in the order in which they were first run."""
        found: dict[str, dict[str, Any]] = self.content["stages"].get(stage, {})
        return found

    def values(self, stage: str, part: str) -> dict[str, Any]:
        """What a part found; empty unless it is done."""
        one = self.parts(stage).get(part, {})
        return one["values"] if one.get("status") == DONE else {}

    def is_done(self, stage: str, part: str) -> bool:
        return self.parts(stage).get(part, {}).get("status") == DONE

    @property
    def faults(self) -> list[str]:
        """Parts that failed, as `stage: part`."""
        stages = self.content["stages"].items()
        return [f"{stage}: {part}" for stage, parts in stages for part, one in parts.items() if one["status"] == FAILED]


def _refuse_other(path: Path, before: dict[str, Any], environment: dict[str, Any]) -> None:
    if before.get("schema") != SCHEMA:
        raise SystemExit(f"--resume: {path} has schema {before.get('schema')!r}, this program writes {SCHEMA}")
    for key, value in environment.items():
        was = before["environment"].get(key)
        if was != value:
            raise SystemExit(
                f"--resume: {path} is of another {key} ({was!r}, now {value!r}), so that its numbers do not belong to "
                "this run: leave --resume away, or choose another --out"
            )


def sources_digest(root: Path = ROOT) -> str:
    """Twelve digits that change with the sources of kernels, package and these benchmarks."""
    found = hashlib.sha256()
    patterns = ("csrc/**/*", "cimq/**/*.py", "benchmarks/cuda/*.py", "benchmarks/ops/*", "CMakeLists.txt", "setup.py")
    for path in sorted({path for pattern in patterns for path in root.glob(pattern) if path.is_file()}):
        if path.suffix == ".pyc":
            continue
        found.update(f"{path.relative_to(root).as_posix()}\0".encode())
        found.update(path.read_bytes())
    return found.hexdigest()[:12]
