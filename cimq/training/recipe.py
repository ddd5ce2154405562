"""`finetune`: one recipe for quantisation-aware training."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from cimq.errors import CimqWarning
from cimq.quantization.batch_statistics import reestimate_bn
from cimq.quantization.graph.refusals import check_device_of_quantised
from cimq.quantization.inspection import param_groups
from cimq.quantization.layers.numbering import tell_apart
from cimq.quantization.layers.quant_layer import QuantLayer
from cimq.torch_tools.batches import ForwardFn, batch_size, device_of, kept_random_state
from cimq.torch_tools.forward import default_forward
from cimq.torch_tools.generators import start_epoch
from cimq.torch_tools.modes import in_evaluation
from cimq.torch_tools.non_finite import first_non_finite
from cimq.torch_tools.norms import frozen_norms
from cimq.torch_tools.parallel import is_first, sums_over_processes, unwrapped
from cimq.training.drawn_policies import Policies, drawn_policies
from cimq.training.features import FeaturePairs
from cimq.training.measuring import MetricFn, mean_of, measure
from cimq.training.progress import length_of, progress_bar
from cimq.training.recipe_checks import (
    AMP_TYPES,
    check_choices,
    check_features,
    check_models,
    check_numbers,
    warn_of_other_options,
)
from cimq.training.state import load_state, save_state
from cimq.training.step_loss import LossFn, Recipe, step_loss
from cimq.training.targets import Use, check_first_batch
from cimq.training.weight_grid import scale_weight_gradients


@dataclasses.dataclass(frozen=True)
class Epoch:
    """What an epoch of `finetune` measured.

    Attributes:
        number: 1, 2, ...
        loss: Mean training loss.
        lr: Learning rate of the weights at its end.
        metric: On `val_loader` after the epoch, None without one.
    """

    number: int
    loss: float
    lr: float
    metric: float | None


def finetune(
    model: nn.Module,
    loader: Iterable[Any],
    *,
    epochs: int,
    lr: float = 0.01,
    val_loader: Iterable[Any] | None = None,
    teacher: nn.Module | None = None,
    weight_decay: float = 1e-4,
    momentum: float = 0.9,
    label_smoothing: float = 0.0,
    distill_weight: float = 0.5,
    temperature: float = 2.0,
    distill_features: Sequence[str] = (),
    feature_weight: float = 5.0,
    feature_epochs: int | None = None,
    mixing: float = 0.0,
    dampening: float = 0.0,
    gradient_scaling: float = 0.0,
    policies: Policies | None = None,
    loss_fn: LossFn | None = None,
    metric_fn: MetricFn | None = None,
    forward_fn: ForwardFn | None = None,
    amp: str | None = None,
    max_grad_norm: float | None = None,
    bn_batches: int = 50,
    freeze_bn_epochs: int | None = None,
    checkpoint: str | Path | None = None,
    resume: bool = False,
    seed: int = 0,
    progress: bool | None = None,
) -> list[Epoch]:
    """Trains a prepared and calibrated model: SGD with momentum, cosine to zero, scales in a group of their own.

    A model that is not prepared gets the same training in fp32, with a warning: the reference for what quantisation
    costs.

    Modules that are in evaluation inside a model in training (frozen batch normalisations) stay so. Batch statistics
    are measured anew at the end, or before the epochs that train with frozen ones (`freeze_bn_epochs`). An interruption
    (Ctrl-C) is passed on; with `checkpoint`, training then goes on from the last whole epoch (`resume=True`) exactly as
    if it had not been interrupted.

    A model in DistributedDataParallel: every process calls `finetune` with its part of the data (a `DistributedSampler`
    is told the epoch); losses, the metric and the batch statistics at the end are those of all processes, and the first
    of them writes `checkpoint`, which holds the model without its wrapper. All draw the same random numbers.

    Args:
        model: A prepared, calibrated model, in DistributedDataParallel or not; changed in place.
        loader: Batches `(x, target)`, a list or a mapping; see `calibrate`. Of a stream without a length the learning
            rate falls from epoch to epoch instead of from step to step.
        epochs: Times through the loader.
        lr: Learning rate at the start; scales get a tenth.
        val_loader: Measured after each epoch; gone through again each time.
        teacher: A model (mostly the fp32 one) whose outputs are to be matched too.
        weight_decay: Of weights, not of scales.
        momentum: Of SGD.
        label_smoothing: Of the default loss.
        distill_weight: Share of the distillation loss where there is a teacher, 0 to 1.
        temperature: Of distillation.
        distill_features: Names of modules (say, residual blocks) whose outputs are to match those of the teacher's
            modules of the same names.
        feature_weight: Of their loss, the mean of |output - teacher's|^2 / |teacher's|^2 (after FitNets, Romero et al.,
            ICLR 2015); added to the other losses.
        feature_epochs: Epochs in which that loss falls to nothing (cosine); default: it keeps its weight to the end.
        mixing: Share of training batches whose samples are mixed with one another (images: mixup or CutMix; teacher and
            model see the same), 0 to 1. Batches must then be `(x, target)`.
        dampening: Weight of the loss against oscillating weights, reached at the end; 1e-3 or so helps at 2 and 3 bits.
        gradient_scaling: How much harder it is for a weight to leave its integer than to go back to it, see
            `cimq.training.scale_weight_gradients`; 0.1 or so for few epochs at 2 bits, at most 2.
        policies: `policies(epoch, step)` gives the bits of a step (epochs from 1, steps from 0): one set of weights
            learns to serve many policies (Jin et al., AdaBits, CVPR 2020, arXiv 1912.09666). Between epochs, and
            afterwards, the model has the bits that it came with.
        loss_fn: `loss_fn(output, target)`; default: cross-entropy of outputs [N, classes, ...] with classes [N, ...]
            or [N, 1, ...] (-100 leaves one out), one-hot, or probabilities [N, classes, ...]. Outputs of one column,
            values, and several classes at once need a loss of their own.
        metric_fn: For `val_loader`; default: top-1 accuracy, for the same outputs and targets. Whether they fit is
            found out before training.
        forward_fn: `forward_fn(model, batch)` gives the output; see `calibrate`.
        amp: None, "bf16" or "fp16": automatic mixed precision; scales stay float32.
        max_grad_norm: Gradients are scaled down to this norm.
        bn_batches: Batches for the batch statistics at the end; 0 leaves them alone.
        freeze_bn_epochs: So many last epochs normalise with the running statistics. Where cells vary, statistics of the
            batch undo what a chip does to the mean and the spread of every channel, and the model would first meet
            that when it is deployed. Default: a quarter of the epochs where cells vary in training, else 0.
        checkpoint: File that is written after each epoch; with several processes, one that all of them can read.
        resume: Goes on from `checkpoint` if it is there. Options that differ from those it was made with apply from
            there on, with a warning that names them.
        seed: Of shuffling, dropout and cell variation: the same seed gives the same training, whatever was drawn
            before. It covers Python's, NumPy's and torch's random state and the generators that loaders, samplers and
            data sets hold as attributes; the user's state of all of them is left as it was. (With another number of
            threads, or on another processor, PyTorch adds floats in another order, and trained weights differ.)
        progress: Shows a bar; None: where standard error is a terminal.

    Returns:
        One `Epoch` per epoch.

    Raises:
        OSError: If `checkpoint` cannot be written: before training where that can be known. The model keeps what it
            has learned.
        TypeError: For arguments of another type, a loss that is not one number, and outputs or targets that the
            default loss or metric is not for (also ValueError).
        ValueError: For impossible arguments, a model with nothing to train, a loader that is empty or can be gone
            through only once, a `checkpoint` that is not one, a model that is not calibrated, a loss that is no longer
            finite (names the first layer whose output is not finite), or a checkpoint that not all processes find.

    Example:
        >>> import torch, cimq
        >>> x, y = torch.randn(32, 4), torch.arange(32) % 2
        >>> q = cimq.prepare(torch.nn.Linear(4, 2), cimq.Policy.uniform(4, 4), example_inputs=x)
        >>> [epoch.number for epoch in cimq.finetune(q, [(x, y)], epochs=2, lr=0.1)]
        [1, 2]
    """
    check_models(model, teacher)
    check_device_of_quantised(model, "finetune")
    numbers = check_numbers(
        epochs=epochs,
        lr=lr,
        weight_decay=weight_decay,
        momentum=momentum,
        label_smoothing=label_smoothing,
        distill_weight=distill_weight,
        temperature=temperature,
        feature_weight=feature_weight,
        feature_epochs=feature_epochs,
        mixing=mixing,
        dampening=dampening,
        gradient_scaling=gradient_scaling,
        max_grad_norm=max_grad_norm,
        bn_batches=bn_batches,
    )
    lr, weight_decay, momentum = numbers["lr"], numbers["weight_decay"], numbers["momentum"]
    check_choices({"loader": loader, "val_loader": val_loader}, amp, resume, checkpoint)
    check_features(model, teacher, distill_features)
    frozen_epochs = _frozen_epochs(model, epochs, freeze_bn_epochs)
    options = {**numbers, "amp": amp, "freeze_bn_epochs": frozen_epochs}
    recipe = Recipe(
        epochs=epochs,
        lr=lr,
        loss_fn=loss_fn,
        label_smoothing=label_smoothing,
        forward_fn=forward_fn or default_forward,
        teacher=teacher,
        distill_weight=distill_weight,
        temperature=temperature,
        features=FeaturePairs(distill_features) if distill_features else None,
        feature_weight=feature_weight,
        feature_epochs=feature_epochs or 0,
        mixing=mixing,
        dampening=dampening,
        gradient_scaling=gradient_scaling,
        amp=None if amp is None else AMP_TYPES[amp],
        max_grad_norm=max_grad_norm,
        first_frozen=epochs - frozen_epochs + 1,
        progress=progress if is_first(model) else False,
    )
    if not any(isinstance(module, QuantLayer) for module in model.modules()):
        warnings.warn(
            f"finetune: {type(model).__name__} has no quantised layers, it is trained in fp32", CimqWarning, 2
        )
    tell_apart(unwrapped(model), stacklevel=2)
    optimizer = torch.optim.SGD(param_groups(model, lr, weight_decay), lr=lr, momentum=momentum)
    scaler = torch.amp.GradScaler(device_of(model).type, enabled=amp == "fp16")
    history: list[Epoch] = []
    was_training = model.training
    loaders = [loader, val_loader]
    if val_loader is not None:
        uses: list[Use] = [] if metric_fn else ["metric"]
        check_first_batch(model, val_loader, uses, forward_fn, "finetune: val_loader is empty")
    with kept_random_state(model, seed, loaders), _teaching(model, teacher, recipe.features):
        if resume and checkpoint is not None and Path(checkpoint).is_file():
            rows, before = load_state(Path(checkpoint), unwrapped(model), optimizer, scaler)
            history = [Epoch(*values) for values in rows]
            if is_first(model):
                warn_of_other_options(checkpoint, before, options)
        _check_same_start(model, len(history))
        if not was_training:
            model.train()
        try:
            for number in range(len(history) + 1, epochs + 1):
                start_epoch(loaders, seed, number)
                if number == recipe.first_frozen and bn_batches > 0:
                    reestimate_bn(model, loader, bn_batches, forward_fn=forward_fn)
                frozen = number >= recipe.first_frozen
                with frozen_norms(model, frozen), drawn_policies(unwrapped(model), policies) as draw:
                    loss = _train_epoch(model, loader, recipe, optimizer, scaler, number, draw)
                metric = _metric(model, val_loader, metric_fn, forward_fn, recipe.progress)
                history.append(Epoch(number, loss, optimizer.param_groups[0]["lr"], metric))
                if checkpoint is not None and is_first(model):
                    rows = [dataclasses.astuple(epoch) for epoch in history]
                    save_state(Path(checkpoint), unwrapped(model), optimizer, scaler, rows, options)
                sums_over_processes(model, 0.0)  # the file is there before another process looks for it
        finally:
            if not was_training:
                model.eval()
        if bn_batches > 0 and frozen_epochs == 0:
            start_epoch(loaders, seed, epochs + 1)
            reestimate_bn(model, loader, bn_batches, forward_fn=forward_fn)
    return history


def _frozen_epochs(model: nn.Module, epochs: int, asked: int | None) -> int:
    """How many of the last epochs train with the running statistics of batch normalisations."""
    if asked is None:
        machines = [m.training_hardware or m.hardware for m in model.modules() if isinstance(m, QuantLayer)]
        return epochs // 4 if any(machine.varies for machine in machines) else 0
    if not 0 <= asked <= epochs:
        raise ValueError(f"finetune: freeze_bn_epochs must lie in 0..epochs (0..{epochs}), got {asked}")
    return asked


def _check_same_start(model: nn.Module, epochs: int) -> None:
    """All processes must go on from the same epoch."""
    processes, total = sums_over_processes(model, 1.0, epochs)
    if total != processes * epochs:
        raise ValueError(
            f"finetune: this process goes on after epoch {epochs}, others after another one; checkpoint must be a file "
            "that all processes can read"
        )


def _metric(
    model: nn.Module,
    val_loader: Iterable[Any] | None,
    metric_fn: MetricFn | None,
    forward_fn: ForwardFn | None,
    progress: bool | None,
) -> float | None:
    """Over the samples of all processes; None if none has a loader."""
    total, count = 0.0, 0.0
    if val_loader is not None:
        total, count = measure(model, val_loader, metric_fn, forward_fn=forward_fn, progress=progress)
        if count == 0:
            raise ValueError("finetune: val_loader is empty")
    total, count = sums_over_processes(model, total, count)
    return mean_of(total, count, metric_fn) if count else None


@contextlib.contextmanager
def _teaching(model: nn.Module, teacher: nn.Module | None, features: FeaturePairs | None) -> Iterator[None]:
    if teacher is None:
        yield
        return
    with in_evaluation(teacher), contextlib.nullcontext() if features is None else features.watching(model, teacher):
        yield


def _train_epoch(
    model: nn.Module,
    loader: Iterable[Any],
    recipe: Recipe,
    optimizer: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler,
    number: int,
    draw: Callable[[int, int], None],
) -> float:
    steps = length_of(loader)
    total, count, samples = 0.0, 0, 0
    title = f"epoch {number}/{recipe.epochs}"
    with progress_bar(loader, title, recipe.progress) as bar:
        for step, batch in enumerate(bar):
            done = (number - 1 + (step / steps if steps else 0.0)) / recipe.epochs
            _set_rates(optimizer, 0.5 * (1 + math.cos(math.pi * done)))
            draw(number, step)
            loss, size = step_loss(model, batch, recipe, done, first=number == 1 and step == 0)
            value = loss.item()  # the one wait for the device in a step of training
            if not math.isfinite(value):
                cause = first_non_finite(unwrapped(model), batch, recipe.forward_fn)
                raise ValueError(
                    f"finetune: the loss is {value} in epoch {number}, step {step + 1}; {cause}. A lower lr "
                    f"(now {recipe.lr}) or max_grad_norm may help"
                )
            optimizer.zero_grad(set_to_none=True)
            scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
            if recipe.gradient_scaling > 0:
                scale_weight_gradients(model, recipe.gradient_scaling)
            if recipe.max_grad_norm is not None:
                scaler.unscale_(optimizer)
                nn.utils.clip_grad_norm_(model.parameters(), recipe.max_grad_norm)
            scaler.step(optimizer)
            scaler.update()
            total += value * size
            count += size
            samples += batch_size(batch)
            bar.set_postfix(loss=f"{total / max(1, count):.4f}", refresh=False)
    if samples == 0:
        raise ValueError("finetune: the loader is empty")
    total, counted = sums_over_processes(model, total, count)
    if counted == 0:
        raise ValueError("finetune: every target of the loader is -100 (left out), so that there is nothing to learn")
    return total / counted


def _set_rates(optimizer: torch.optim.Optimizer, factor: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = group.setdefault("initial_lr", group["lr"]) * factor
