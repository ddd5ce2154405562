"""Losses of fine-tuning: task and distillation; `weight_grid` has that against oscillating weights."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor

from cimq.training.evaluation import logits_of


def cross_entropy(output: Any, target: Any, label_smoothing: float = 0.0) -> Tensor:
    """Cross-entropy of the scores in `output` [N, classes, ...] with classes or probabilities.

    Raises:
        TypeError: If there is no target, or no scores in the output.
    """
    logits = logits_of(output)
    if not isinstance(target, Tensor):
        raise TypeError(
            f"the default loss (cross-entropy) needs a tensor of classes as target, got {type(target).__name__}; "
            "pass loss_fn(output, target)"
        )
    return F.cross_entropy(logits.float(), target, label_smoothing=label_smoothing)


def distillation_loss(output: Any, teacher_output: Any, temperature: float = 2.0) -> Tensor:
    """T^2 * KL(teacher || student) of softened scores (Hinton et al., 2015), mean over samples.

    Args:
        output: Scores [N, classes, ...], or what a model returns that holds them (`logits` of a dict, the first entry).
        teacher_output: The same of the teacher, computed without gradients.
        temperature: T; divides all scores.

    Example:
        >>> import torch
        >>> scores = torch.randn(4, 10)
        >>> round(float(distillation_loss(scores, scores + 1)), 6)
        0.0
    """
    student = F.log_softmax(logits_of(output).float() / temperature, dim=1)
    teacher = F.log_softmax(logits_of(teacher_output).float() / temperature, dim=1)
    divergence = F.kl_div(student, teacher, log_target=True, reduction="none").sum(dim=1).mean()
    return divergence * temperature**2
