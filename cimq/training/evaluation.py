"""Measuring a model on a loader."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from cimq.quantization.accesses import counted_accesses
from cimq.quantization.batches import ForwardFn, default_forward, device_of, kept_random_state, split_batch, to_device
from cimq.quantization.modes import in_evaluation
from cimq.quantization.parallel import unwrapped
from cimq.training.progress import progress_bar

MetricFn = Callable[[Any, Any], Any]


def top1(output: Any, target: Any) -> Tensor:
    """Fraction of samples whose largest output is the target class; output [N, classes, ...], target [N, ...]."""
    logits = logits_of(output)
    if not isinstance(target, Tensor):
        raise TypeError(
            f"the default metric (top-1 accuracy) needs a tensor of classes as target, got {type(target).__name__}; "
            "pass metric_fn(output, target)"
        )
    return (logits.argmax(dim=1) == target.to(logits.device)).float().mean()


def logits_of(output: Any) -> Tensor:
    """The scores in a model's output: the output itself, its `logits`, or the first of a tuple.

    Raises:
        TypeError: If there are none.
    """
    if isinstance(output, (tuple, list)) and output:
        output = output[0]
    elif isinstance(output, dict):
        output = output.get("logits", output.get("out", output))
    elif not isinstance(output, Tensor):
        output = getattr(output, "logits", output)
    if not isinstance(output, Tensor):
        raise TypeError(f"cannot find scores in an output of type {type(output).__name__}; pass loss_fn / metric_fn")
    return output


def evaluate(
    model: nn.Module,
    loader: Iterable[Any],
    metric_fn: MetricFn | None = None,
    *,
    forward_fn: ForwardFn | None = None,
    batches: int | None = None,
    progress: bool | None = None,
) -> float:
    """Mean of a metric over the samples of a loader, in evaluation and without gradients.

    Cells with read noise are accessed one sample after the other: the result does not depend on the batch size.

    Args:
        model: Any model; its train/eval mode is kept. In DistributedDataParallel every process measures its own loader.
        loader: Batches `(x, target)`, a list or a dict.
        metric_fn: `metric_fn(output, target)`, the mean over a batch; default: top-1 accuracy, 0 to 1.
        forward_fn: `forward_fn(model, batch)` gives the output; see `calibrate`.
        batches: How many batches to use at most; None for all.
        progress: Shows a bar; None: where standard error is a terminal.

    Returns:
        The metric; larger batches count more.

    Raises:
        ValueError: If the loader is empty.
        TypeError: If the default metric does not fit outputs or targets.

    Example:
        >>> import torch, cimq
        >>> cimq.evaluate(torch.nn.Identity(), [(torch.eye(3), torch.tensor([0, 1, 0]))])
        0.6666666865348816
    """
    total, count = measure(model, loader, metric_fn, forward_fn=forward_fn, batches=batches, progress=progress)
    if count == 0:
        raise ValueError("evaluate: the loader is empty")
    return total / count


def measure(
    model: nn.Module,
    loader: Iterable[Any],
    metric_fn: MetricFn | None,
    *,
    forward_fn: ForwardFn | None,
    batches: int | None = None,
    progress: bool | None,
) -> tuple[float, int]:
    """What `evaluate` divides: the sum of a metric over samples, and their number."""
    model = unwrapped(model)  # a distributed one would wait for the other processes
    metric = metric_fn or top1
    forward = forward_fn or default_forward
    total, count = 0.0, 0
    with (
        in_evaluation(model),
        torch.no_grad(),
        kept_random_state(model),
        counted_accesses(),
        progress_bar(loader, "evaluate", progress, batches) as bar,
    ):
        for index, batch in enumerate(bar):
            if batches is not None and index >= batches:
                break
            target = to_device(split_batch(batch)[1], device_of(model))
            size = batch_size(batch)
            total += float(metric(forward(model, batch), target)) * size
            count += size
    return total, count


def batch_size(batch: Any) -> int:
    """Number of samples: the first dimension of the first tensor found; 1 if there is none."""
    if isinstance(batch, Tensor):
        return len(batch) if batch.dim() else 1
    values = batch.values() if isinstance(batch, dict) else batch if isinstance(batch, (tuple, list)) else ()
    return next((batch_size(value) for value in values if isinstance(value, (Tensor, tuple, list, dict))), 1)
