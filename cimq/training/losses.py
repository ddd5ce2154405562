"""The loss of distillation; `targets` has that of the task, `weight_grid` that against oscillating weights."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor

from cimq.torch_tools.forward import logits_of

# Where models give something else: a loss_fn alone would still have this loss added to it.
_REMEDY = "pass distill_weight=0 (distill_features can still be matched), or no teacher"


def distillation_loss(output: Any, teacher_output: Any, temperature: float = 2.0) -> Tensor:
    """T^2 * KL(teacher || student) of softened scores (Hinton et al., 2015), mean over samples.

    Args:
        output: Scores [N, classes, ...], or what a model returns that holds them (`logits` of a dict, the first entry).
        teacher_output: The same of the teacher, computed without gradients.
        temperature: T; divides all scores.

    Raises:
        TypeError: If there are no scores in an output.
        ValueError: If model and teacher give different shapes, or a single column, whose softmax is always 1.

    Example:
        >>> import torch
        >>> scores = torch.randn(4, 10)
        >>> round(float(distillation_loss(scores, scores + 1)), 6)
        0.0
    """
    mine, wanted = (logits_of(scores, _REMEDY) for scores in (output, teacher_output))
    if mine.shape != wanted.shape:
        raise ValueError(
            f"distillation needs the same shape from model and teacher, got {[*mine.shape]} and {[*wanted.shape]}"
        )
    if mine.dim() < 2 or mine.shape[1] < 2:
        raise ValueError(
            f"distillation needs scores [N, classes, ...] of two classes or more, got {[*mine.shape]}; {_REMEDY}"
        )
    student = F.log_softmax(mine.float() / temperature, dim=1)
    teacher = F.log_softmax(wanted.float() / temperature, dim=1)
    divergence = F.kl_div(student, teacher, log_target=True, reduction="none").sum(dim=1).mean()
    return divergence * temperature**2
