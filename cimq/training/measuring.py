"""Measuring a model on a loader."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from cimq.quantization.graph.refusals import check_device_of_quantised
from cimq.quantization.layers.accesses import counted_accesses
from cimq.quantization.layers.numbering import tell_apart
from cimq.torch_tools.batches import ForwardFn, batch_size, device_of, kept_random_state, split_batch, to_device
from cimq.torch_tools.forward import default_forward
from cimq.torch_tools.modes import in_evaluation
from cimq.torch_tools.parallel import unwrapped
from cimq.training.progress import progress_bar
from cimq.training.targets import class_targets

MetricFn = Callable[[Any, Any], Any]


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
        loader: Batches `(x, target)`, a list or a mapping. The state of its own random generators is kept.
        metric_fn: `metric_fn(output, target)`, the mean over a batch; default: top-1 accuracy, 0 to 1, of outputs
            [N, classes, ...] against classes [N, ...] (or [N, 1, ...], one-hot, probabilities). Targets of -100 are
            left out.
        forward_fn: `forward_fn(model, batch)` gives the output; see `calibrate`.
        batches: How many batches to use at most; None for all.
        progress: Shows a bar; None: where standard error is a terminal.

    Returns:
        The metric; larger batches count more. The default one is the share of all elements that are not left out.

    Raises:
        ValueError: If the loader is empty, or the default metric does not fit outputs or targets: those of a single
            column, of several classes at once, and values need a `metric_fn`.
        TypeError: The same, for what is no tensor of integers; and if `metric_fn` gives several numbers.

    Example:
        >>> import torch, cimq
        >>> cimq.evaluate(torch.nn.Identity(), [(torch.eye(3), torch.tensor([0, 1, 0]))])
        0.6666666865348816
    """
    total, count = measure(model, loader, metric_fn, forward_fn=forward_fn, batches=batches, progress=progress)
    if count == 0:
        raise ValueError("evaluate: the loader is empty")
    return mean_of(total, count, metric_fn)


def mean_of(total: float, count: float, metric_fn: MetricFn | None) -> float:
    """The mean of what `measure` gives; top-1 in float32, as `(output.argmax(1) == target).float().mean()` is.

    Accuracies thus compare with those that were made without cimq.
    """
    mean = total / count
    return float(torch.tensor(mean, dtype=torch.float32)) if metric_fn is None else mean


def measure(
    model: nn.Module,
    loader: Iterable[Any],
    metric_fn: MetricFn | None,
    *,
    forward_fn: ForwardFn | None,
    batches: int | None = None,
    progress: bool | None,
) -> tuple[float, int]:
    """What `evaluate` divides: the sum of a metric over samples (top-1: over elements), and their number."""
    model = unwrapped(model)  # a distributed one would wait for the other processes
    check_device_of_quantised(model, "evaluate")
    tell_apart(model, stacklevel=3)
    forward = forward_fn or default_forward
    found: list[tuple[float | Tensor, int]] = []  # read at the end, so as not to wait for the device at every batch
    count, used = 0, 0
    with (
        in_evaluation(model),
        torch.no_grad(),
        kept_random_state(model, loaders=[loader]),
        counted_accesses(),
        progress_bar(loader, "evaluate", progress, batches) as bar,
    ):
        for index, batch in enumerate(bar):
            if batches is not None and index >= batches:
                break
            target = split_batch(batch)[1]
            output = forward(model, batch)
            used += 1
            if metric_fn is None:
                targets = class_targets(output, target, "metric")
                found.append((targets.correct, 1))
                count += targets.counted
            else:
                size = batch_size(batch)
                found.append((_one_number(metric_fn(output, to_device(target, device_of(model)))), size))
                count += size
        total = 0.0
        for value, size in found:
            total += float(value) * size
    if metric_fn is None and used > 0 and count == 0:
        raise ValueError("evaluate: no target is counted, all are -100 (left out); there is nothing to measure")
    return total, count


def _one_number(value: Any) -> float | Tensor:
    """A copy of a tensor, which the metric may change in the next batch; of the others the number."""
    if not isinstance(value, Tensor):
        return float(value)
    if value.numel() != 1:
        raise TypeError(f"metric_fn must give one number, the mean of a batch, got a tensor {[*value.shape]}")
    return value.detach().clone()
