"""Batch normalisations of a model: which there are, and what they have seen."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from torch import Tensor, nn

from cimq.torch_tools.private_names import AnyBatchNorm
from cimq.torch_tools.replaced_forwards import has_replaced_forward


@contextlib.contextmanager
def frozen_norms(model: nn.Module, frozen: bool = True) -> Iterator[None]:
    """Inside, batch normalisations of a model in training use their running statistics, and leave them as they are.

    For the last epochs on cells that vary, after `cimq.reestimate_bn`: see docs/training.md.

    Args:
        model: Any model; afterwards every normalisation has its own mode back.
        frozen: False does nothing.

    Example:
        >>> import torch
        >>> net = torch.nn.BatchNorm2d(3).train()
        >>> with frozen_norms(net):
        ...     y = net(torch.ones(2, 3, 4, 4))
        >>> net.training, float(net.running_mean.sum())
        (True, 0.0)
    """
    norms = [m for m in model.modules() if isinstance(m, AnyBatchNorm) and m.training]
    for norm in norms if frozen else ():
        norm.eval()
    try:
        yield
    finally:
        for norm in norms:
            norm.train()


def norms_without_data(model: nn.Module) -> list[str]:
    """Names of batch normalisations whose statistics are still those that PyTorch starts with.

    No batch counted, every mean 0 and every variance 1: the trained weights were not loaded, or nothing was trained.
    """
    return [
        name
        for name, module in model.named_modules()
        if isinstance(module, AnyBatchNorm)
        and isinstance(module.running_mean, Tensor)
        and isinstance(module.running_var, Tensor)
        and module.num_batches_tracked is not None
        and int(module.num_batches_tracked) == 0
        and not bool(module.running_mean.any())
        and bool((module.running_var == 1).all())
    ]


def is_plain_norm(module: nn.Module) -> bool:
    """Whether it is a batch normalisation with fixed statistics and nothing else: subclasses may have an activation."""
    return (
        isinstance(module, AnyBatchNorm)
        and not has_replaced_forward(module)
        and type(module).forward in (nn.BatchNorm2d.forward, nn.BatchNorm1d.forward, nn.SyncBatchNorm.forward)
        and isinstance(module.running_mean, Tensor)
    )
