"""What a search returns."""

from __future__ import annotations

import dataclasses
import json
import math
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from cimq.atomic_files import write_text_atomically
from cimq.bundle.programs import CLOSED_FORM
from cimq.cost_model import LatencyReport, LayerShape
from cimq.cost_model.component_energy import EnergyReport
from cimq.policy import Policy
from cimq.policy_search.baselines import Baseline
from cimq.policy_search.goals.fastest import within_drop
from cimq.policy_search.ladder import RungCorrelation
from cimq.policy_search.paired_drop import PairedDrop
from cimq.policy_search.pareto_models import ParetoModel
from cimq.policy_search.plan import Plan
from cimq.policy_search.program_prices import ProgramCosts
from cimq.policy_search.records import Evaluation
from cimq.report import write_report
from cimq.version import __version__


@dataclasses.dataclass(frozen=True)
class SearchResult:
    """Result of `cimq.search`. Accuracies are fractions (or the user's metric), times microseconds.

    Attributes:
        policy: The fastest trained policy that satisfies `max_accuracy_drop`, or the most accurate one that has
            `min_speedup`.
        model: The model prepared and trained with it; ready for `cimq.export`.
        accuracy: Of `model` on the confirmation set.
        reference_accuracy: Of 8 bits everywhere after the same training, on the same set.
        max_accuracy_drop: The constraint: accuracy >= reference_accuracy - max_accuracy_drop; None where there was
            another.
        min_speedup: The other constraint: gain >= min_speedup; None where there was none.
        latency: Closed-form latency of `policy`, layer by layer.
        pareto: Front of the evaluations (accuracy before training against time), fastest first.
        evaluations: Everything that was measured before training, in order.
        baselines: By name: fp32 and the uniform policies.
        finalists: Policies trained at the end with their accuracy on the confirmation set, in that order.
        target_damage: Damage that the search aimed at, see docs/search.md; None if it was interrupted before it knew,
            and with `min_speedup`, where less damage is always better.
        strategy: What proposed the policies.
        seed: Of the search.
        model_name: Class of the model.
        seconds: Duration of the search.
        shapes: Layers in module order.
        confirmation: What the found policy lost against the reference, sample by sample on the confirmation set; None
            where that is not known.
        trained: Everything that was trained, in order, uniform policies included; all of it was compared on the
            confirmation set.
        rungs: Rank correlations of every two rungs of evaluation, see docs/search.md; empty where measuring them would
            have taken more than a tenth of the evaluations.
        passed_over: Names of the rungs that do not predict.
        ranking: Name of the rung that candidates were ranked by.
        trained_models: The networks of `trained`, by name. Where the search had a folder they are read from it when
            they are asked for, anew each time; without they are kept in memory.
        pareto_models: Trained networks along the front, the slowest first; as many as `pareto` asked for.
        fraction: Whether accuracies are fractions.
        interrupted: By Ctrl-C: this is the best so far, and the search can be continued (`resume=True`).
        objective: What was to be small.
        energy: Closed-form energy of `policy`, where the objective counts it.
        program: What `policy` costs as a program, where the search had a `pipeline`: times and speed-ups of this result
            are then those of programs. None: they are those of the closed form.
        plan: What was decided before it began: sizes, from the time budget or the defaults; measured costs; threads.
    """

    policy: Policy
    model: nn.Module
    accuracy: float
    reference_accuracy: float
    max_accuracy_drop: float | None
    latency: LatencyReport
    pareto: list[Evaluation]
    evaluations: list[Evaluation]
    baselines: dict[str, Baseline]
    finalists: list[Baseline]
    target_damage: float | None
    strategy: str
    seed: int
    model_name: str
    seconds: float
    shapes: tuple[LayerShape, ...] = dataclasses.field(repr=False)
    confirmation: PairedDrop | None = None
    trained: list[Baseline] = dataclasses.field(default_factory=list)
    rungs: list[RungCorrelation] = dataclasses.field(default_factory=list)
    passed_over: list[str] = dataclasses.field(default_factory=list)
    ranking: str = ""
    trained_models: Mapping[str, nn.Module] = dataclasses.field(default_factory=dict, repr=False)
    pareto_models: list[ParetoModel] = dataclasses.field(default_factory=list)
    fraction: bool = True
    interrupted: bool = False
    plan: Plan | None = None
    objective: str = "latency"
    energy: EnergyReport | None = None
    min_speedup: float | None = None
    program: ProgramCosts | None = None

    @property
    def time_us(self) -> float:
        """Time of one inference under `policy`."""
        return (self.program or self.latency).time_us

    @property
    def speedup(self) -> float:
        """Time of 8 bits everywhere over that."""
        return (self.program or self.latency).speedup

    @property
    def gain(self) -> float:
        """What uniform 8-bit costs over what the policy does: speed-up, saving of energy, or the root of both."""
        if self.energy is None:
            return self.speedup
        saving = (self.program or self.energy).saving
        return saving if self.objective == "energy" else math.sqrt(saving * self.speedup)

    def satisfies(self, accuracy: float) -> bool:
        """Whether an accuracy on the confirmation set is within `max_accuracy_drop`; true where there is none."""
        return self.max_accuracy_drop is None or within_drop(self.reference_accuracy - accuracy, self.max_accuracy_drop)

    @property
    def drop(self) -> float:
        """Accuracy that the found policy lost against the reference, on the confirmation set."""
        return self.reference_accuracy - self.accuracy

    @property
    def drop_interval(self) -> tuple[float, float] | None:
        """The 95 % interval of the drop, paired over the samples of the confirmation set; None where it is unknown."""
        return None if self.confirmation is None else self.confirmation.interval

    @property
    def verdict(self) -> str:
        """Whether the drop can be told from noise, in a sentence, and before it what was asked for of the cost."""
        within = ""
        if self.min_speedup is not None:
            words = {"energy": "less energy", "energy_delay": "less energy and time on average"}
            kind = words.get(self.objective, "as fast")
            within = f"{self.gain:.3f} times {kind}, at least {self.min_speedup:g} were asked for; "
        if self.confirmation is None:
            return f"{within}how far the drop is noise is unknown"
        compared = len([row for row in self.trained if row.drop is not None])
        return within + self.confirmation.sentence(self.fraction, self.max_accuracy_drop, max(1, compared - 1))

    def to_dict(self) -> dict[str, Any]:
        """The plain values of `result.json`."""
        names = dict.fromkeys(("fp32", "uniform 8-bit", "uniform 4-bit", *(row.name for row in self.trained)))
        shown = [self.baselines[name] for name in names if name in self.baselines]
        rows = [_row(row) for row in sorted(shown, key=lambda row: row.speedup or 0.0)]
        found = Baseline("found policy", self.policy, self.accuracy, None, self.time_us, self.speedup)
        return {
            "schema": "cimq.result",
            "version": "1.0.0",
            "model": self.model_name,
            "hardware": self.latency.hardware.to_dict(),
            "strategy": self.strategy,
            "objective": self.objective,
            "pipeline": CLOSED_FORM if self.program is None else self.program.pipeline,
            "program": None if self.program is None else self.program.to_dict(),
            "energy": None if self.energy is None else self._energies(self.energy),
            "seed": self.seed,
            "max_accuracy_drop": self.max_accuracy_drop,
            "min_speedup": self.min_speedup,
            "target_damage": self.target_damage,
            "reference": {"accuracy": self.reference_accuracy, "time_us": self._uniform8_time_us},
            "rows": [*rows, _row(found)],
            "layers": self._layers(),
            "pareto": [
                {"index": e.index, "accuracy": e.accuracy, "time_us": e.time_us, "speedup": e.speedup}
                for e in self.pareto
            ],
            "finalists": [_row(finalist) for finalist in self.finalists],
            "trained": [_trained(row) for row in self.trained],
            "drop": None if self.confirmation is None else self.confirmation.to_dict(),
            "verdict": self.verdict,
            "rungs": [found.to_dict() for found in self.rungs],
            "passed_over": self.passed_over,
            "ranking": self.ranking,
            "pareto_models": [model.to_dict() for model in self.pareto_models],
            "evaluations": len(self.evaluations),
            "search_seconds": self.seconds,
            "interrupted": self.interrupted,
            "plan": None if self.plan is None else self.plan.to_dict(),
            "versions": _versions(),
        }

    @property
    def _uniform8_time_us(self) -> float:
        return (self.program or self.latency).uniform8_time_us

    def _energies(self, energy: EnergyReport) -> dict[str, Any]:
        names = ("energy_pj", "uniform8_energy_pj", "saving")
        fields: dict[str, Any] = {name: getattr(self.program or energy, name) for name in names}
        if self.program is not None:  # known as a whole
            return {**fields, "missing": list(energy.missing)}
        return {**fields, "parts_pj": dict(energy.parts_pj), "missing": list(energy.missing)}

    def save(self, folder: str | Path) -> None:
        """Writes `result.json`, `policy.json` and `evaluations.jsonl`.

        A log that holds these evaluations and more stays: of a search that was resumed, and then interrupted, before it
        came to all that was measured.

        Example:
            >>> result.save("runs/mine")  # doctest: +SKIP
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        lines = "".join(json.dumps(evaluation.to_dict()) + "\n" for evaluation in self.evaluations)
        log = folder / "evaluations.jsonl"
        if not (self.interrupted and log.exists() and log.read_text(encoding="utf-8").startswith(lines)):
            write_text_atomically(log, lines)
        self.policy.save(folder / "policy.json")
        write_text_atomically(folder / "result.json", json.dumps(self.to_dict(), indent=1) + "\n")

    def report(self, path: str | Path) -> Path:
        """Writes the HTML report: `path` is the folder for results and page, or the page itself (`.html`)."""
        path = Path(path)
        folder = path.parent if path.suffix == ".html" else path
        self.save(folder)
        page = path if path.suffix == ".html" else folder / "report.html"
        write_report(folder, page)
        return page

    def __str__(self) -> str:
        lines = [f"{self.policy!r}" if len(self.policy) <= 4 else f"policy of {len(self.policy)} layers"]
        for row in self.to_dict()["rows"]:
            accuracy = "not trained" if row["accuracy"] is None else f"{row['accuracy']:.4f}"
            time = "" if row["time_us"] is None else f"  {row['time_us']:,.1f} us  {row['speedup']:.3f}x"
            lines.append(f"{row['name']:14s} accuracy {accuracy}{time}")
        if self.energy is not None:
            energy = self._energies(self.energy)
            lines.append(f"energy {energy['energy_pj']:,.1f} pJ, {energy['saving']:.3f}x less than uniform 8-bit")
        if self.program is not None:
            lines.append(f"times are those of programs, pipeline {self.program.pipeline!r}")
        lines.append(self.verdict)
        end = ", interrupted" if self.interrupted else ""
        return "\n".join([*lines, f"{len(self.evaluations)} evaluations, {self.seconds:.0f} s{end}"])

    def _layers(self) -> list[dict[str, Any]]:
        shapes = {shape.name: shape for shape in self.shapes}
        rows = []
        for layer in self.latency.layers:
            shape = shapes[layer.name]
            sizes = {key: getattr(shape, key) for key in ("outputs", "inputs", "invocations", "repeats")}
            costs = {
                key: getattr(layer, key) for key in ("weight_bits", "act_bits", "tiles", "writes", "mvms", "time_us")
            }
            rows.append({"name": layer.name, "kind": layer.kind, **sizes, **costs, **layer.machine.given()})
        return rows


def _row(baseline: Baseline) -> dict[str, Any]:
    return {
        "name": baseline.name,
        "accuracy": baseline.accuracy,
        "time_us": baseline.time_us,
        "speedup": baseline.speedup,
        "policy": None if baseline.policy is None else [list(row) for row in baseline.policy.rows()],
    }


def _trained(baseline: Baseline) -> dict[str, Any]:
    return {**_row(baseline), "drop": None if baseline.drop is None else baseline.drop.to_dict()}


def _versions() -> dict[str, str]:
    return {"cimq": __version__, "torch": torch.__version__, "python": platform.python_version()}
