"""Training and measuring models, prepared or not.

`finetune` is one recipe with good defaults; a loop of your own needs only `cimq.param_groups`, and
`cimq.reestimate_bn` at its end. `evaluate` measures any model, `evaluate_chips` one on
several chips, `doctor` tells where accuracy goes.
"""

from __future__ import annotations

from cimq.training.chips import ChipStatistics, chip_statistics, evaluate_chips
from cimq.training.evaluation import evaluate
from cimq.training.layer_errors import Diagnosis, DoctorRow, doctor
from cimq.training.recipe import Epoch, finetune
from cimq.training.weight_grid import scale_weight_gradients

__all__ = [
    "ChipStatistics",
    "Diagnosis",
    "DoctorRow",
    "Epoch",
    "chip_statistics",
    "doctor",
    "evaluate",
    "evaluate_chips",
    "finetune",
    "scale_weight_gradients",
]
