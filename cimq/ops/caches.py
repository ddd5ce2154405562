"""What operators remember from call to call."""

from __future__ import annotations

import torch

from cimq.ops.fakes.crossbar import clear_gives_integers
from cimq.ops.training import forget_trial


def clear_caches() -> None:
    """Forgets everything that operators remember from call to call; results stay the same.

    That is programmed crossbars (by their weights and hardware, up to 128 MiB and 8,192 layers for each of
    `crossbar_mvm` and `crossbar_conv2d`), parsed hardware, and which of the products of PyTorch's libraries have proved
    to be exact. All of it is bounded, the least recently used is dropped first; call this to get the memory back.

    Example:
        >>> import torch, cimq
        >>> x, w = torch.ones(1, 4, dtype=torch.uint8), torch.ones(2, 4, dtype=torch.int8)
        >>> y = cimq.ops.crossbar_mvm(x, w, cimq.Hardware.preset("paper"), weight_bits=4, act_bits=4)
        >>> cimq.ops.clear_caches()
        >>> sum(torch.ops.cimq.cache_entries().values())
        0
    """
    torch.ops.cimq.clear_caches()
    clear_gives_integers()
    forget_trial()
