"""Mixed samples: what a model gives between two training images, for models that see few epochs."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from cimq.torch_tools.batches import split_batch


class Mixed(NamedTuple):
    """A batch whose samples hold a part of another one each.

    Attributes:
        batch: (x, target) with mixed x and the targets as they were.
        other_target: Target of the sample that was mixed in.
        share: Of the sample itself, 0 to 1; the other one's is 1 - share.
    """

    batch: tuple[Tensor, Any]
    other_target: Any
    share: float


def mix(batch: Any) -> Mixed:
    """Mixes every sample with another of the batch; draws from torch's random state.

    Images [N, C, H, W] are blended in one half of the cases (mixup, Zhang et al., ICLR 2018) and get a rectangle of the
    other image in the other half (CutMix, Yun et al., ICCV 2019); inputs of other shapes are blended. The share is
    uniform in 0..1, one for the batch.

    Raises:
        TypeError: If the batch is no (x, target) of two tensors, x of floating point.

    Example:
        >>> import torch
        >>> mixed = mix((torch.rand(4, 3, 8, 8), torch.arange(4)))
        >>> mixed.batch[0].shape, 0 <= mixed.share <= 1
        (torch.Size([4, 3, 8, 8]), True)
    """
    x, target = split_batch(batch)
    if not (isinstance(x, Tensor) and isinstance(target, Tensor) and x.is_floating_point() and x.dim() > 1):
        found = f"{x.dtype} {tuple(x.shape)}" if isinstance(x, Tensor) else type(x).__name__
        raise TypeError(
            f"finetune: mixing needs batches (x, target) of two tensors, x [N, ...] of floating point; got x {found}, "
            f"target {type(target).__name__}"
        )
    order = torch.randperm(len(x)).to(x.device)
    share = float(torch.rand(()))
    if x.dim() == 4 and float(torch.rand(())) < 0.5:
        x, share = _with_rectangle(x, order, share)
    else:
        x = share * x + (1 - share) * x[order]
    return Mixed((x, target), target[order.to(target.device)], share)


def _with_rectangle(x: Tensor, order: Tensor, share: float) -> tuple[Tensor, float]:
    """A rectangle with the proportions of the image, and the share that it leaves to the image in whole pixels."""
    height, width = x.shape[2:]
    rows, columns = (round(length * math.sqrt(1 - share)) for length in (height, width))
    top, left = int(torch.randint(height - rows + 1, ())), int(torch.randint(width - columns + 1, ()))
    inside = (..., slice(top, top + rows), slice(left, left + columns))
    mixed = x.clone()
    mixed[inside] = x[order][inside]
    return mixed, 1 - rows * columns / (height * width)
