"""What a search decides once, from the machine that it runs on; one that is resumed takes up what was decided."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import torch

from cimq.atomic_files import write_text_atomically
from cimq.policy_search.settings import SearchSettings

PLAN_NAME = "plan.json"


@dataclasses.dataclass(frozen=True)
class Plan:
    """Decisions of a search.

    Attributes:
        threads: Of PyTorch, for each candidate.
        shared_threads: Of PyTorch, for calibration and the shared weights.
    """

    threads: int
    shared_threads: int

    @classmethod
    def read(cls, folder: str | Path) -> Plan | None:
        """The plan of the search in a folder; None where there is none.

        Raises:
            ValueError: If the file is damaged; names it.
        """
        path = Path(folder) / PLAN_NAME
        if not path.exists():
            return None
        try:
            return cls(**json.loads(path.read_text(encoding="utf-8")))
        except (ValueError, TypeError) as error:
            raise ValueError(f"search: {path} is damaged: {error}") from None

    def write(self, folder: str | Path) -> None:
        """Writes the file."""
        path = Path(folder) / PLAN_NAME
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text_atomically(path, json.dumps(self.to_dict(), indent=1) + "\n")

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return dataclasses.asdict(self)


def planned(settings: SearchSettings) -> Plan:
    """The plan of the search that is resumed, or a new one."""
    before = Plan.read(settings.out) if settings.resume and settings.out is not None else None
    if before is not None:
        return before if settings.threads is None else dataclasses.replace(before, threads=settings.threads)
    here = torch.get_num_threads()
    return Plan(settings.threads or (here if settings.workers is None else 1), here)
