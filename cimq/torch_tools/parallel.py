"""Models inside DistributedDataParallel or DataParallel: taken out, refused, and numbers summed over processes."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from cimq.torch_tools.batches import device_of
from cimq.torch_tools.private_names import uncompiled

_WRAPPERS = (nn.parallel.DistributedDataParallel, nn.DataParallel)


def unwrapped(model: nn.Module) -> nn.Module:
    """The model inside DistributedDataParallel or DataParallel; any other model itself."""
    while isinstance(model, _WRAPPERS):
        model = model.module
    return model


def innermost(model: nn.Module) -> nn.Module:
    """The model inside wrappers of any kind: parallel ones, those of torch.compile and averages of weights."""
    while True:
        inner = unwrapped(model)
        if isinstance(inner, torch.optim.swa_utils.AveragedModel):
            inner = inner.module
        inner = uncompiled(inner)
        if inner is model:
            return model
        model = inner


def is_distributed(model: nn.Module) -> bool:
    """Whether several processes share the model."""
    return isinstance(model, nn.parallel.DistributedDataParallel)


def refuse_distributed(model: nn.Module, caller: str) -> None:
    """Refuses what must happen before processes share a model.

    Raises:
        ValueError: For a model in DistributedDataParallel.
    """
    if is_distributed(model):
        raise ValueError(
            f"{caller}: the model is in DistributedDataParallel already, which would leave every process with scales "
            "of its own. Prepare and calibrate the model first, then wrap it (examples/ddp.py)"
        )


def is_first(model: nn.Module) -> bool:
    """Whether this process writes the files: the first of those that share a distributed model, and any other."""
    group = _group(model)
    return group is None or torch.distributed.get_rank(group) == 0


def sums_over_processes(model: nn.Module, *values: float) -> list[float]:
    """Sums over the processes that share a distributed model, float64; of any other model the values themselves.

    Every process must call it; none goes on before all have.
    """
    group = _group(model)
    if group is None:
        return list(values)
    sums = torch.tensor(values, dtype=torch.float64, device=device_of(model))
    torch.distributed.all_reduce(sums, group=group)
    return [float(value) for value in sums.tolist()]


def _group(model: nn.Module) -> Any:
    return model.process_group if isinstance(model, nn.parallel.DistributedDataParallel) else None
