"""What the parts of a search cost on this machine, and what a search of a given size takes."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

# Trainings of uniform policies before the finalists; 8 bits everywhere is one more. By bisection one after the other,
# but for one where there are several workers; within a cost it is known which one.
_BISECTIONS, _WITHIN_COST = 4, 1
# Uniform policies near the target that are trained with the finalists, at most.
_NEAR_UNIFORM = 2


@dataclasses.dataclass(frozen=True)
class Size:
    """How much a search does.

    Attributes:
        evaluations: Policies measured.
        shared_epochs: Epochs of the shared weights.
        train_batches: Batches of an epoch; None: all.
        finalists: Candidates that are trained.
    """

    evaluations: int
    shared_epochs: int
    train_batches: int | None
    finalists: int


@dataclasses.dataclass(frozen=True)
class Costs:
    """Measured seconds, and what they are counted with.

    Attributes:
        step: Of a training step of the shared weights, in this process.
        training_step: Of a step of a short training, with the threads of a candidate.
        sample: Of a forward pass of a candidate, per sample.
        epoch_batches: Batches of the training data; None where that is not known.
        measured_samples: That a measurement of a candidate goes through, those for batch statistics included.
        confirmed_samples: That a confirmation goes through.
        finetune_epochs: Epochs of a short training.
        finetune_batches: Batches of such an epoch at most; None: all.
        side_by_side: Candidates that are measured or trained at a time.
        norm_batches: Training batches for the batch statistics at the end of a short training, at most those of an
            epoch.
        batch_samples: Of a training batch; 0 where there are no batch statistics.
        rung_policies: Policies that are trained before the strategy starts, as was asked for.
        pareto: Policies along the front that are trained at the end, as was asked for.
        within_cost: Whether the cost is bounded, not the accuracy.
    """

    step: float
    training_step: float
    sample: float
    epoch_batches: int | None
    measured_samples: int
    confirmed_samples: int
    finetune_epochs: int
    side_by_side: int
    finetune_batches: int | None = None
    norm_batches: int = 0
    batch_samples: int = 0
    rung_policies: int = 0
    pareto: int = 0
    within_cost: bool = False

    @property
    def evaluation(self) -> float:
        """Seconds of one measurement."""
        return self.sample * self.measured_samples

    def steps(self, train_batches: int | None) -> float:
        """Of an epoch."""
        if train_batches is None or self.epoch_batches is None:
            # Of a stream nobody knows how long it is: as if it were short.
            return self.epoch_batches or train_batches or 1
        return min(train_batches, self.epoch_batches)

    def training(self, train_batches: int | None) -> float:
        """Seconds of one short training with its confirmation."""
        steps = self.steps(train_batches)
        if self.finetune_batches is not None:
            steps = min(steps, self.finetune_batches)
        samples = self.confirmed_samples + min(self.norm_batches, steps) * self.batch_samples
        return self.finetune_epochs * steps * self.training_step + samples * self.sample

    def stages(self, size: Size) -> dict[str, float]:
        """Seconds of the shared weights, of trainings of uniform policies, of measuring, of trainings at the end."""
        wide, training = self.side_by_side, self.training(size.train_batches)
        uniform = _WITHIN_COST if self.within_cost else _BISECTIONS - (wide > 1)
        last = (size.finalists, _NEAR_UNIFORM, self.pareto)
        return {
            "shared training": size.shared_epochs * self.steps(size.train_batches) * self.step,
            "uniform policies": (1 + uniform + math.ceil(self.rung_policies / wide)) * training,
            "evaluations": size.evaluations * self.evaluation / wide,
            "finalists": sum(math.ceil(count / wide) for count in last) * training,
        }

    def total(self, size: Size) -> float:
        """Seconds of a search."""
        return sum(self.stages(size).values())

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return dataclasses.asdict(self)
