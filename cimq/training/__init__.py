"""Training and measuring models, prepared or not.

`finetune` is one recipe with good defaults; a loop of your own needs only `cimq.param_groups`, and
`cimq.reestimate_bn` at its end. What else the recipe is made of can be used there too: `distillation_loss`,
`FeaturePairs`, `dampening_loss`, `scale_weight_gradients`, `mix`, `frozen_norms`. `evaluate` measures any model,
`evaluate_chips` one on several chips, `doctor` tells where accuracy goes.
"""

from __future__ import annotations

from cimq.diagnosis.layer_errors import doctor
from cimq.diagnosis.rows import DoctorRow
from cimq.diagnosis.summary import Diagnosis
from cimq.torch_tools.norms import frozen_norms
from cimq.training.chips import ChipStatistics, chip_statistics, evaluate_chips
from cimq.training.features import FeaturePairs
from cimq.training.losses import distillation_loss
from cimq.training.measuring import evaluate
from cimq.training.mixing import Mixed, mix
from cimq.training.recipe import Epoch, finetune
from cimq.training.weight_grid import dampening_loss, scale_weight_gradients

__all__ = [
    "ChipStatistics",
    "Diagnosis",
    "DoctorRow",
    "Epoch",
    "FeaturePairs",
    "Mixed",
    "chip_statistics",
    "dampening_loss",
    "distillation_loss",
    "doctor",
    "evaluate",
    "evaluate_chips",
    "finetune",
    "frozen_norms",
    "mix",
    "scale_weight_gradients",
]
