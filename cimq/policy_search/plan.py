"""What a search decides once, from the machine that it runs on; one that is resumed takes up what was decided."""

from __future__ import annotations

import dataclasses
import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from cimq.atomic_files import write_text_atomically
from cimq.errors import CimqWarning
from cimq.policy_search.costs import Costs, Size
from cimq.policy_search.durations import spoken
from cimq.policy_search.journal import SETTINGS_NAME
from cimq.policy_search.settings import SearchSettings
from cimq.policy_search.time_budget import fitted

PLAN_NAME = "plan.json"
DEFAULT_SIZE = Size(evaluations=100, shared_epochs=3, train_batches=None, finalists=4)
_LONG = 3600.0  # seconds that nobody expects
_LONGEST_DEFAULT = 2 * _LONG  # of a search whose size is left open altogether: large images, many layers


@dataclasses.dataclass(frozen=True)
class Plan:
    """Decisions of a search, and the measured costs that they are made from.

    Attributes:
        threads: Of PyTorch, for each candidate.
        shared_threads: Of PyTorch, for calibration and the shared weights.
        size: How much is done; None before that is decided.
        costs: Measured; None before they are.
        seconds: That the search is expected to take from the plan on.
    """

    threads: int
    shared_threads: int
    size: Size | None = None
    costs: Costs | None = None
    seconds: float | None = None

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
            content = json.loads(path.read_text(encoding="utf-8"))
            return cls(**{**content, "size": Size(**content["size"]), "costs": Costs(**content["costs"])})
        except (ValueError, TypeError, KeyError) as error:
            raise ValueError(f"search: {path} is damaged: {error}") from None

    def keep(self, folder: str | Path, resume: bool) -> None:
        """Writes the file, unless a search is resumed that has one."""
        path = Path(folder) / PLAN_NAME
        if resume and path.exists() and (path.parent / SETTINGS_NAME).exists():
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text_atomically(path, json.dumps(self.to_dict(), indent=1) + "\n")

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return dataclasses.asdict(self)

    def sized(
        self, settings: SearchSettings, spent: Callable[[], float], measure: Callable[[], Costs]
    ) -> tuple[Size, Plan]:
        """Decides how much is done, unless that was decided before.

        Args:
            settings: What the user gave is kept.
            spent: Gives the seconds since the search began; measuring costs takes some as well.
            measure: Measures costs.

        Raises:
            ValueError: If nothing fits into the time budget.
        """
        given = {name: getattr(settings, name) for name in dataclasses.asdict(DEFAULT_SIZE)}
        if self.size is not None:
            # What must be as it was is refused by the journal; a search may go on with other finalists.
            size = dataclasses.replace(self.size, **{k: v for k, v in given.items() if v is not None})
            seconds = None if self.costs is None else self.costs.total(size)
            return size, dataclasses.replace(self, size=size, seconds=seconds)
        costs = measure()
        if settings.time_budget is not None:
            size = fitted(costs, settings.time_budget - spent(), **given)
        else:
            size = dataclasses.replace(DEFAULT_SIZE, **{k: v for k, v in given.items() if v is not None})
            if costs.total(size) > _LONGEST_DEFAULT and all(value is None for value in given.values()):
                return self._of_default_length(costs)
        plan = dataclasses.replace(self, size=size, costs=costs, seconds=costs.total(size))
        if settings.time_budget is None and costs.total(size) > _LONG:
            warnings.warn(
                f'search: this will take {plan}. time_budget="1h" makes it fit into that; smaller evaluations, '
                "shared_epochs, train_batches, finalists or search_samples, and more workers, shorten it too",
                CimqWarning,
                stacklevel=4,
            )
        return size, plan

    def _of_default_length(self, costs: Costs) -> tuple[Size, Plan]:
        """A search that ends, where the default size would take hours or days; says what it gives up."""
        whole = dataclasses.replace(self, size=DEFAULT_SIZE, costs=costs, seconds=costs.total(DEFAULT_SIZE))
        size = fitted(costs, _LONGEST_DEFAULT, or_least=True)
        plan = dataclasses.replace(self, size=size, costs=costs, seconds=costs.total(size))
        chosen = ", ".join(f"{name}={getattr(DEFAULT_SIZE, name)}" for name in ("evaluations", "shared_epochs"))
        warnings.warn(
            f"search: of the default size it would take {whole}; it is made smaller, {plan}. Give {chosen} for the "
            "whole, or a time_budget",
            CimqWarning,
            stacklevel=5,
        )
        return size, plan

    def __str__(self) -> str:
        if self.size is None or self.costs is None:
            return "not known yet"
        size, stages = self.size, self.costs.stages(self.size)
        batches = self.costs.epoch_batches if size.train_batches is None else size.train_batches
        parts = {
            "shared training": f"{size.shared_epochs} shared epochs of {batches or 'all'} batches",
            "uniform policies": "trainings of uniform policies",
            "evaluations": f"{size.evaluations} evaluations",
            "finalists": f"trainings of {size.finalists} finalists",
        }
        listed = ", ".join(f"{part} {spoken(stages[name])}" for name, part in parts.items())
        return f"about {spoken(self.costs.total(size))} ({listed})"


def planned(settings: SearchSettings) -> Plan:
    """The plan of the search that is resumed, or a new one without sizes.

    A plan without settings beside it, which are written after it, may be of another search that did not begin.
    """
    begun = settings.resume and settings.out is not None and (Path(settings.out) / SETTINGS_NAME).exists()
    before = Plan.read(settings.out) if begun and settings.out is not None else None
    if before is not None:
        return before if settings.threads is None else dataclasses.replace(before, threads=settings.threads)
    here = torch.get_num_threads()
    return Plan(settings.threads or (here if settings.workers is None else 1), here)
