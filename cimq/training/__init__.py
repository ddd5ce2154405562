"""Training and measuring models, prepared or not.

`finetune` is one recipe with good defaults; a loop of your own needs only `cimq.param_groups`, and
`cimq.reestimate_bn` at its end. `evaluate` measures any model.
"""

from __future__ import annotations

from cimq.training.evaluation import evaluate
from cimq.training.recipe import Epoch, finetune

__all__ = ["Epoch", "evaluate", "finetune"]
