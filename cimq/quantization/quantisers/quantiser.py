"""What every quantiser can do. The kinds are `lsq.Lsq`, `lsq.Binary` and `lsq_offset.LsqOffset`."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class Quantiser:
    """Makes integers of one tensor at one width, and its values from them: value = scale * (integer + zero).

    It is made for one use, from the scales that a layer keeps for all widths (a layer's parameters are its state, so
    that optimisers, checkpoints and copies see nothing new). `calibrate` makes one from a sample.

    Attributes:
        scale: What the integer 1 is worth, float32: [] for the whole tensor, or [O], one for each index of its first
            dimension.
        low: Smallest integer.
        high: Largest integer.
    """

    scale: Tensor
    low: int
    high: int

    @property
    def zero(self) -> Tensor | None:
        """Zero point, int32 []; None for a kind that has none."""
        return None

    def fake(self, x: Tensor) -> Tensor:
        """The values on the grid, with the gradients of the kind."""
        raise NotImplementedError

    def integers(self, x: Tensor) -> Tensor:
        """The integers, uint8 where none is negative, else int8.

        Raises:
            ValueError: For values that are not finite.
        """
        raise NotImplementedError

    def state(self) -> dict[str, Tensor]:
        """What a layer of integers keeps of it: a copy of the scale and, if it has one, the zero point."""
        kept = {"scale": self.scale.detach().clone()}
        return kept if self.zero is None else kept | {"zero": self.zero.clone()}

    def scale_for(self, x: Tensor) -> Tensor:
        """The scale in a shape that broadcasts against `x`."""
        return self.scale if self.scale.dim() == 0 else self.scale.reshape((-1,) + (1,) * (x.dim() - 1))

    def grad_scale(self, x: Tensor) -> float:
        """LSQ's factor for the gradient of an input's scale: 1 / sqrt(values of one sample * largest integer)."""
        return float((max(1, x.numel() // max(1, x.shape[0])) * max(1, self.high)) ** -0.5)


def one_or_several(scale: Tensor) -> Tensor:
    """[] for a single scale, else [O]."""
    return scale.reshape(()) if scale.dim() == 1 and scale.shape[0] == 1 else scale


class _IntegersOfGrid(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, scale: Tensor) -> Tensor:
        ctx.save_for_backward(scale)
        return torch.round(values / scale)

    @staticmethod
    def backward(ctx: Any, *grad: Any) -> Any:
        (scale,) = ctx.saved_tensors
        return grad[0] / scale, None


def integers_of_grid(values: Tensor, scale: Tensor) -> Tensor:
    """rint(values / scale) of values that lie on the grid; gradient that of the division."""
    y: Tensor = _IntegersOfGrid.apply(values, scale)  # type: ignore[no-untyped-call]
    return y
