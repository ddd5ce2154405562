"""Batch normalisation in training on machines that vary."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from torch import nn


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
    norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm) and m.training]
    for norm in norms if frozen else ():
        norm.eval()
    try:
        yield
    finally:
        for norm in norms:
            norm.train()
