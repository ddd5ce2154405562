"""The loss of one step of `finetune`: that of the task, of mixed samples, of a teacher, and against oscillation."""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from cimq.torch_tools.batches import ForwardFn, batch_size, device_of, split_batch, to_device
from cimq.torch_tools.devices import autocast
from cimq.training.features import FeaturePairs
from cimq.training.losses import distillation_loss
from cimq.training.mixing import mix
from cimq.training.targets import class_targets
from cimq.training.weight_grid import dampening_loss

LossFn = Callable[[Any, Any], Tensor]


@dataclasses.dataclass(frozen=True)
class Recipe:
    """What `finetune` was asked for; see its arguments. `loss_fn` is None for the default one."""

    epochs: int
    lr: float
    loss_fn: LossFn | None
    label_smoothing: float
    forward_fn: ForwardFn
    teacher: nn.Module | None
    distill_weight: float
    temperature: float
    features: FeaturePairs | None
    feature_weight: float
    feature_epochs: int
    mixing: float
    dampening: float
    gradient_scaling: float
    amp: torch.dtype | None
    max_grad_norm: float | None
    first_frozen: int
    progress: bool | None


def step_loss(model: nn.Module, batch: Any, recipe: Recipe, done: float, *, first: bool) -> tuple[Tensor, int]:
    """The loss of a batch, and how much the batch counts in the mean of an epoch."""
    device = device_of(model)
    size = batch_size(batch)
    mixed = mix(batch) if recipe.mixing > 0 and float(torch.rand(())) < recipe.mixing else None
    batch = batch if mixed is None else mixed.batch
    target = _target(split_batch(batch)[1], recipe, device)
    features = recipe.features if recipe.feature_epochs == 0 or done * recipe.epochs < recipe.feature_epochs else None
    with (
        autocast(device, recipe.amp),
        _as_it_was(model) if first else contextlib.nullcontext(),
    ):
        output = recipe.forward_fn(model, batch)
        loss, counted = _task_loss(output, target, recipe)
        if mixed is not None:
            other, _ = _task_loss(output, _target(mixed.other_target, recipe, device), recipe)
            loss = mixed.share * loss + (1 - mixed.share) * other
        if recipe.teacher is not None and (recipe.distill_weight > 0 or features is not None):
            with torch.no_grad():
                wanted = recipe.forward_fn(recipe.teacher, batch)
            if recipe.distill_weight > 0:
                soft = distillation_loss(output, wanted, recipe.temperature)
                loss = (1 - recipe.distill_weight) * loss + recipe.distill_weight * soft
        if features is not None:
            left = done * recipe.epochs / recipe.feature_epochs if recipe.feature_epochs else 0.0
            loss = loss + recipe.feature_weight * 0.5 * (1 + math.cos(math.pi * left)) * features.loss()
    if recipe.features is not None:
        recipe.features.forget()
    if recipe.dampening > 0:  # grows from zero, as late oscillations are the harmful ones
        loss = loss + recipe.dampening * 0.5 * (1 - math.cos(math.pi * done)) * dampening_loss(model)
    # The default loss is a mean over elements, of which some may be left out; with a teacher all samples count.
    return loss, size if counted is None or recipe.teacher is not None or mixed is not None else counted


def _target(target: Any, recipe: Recipe, device: torch.device) -> Any:
    """Where the loss wants it: the default one checks targets where they lie, so as not to wait for the device."""
    return target if recipe.loss_fn is None else to_device(target, device)


def _task_loss(output: Any, target: Any, recipe: Recipe) -> tuple[Tensor, int | None]:
    """The loss of the task; of the default one also the number of elements that it is the mean of."""
    if recipe.loss_fn is None:
        targets = class_targets(output, target, "loss")
        return targets.cross_entropy(recipe.label_smoothing), targets.counted
    loss = recipe.loss_fn(output, target)
    if not isinstance(loss, Tensor) or loss.numel() != 1:
        got = f"shape {[*loss.shape]}" if isinstance(loss, Tensor) else type(loss).__name__
        raise TypeError(f"finetune: loss_fn must give one number as a tensor, got {got}")
    return loss, None


@contextlib.contextmanager
def _as_it_was(model: nn.Module) -> Iterator[None]:
    """A training that is refused in its first step leaves the model's buffers (batch statistics) as they were."""
    before = [(buffer, buffer.clone()) for buffer in model.buffers()]
    try:
        yield
    except Exception:
        with torch.no_grad():
            for buffer, value in before:
                buffer.copy_(value)
        raise
