"""Losses of fine-tuning: task, distillation, and damping of weights that oscillate."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cimq import ops
from cimq.quantization.quant_layer import QuantLayer
from cimq.quantization.quantizers import weight_range
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


def distillation(output: Any, teacher_output: Any, temperature: float) -> Tensor:
    """T^2 * KL(teacher || student) of softened scores (Hinton et al., 2015), mean over samples."""
    student = F.log_softmax(logits_of(output).float() / temperature, dim=1)
    teacher = F.log_softmax(logits_of(teacher_output).float() / temperature, dim=1)
    divergence = F.kl_div(student, teacher, log_target=True, reduction="none").sum(dim=1).mean()
    return divergence * temperature**2


def damping(model: nn.Module) -> Tensor:
    """Sum of squared distances of weights from their grid points, both inside the grid's range.

    Keeps weights from jumping between two values (Nagel et al., 2022, "Overcoming oscillations in quantization-aware
    training", equation 6).
    """
    terms = []
    for module in model.modules():
        if not isinstance(module, QuantLayer) or not module.weight.requires_grad:
            continue
        low, high = weight_range(module.weight_bits)
        with torch.no_grad():
            scale = module.weight_scale
            target = ops.fake_quantize(module.weight.float(), scale, low, high, axis=0, binary=module.weight_bits == 1)
            column = scale.reshape((-1,) + (1,) * (module.weight.dim() - 1))
        terms.append(((target - module.weight.clamp(low * column, high * column)) ** 2).sum())
    return torch.stack(terms).sum() if terms else torch.zeros(())
