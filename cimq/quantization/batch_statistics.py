"""Statistics of batch normalisation measured anew after training."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from cimq.quantization.exact import exact_mode
from cimq.quantization.graph.refusals import check_device_of_quantised
from cimq.quantization.layers.numbering import tell_apart
from cimq.quantization.layers.quant_layer import QuantLayer
from cimq.torch_tools.batches import ForwardFn, kept_random_state
from cimq.torch_tools.forward import default_forward
from cimq.torch_tools.modes import in_evaluation
from cimq.torch_tools.parallel import is_distributed, sums_over_processes, unwrapped
from cimq.torch_tools.private_names import AnyBatchNorm


@torch.no_grad()
def reestimate_bn(
    model: nn.Module, loader: Iterable[Any], batches: int = 50, *, forward_fn: ForwardFn | None = None
) -> None:
    """Measures the statistics of batch normalisation anew, as the plain mean over batches.

    Low-bit weights jump between values in training, which leaves moving averages off (Nagel et al., 2022,
    "Overcoming oscillations in quantization-aware training"). Weights, scales and modes stay as they are, and so does
    the count of chips that training has drawn: the statistics are a function of the model and the batches.

    Args:
        model: Any model; in DistributedDataParallel every process must call this, each with its part of the data, and
            all get the mean over all batches. Batch normalisations in it that are frozen
            (`track_running_stats=False`) are left alone.
        loader: Batches; see `calibrate`.
        batches: How many to use at most (of each process).
        forward_fn: See `calibrate`.

    Raises:
        ValueError: If the loader is empty.
    """
    shared, model = model, unwrapped(model)
    check_device_of_quantised(model, "reestimate_bn")
    tell_apart(model, stacklevel=2)
    norms = [
        module for module in model.modules() if isinstance(module, AnyBatchNorm) and module.running_mean is not None
    ]
    if not norms:
        return
    steps = [(layer, layer.noise_step.clone()) for layer in _varying(model)]
    before = [(norm.momentum, copy.deepcopy(dict(norm.named_buffers()))) for norm in norms]
    forward = forward_fn or default_forward
    used = 0
    try:
        with in_evaluation(model), exact_mode.suspended(), kept_random_state(model, loaders=[loader]):
            # The statistics must come from the network as it will run: all modules in training would switch dropout on.
            for module in model.modules():
                if isinstance(module, QuantLayer):
                    module.training = True  # the fake-quantised product, without folding
            for norm in norms:
                norm.training = True
            for batch in itertools.islice(loader, batches):
                if used == 0:
                    for norm in norms:
                        norm.reset_running_stats()
                        norm.momentum = None  # cumulative average
                forward(model, batch)
                used += 1
    finally:
        for layer, step in steps:
            layer.noise_step.copy_(step)
        for norm, (momentum, statistics) in zip(norms, before, strict=True):
            norm.momentum = momentum
            if norm.num_batches_tracked is not None and int(norm.num_batches_tracked) == 0:  # not called in evaluation
                for key, value in statistics.items():
                    norm.get_buffer(key).copy_(value)
    if used == 0:
        raise ValueError("reestimate_bn: the loader is empty")
    if is_distributed(shared):
        (total,) = sums_over_processes(shared, used)
        for norm in norms:
            _mean_over_processes(shared, norm, used, total)


def _varying(model: nn.Module) -> list[QuantLayer]:
    """Layers that draw a chip in every step of training."""
    return [m for m in model.modules() if isinstance(m, QuantLayer) and getattr(m, "noise_step", None) is not None]


def _mean_over_processes(model: nn.Module, norm: Any, used: int, total: float) -> None:
    for statistics in (norm.running_mean, norm.running_var):
        sums = sums_over_processes(model, *(used * statistics.double()).tolist())
        statistics.copy_(torch.tensor(sums, dtype=torch.float64) / total)
    norm.num_batches_tracked.fill_(int(total))
