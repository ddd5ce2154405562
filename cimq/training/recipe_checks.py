"""What `finetune` refuses before it starts."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Sequence
from numbers import Integral, Real
from pathlib import Path
from typing import Any

import torch
from torch import nn

from cimq.atomic_files import check_writable
from cimq.errors import CimqWarning
from cimq.quantization.conversion.converted import CrossbarLayer

AMP_TYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}
# Name -> (smallest value, whether that itself is allowed, largest value).
_LIMITS: dict[str, tuple[float, bool, float]] = {
    "epochs": (1, True, math.inf),
    "lr": (0, False, math.inf),
    "weight_decay": (0, True, math.inf),
    "momentum": (0, True, 1),
    "label_smoothing": (0, True, 1),
    "distill_weight": (0, True, 1),
    "temperature": (0, False, math.inf),
    "feature_weight": (0, True, math.inf),
    "feature_epochs": (1, True, math.inf),
    "mixing": (0, True, 1),
    "dampening": (0, True, math.inf),
    "gradient_scaling": (0, True, 2),
    "max_grad_norm": (0, False, math.inf),
    "bn_batches": (0, True, math.inf),
}
_WHOLE = ("epochs", "feature_epochs", "bn_batches")


def check_models(model: Any, teacher: Any) -> None:
    """Refuses what is no model, or has nothing to train."""
    for name, value in (("model", model), ("teacher", teacher)):
        if not isinstance(value, nn.Module) and not (name == "teacher" and value is None):
            raise TypeError(f"finetune: {name} must be an nn.Module, got {type(value).__name__}")
    if any(isinstance(module, CrossbarLayer) for module in model.modules()):
        raise ValueError("finetune: the model is converted, for inference; train the prepared one and convert that")
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise ValueError(f"finetune: no parameter of {type(model).__name__} requires a gradient")


def check_numbers(**values: Any) -> dict[str, Any]:
    """The numbers as int and float, None for what may be left out; refuses those outside of what makes sense."""
    numbers = dict(values)
    for name, value in values.items():
        if value is None:
            continue
        kind = "a whole number" if name in _WHOLE else "a number"
        if isinstance(value, bool) or not isinstance(value, Integral if name in _WHOLE else Real):
            raise TypeError(f"finetune: {name} must be {kind}, got {value!r}")
        low, inclusive, high = _LIMITS[name]
        number = float(value)
        if not (math.isfinite(number) and (number >= low if inclusive else number > low) and number <= high):
            bound = f"lie in {low}..{high}" if high < math.inf else f"be {'at least' if inclusive else 'above'} {low}"
            raise ValueError(f"finetune: {name} must {bound}, got {value}")
        numbers[name] = int(number) if name in _WHOLE else number
    return numbers


def check_choices(loaders: dict[str, Any], amp: str | None, resume: bool, checkpoint: str | Path | None) -> None:
    """Refuses loaders used up after one pass, an unknown `amp`, to resume from nothing, an unwritable checkpoint."""
    for name, loader in loaders.items():
        if isinstance(loader, Iterator):
            raise TypeError(
                f"finetune: {name} must be one that can be gone through several times (a DataLoader, a list), got "
                f"{type(loader).__name__}"
            )
    if amp is not None and amp not in AMP_TYPES:
        raise ValueError(f"finetune: amp must be None, bf16 or fp16, got {amp!r}")
    if resume and checkpoint is None:
        raise ValueError("finetune: resume needs checkpoint, the file to go on from")
    if checkpoint is not None:
        try:
            check_writable(checkpoint)
        except OSError as error:
            raise OSError(
                error.errno, f"finetune: checkpoint cannot be written ({error.strerror})", error.filename
            ) from None


def check_features(model: nn.Module, teacher: nn.Module | None, names: Sequence[str]) -> None:
    """Refuses features that nobody teaches, or that cannot be seen."""
    if isinstance(names, str):
        raise TypeError(f"finetune: distill_features must be a list of module names, got {names!r}")
    if names and teacher is None:
        raise ValueError("finetune: distill_features needs teacher, the model whose outputs are to be matched")
    if names and isinstance(model, nn.DataParallel):
        raise ValueError("finetune: distill_features cannot see into DataParallel; use DistributedDataParallel")


def warn_of_other_options(checkpoint: str | Path, before: dict[str, Any], now: dict[str, Any]) -> None:
    """Says which options a training that goes on does not share with its checkpoint."""
    changed = [
        f"{name} {before.get(name)} (now {value})"
        for name, value in now.items()
        if before.get(name) != value and name != "bn_batches"  # not part of the training that was interrupted
    ]
    if changed:
        warnings.warn(
            f"finetune: checkpoint {checkpoint} was made with {', '.join(changed)}: training goes on with the present "
            "options, and not to what an uninterrupted run gives",
            CimqWarning,
            stacklevel=3,
        )
