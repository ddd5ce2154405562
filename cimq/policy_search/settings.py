"""The settings of a search: plain values that determine it, checked before anything is done."""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from cimq.bundle.programs import CLOSED_FORM
from cimq.cost_model import LayerShape
from cimq.hardware import Hardware
from cimq.policy_search.axes import check_axes, check_axes_of_programs
from cimq.policy_search.budget import SENSITIVITY_SHARE, Budget
from cimq.policy_search.costs import Size
from cimq.policy_search.durations import seconds_of
from cimq.policy_search.ladder import ENOUGH_POLICIES
from cimq.policy_search.program_prices import check_pipeline
from cimq.policy_search.space import OBJECTIVES, check_bits
from cimq.policy_search.strategies import STRATEGIES
from cimq.policy_search.workers.opening import check_workers
from cimq.version import __version__

SHARED_NAME = "shared.pt"
_OPTIONAL = ("shared_epochs", "train_batches", "finetune_batches", "finalists")  # None is decided, or all


@dataclasses.dataclass(frozen=True, kw_only=True)
class SearchSettings:
    """What `cimq.search` was asked for, besides model, data and functions; see there.

    Raises:
        ValueError: For values out of range.
    """

    hardware: Hardware
    max_accuracy_drop: float | None
    min_speedup: float | None
    strategy: str
    objective: str
    pipeline: str
    duplication: str | None
    evaluations: int | None
    time_budget: float | None
    seed: int
    out: str | Path | None
    resume: bool
    workers: int | str | None
    threads: int | None
    shared_epochs: int | None
    shared_weights: str | Path | None
    train_batches: int | None
    finetune_epochs: int
    finetune_batches: int | None
    finetune_lr: float
    finalists: int | None
    batch: int
    bits: tuple[int, int]
    adc_bits: tuple[int, int] | None
    mappings: Sequence[str] | None
    first_last_bits: int | None
    weight_multiple_of_cell: bool
    groups: Sequence[Sequence[str]]
    exclude: Iterable[str] | str
    calibration_batches: int
    bn_batches: int
    search_samples: int
    progress: bool
    rung_policies: int
    pareto: int

    def __post_init__(self) -> None:
        if self.strategy not in STRATEGIES:
            raise ValueError(f"search: strategy must be one of {', '.join(STRATEGIES)}, got {self.strategy!r}")
        if self.objective not in OBJECTIVES:
            raise ValueError(f"search: objective must be one of {', '.join(OBJECTIVES)}, got {self.objective!r}")
        check_pipeline(self.pipeline, self.duplication)
        check_workers(self.workers, self.threads)
        if (self.max_accuracy_drop is None) == (self.min_speedup is None):
            raise ValueError(
                "search: give max_accuracy_drop, for the fastest policy within an accuracy, or min_speedup, for the "
                f"most accurate one within a cost, not both; got {self.max_accuracy_drop!r} and {self.min_speedup!r}"
            )
        for name in ("max_accuracy_drop", "min_speedup", "finetune_lr"):
            value = getattr(self, name)
            if value is None and name != "finetune_lr":
                continue
            if isinstance(value, bool) or not isinstance(value, (int, float)):
                raise TypeError(f"search: {name} must be a number, got {value!r}")
        if not (math.isfinite(self.finetune_lr) and self.finetune_lr > 0):
            raise ValueError(f"search: finetune_lr must be above 0, got {self.finetune_lr!r}")
        if self.max_accuracy_drop is not None and not 0 <= self.max_accuracy_drop < math.inf:
            raise ValueError(
                f"search: max_accuracy_drop must be a fraction of at least 0, got {self.max_accuracy_drop!r}"
            )
        if self.min_speedup is not None and not 1 < self.min_speedup < math.inf:
            raise ValueError(
                f"search: min_speedup must be above 1, which 8 bits everywhere have, got {self.min_speedup!r}"
            )
        if self.evaluations is not None:
            Budget(self.evaluations)
        for name, least in (
            ("shared_epochs", 0), ("train_batches", 1), ("finetune_epochs", 0), ("finetune_batches", 1),
            ("finalists", 0), ("batch", 2), ("calibration_batches", 1), ("bn_batches", 1), ("search_samples", 1),
            ("rung_policies", 0), ("pareto", 0),
        ):  # fmt: skip
            value = getattr(self, name)
            if value is None and name in _OPTIONAL:
                continue
            # Some of them are first used when a search has gone on for hours.
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise ValueError(f"search: {name} must be an integer of at least {least}, got {value!r}")
        if isinstance(self.seed, bool) or not isinstance(self.seed, int) or not 0 <= self.seed < 2**64:
            raise ValueError(f"search: seed must be in 0..2^64-1, got {self.seed!r}")
        if self.shared_weights is not None and not Path(self.shared_weights).is_file():
            given = str(self.shared_weights)
            raise ValueError(f"search: shared_weights must be the {SHARED_NAME} of an earlier search, got {given!r}")
        if self.shared_weights is not None and self.shared_epochs:
            raise ValueError(
                f"search: shared_weights are not trained further, got shared_epochs={self.shared_epochs}; leave one out"
            )
        check_bits(self.bits, self.first_last_bits)
        check_axes(self.hardware, self.objective, self.adc_bits, self.mappings)
        if self.pipeline != CLOSED_FORM:
            check_axes_of_programs(self.adc_bits, self.mappings)
        self._check_rung_policies()

    def _check_rung_policies(self) -> None:
        """Refuses what would leave nothing for the search itself."""
        if self.rung_policies == 0 or self.evaluations is None:
            return
        rungs = 1 if self.shared_epochs == 0 and self.shared_weights is None else 2
        taken = SENSITIVITY_SHARE * rungs * max(ENOUGH_POLICIES, self.rung_policies)
        if taken >= self.evaluations:
            raise ValueError(
                f"search: evaluations must be more than the {taken:g} that rung_policies={self.rung_policies} takes "
                f"before the search, got {self.evaluations}"
            )

    def of_size(self, size: Size) -> SearchSettings:
        """With what was decided where the user left it open."""
        chosen = {k: v for k, v in dataclasses.asdict(size).items() if getattr(self, k) is None}
        return dataclasses.replace(self, **chosen)

    def journal_fields(
        self,
        shapes: Sequence[LayerShape],
        samples: Sequence[int],
        held_out: Sequence[str],
        model: str,
        threads: Sequence[int],
        device: str,
    ) -> dict[str, Any]:
        """What must be the same for a search to be resumed.

        Args:
            shapes: Layers in module order.
            samples: Sizes of the held-out sets.
            held_out: Digests of what is in them.
            model: Fingerprint of the model.
            threads: Of a candidate, and of the shared weights.
            device: The kind of device that the model lies on: floats are added in another order on each.
        """
        return {
            "model": model,
            "layers": [[s.name, s.outputs, s.inputs, s.invocations, s.repeats] for s in shapes],
            "hardware": self.hardware.to_dict(),
            "samples": list(samples),
            "held_out_data": list(held_out),
            "strategy": self.strategy,
            "objective": self.objective,
            "pipeline": self.pipeline,
            "duplication": self.duplication,
            "max_accuracy_drop": self.max_accuracy_drop,
            "min_speedup": self.min_speedup,
            "time_budget": self.time_budget,
            "evaluations": self.evaluations,
            "seed": self.seed,
            "shared_epochs": self.shared_epochs,
            "shared_weights": None if self.shared_weights is None else _digest(Path(self.shared_weights)),
            "train_batches": self.train_batches,
            "finetune_epochs": self.finetune_epochs,
            "finetune_batches": self.finetune_batches,
            "finetune_lr": self.finetune_lr,
            "rung_policies": self.rung_policies,
            "batch": self.batch,
            "bits": list(self.bits),
            "adc_bits": None if self.adc_bits is None else list(self.adc_bits),
            "mappings": None if self.mappings is None else list(self.mappings),
            "first_last_bits": self.first_last_bits,
            "weight_multiple_of_cell": self.weight_multiple_of_cell,
            "groups": [list(group) for group in self.groups],
            "calibration_batches": self.calibration_batches,
            "bn_batches": self.bn_batches,
            "threads": list(threads),
            "device": device,
            "version": __version__,
        }


def seconds_allowed(evaluations: int | None, time_budget: Any) -> float | None:
    """The time budget in seconds; None without one.

    Raises:
        ValueError: If it is no time, or `evaluations` are given as well.
    """
    if time_budget is None:
        return None
    if evaluations is not None:
        raise ValueError(
            "search: give evaluations or time_budget, from which they would follow, not both; got "
            f"{evaluations!r} and {time_budget!r}"
        )
    return seconds_of("time_budget", time_budget)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.sha256(file.read()).hexdigest()
