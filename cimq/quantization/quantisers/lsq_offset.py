"""Inputs with an offset (LSQ+: Bhalgat et al., "LSQ+: Improving low-bit quantization through learnable offsets and
better initialization", CVPR workshops 2020), folded exactly.

    x_hat = s * (q + z),   q = clamp(rint(x / s) - z, 0, 2^a - 1),   z = rint(clamp(offset, -(2^a - 1), 0))

The zero point z is an integer, so that the crossbar multiplies the unsigned integers q and the rest is digital:
sum_k (q[k] + z) * w_q[k] = Y + z * sum_k w_q[k]. As z lies in -(2^a - 1) .. 0, the number 0 is always on the grid: as
the integer -z, which is what padding applies. The learned offset is in units of the scale.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from cimq.quantization.quantisers.quantiser import Quantiser
from cimq.quantization.quantisers.scale_search import mse_scales


def zero_point(offset: Tensor, bits: int) -> Tensor:
    """The integer zero point of a learned offset, int32 [].

    Example:
        >>> zero_point(torch.tensor(-2.5), 4), zero_point(torch.tensor(3.0), 4)
        (tensor(-2, dtype=torch.int32), tensor(0, dtype=torch.int32))
    """
    return offset.detach().clamp(1 - 2**bits, 0).round().to(torch.int32)


class LsqOffset(Quantiser):
    """x_hat = scale * (q + zero), q = clamp(rint(x / scale) - zero, 0, 2^bits - 1).

    Args:
        scale: Positive, [].
        offset: The learned offset in units of the scale, []; rounded to the zero point.
        bits: 1 to 8.

    Example:
        >>> q = LsqOffset(torch.tensor(0.2), torch.tensor(-2.3), 3)
        >>> q.zero, q.integers(torch.tensor([-0.4, 0.0, 1.0, 9.0]))
        (tensor(-2, dtype=torch.int32), tensor([0, 2, 7, 7], dtype=torch.uint8))
    """

    def __init__(self, scale: Tensor, offset: Tensor, bits: int) -> None:
        self.scale = scale
        self.low = 0
        self.high = 2**bits - 1
        self._offset = offset
        self._bits = bits

    @property
    def zero(self) -> Tensor:
        """The zero point of the offset, in -(2^bits - 1) .. 0."""
        return zero_point(self._offset, self._bits)

    def fake(self, x: Tensor) -> Tensor:
        """The values on the grid, with the gradients of LSQ+: straight through inside, scale and offset as there.

        Their factor is 1 / sqrt(values of one sample * (2^bits - 1)), as for inputs without an offset.
        """
        y: Tensor = _FakeQuantizeOffset.apply(  # type: ignore[no-untyped-call]
            x, self.scale, self._offset, self.high, self.grad_scale(x)
        )
        return y

    @torch.no_grad()
    def integers(self, x: Tensor) -> Tensor:
        """The integers q, uint8."""
        if not bool(torch.isfinite(x).all()):
            raise ValueError("quantize: x must be finite, got NaN or infinite values")
        low = self.zero.float()
        q = torch.round(x.float() / self.scale).clamp(low, low + self.high) - low
        return q.to(torch.uint8)

    @classmethod
    @torch.no_grad()
    def calibrate(cls, values: Tensor, bits: int, method: str) -> LsqOffset:
        """The quantiser for a sample of an input.

        Args:
            values: [1, n], with both ends of the range in it.
            bits: 1 to 8.
            method: "mse": the smallest mean squared error; "minmax": the range seen, with 0 in it.

        Example:
            >>> q = LsqOffset.calibrate(torch.tensor([[-1.0, 0.0, 1.0, 2.0]]), 2, "minmax")
            >>> q.scale, q.zero
            (tensor(1.), tensor(-1, dtype=torch.int32))
        """
        least, most = torch.stack(torch.aminmax(values)).tolist()
        low, high, levels = min(least, 0.0), max(most, 0.0), 2**bits - 1
        if low == 0 and method == "mse":
            scale, zero = float(mse_scales(values, 0, levels)[0]), 0
        else:
            scale, zero = _best_range(values, low, high, levels, method)
        device = values.device
        return cls(torch.tensor(scale, device=device), torch.tensor(float(zero), device=device), bits)


class _FakeQuantizeOffset(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor, offset: Tensor, levels: int, grad_scale: float) -> Tensor:
        low = offset.clamp(-levels, 0).round()
        ctx.save_for_backward(x, scale, low)
        ctx.levels, ctx.grad_scale = levels, grad_scale
        q = torch.round(x.float() / scale).clamp(low, low + levels)
        return (q * scale).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        x, scale, low = ctx.saved_tensors
        grad = grads[0].float()
        u = x.float() / scale
        clipped = u.clamp(low, low + ctx.levels)
        inside = u == clipped
        by_scale = torch.where(inside, torch.round(clipped) - u, clipped)
        # x_hat moves with the offset where the quantiser clips; inside, the rounded value stays where it is.
        by_offset = torch.where(inside, torch.zeros_like(u), scale.expand_as(u))
        return (
            (grad * inside).to(x.dtype),
            (grad * by_scale).sum() * ctx.grad_scale,
            (grad * by_offset).sum() * ctx.grad_scale,
            None,
            None,
        )


_SHARES = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2)


def _best_range(values: Tensor, low: float, high: float, levels: int, method: str) -> tuple[float, int]:
    if high - low <= 0:
        return 1.0, 0
    tried: list[tuple[float, int]] = []
    errors: list[Tensor] = []
    for lower in _SHARES if method == "mse" else (1.0,):
        for upper in _SHARES if method == "mse" else (1.0,):
            scale = max((upper * high - lower * low) / levels, 1e-8)
            zero = min(0, max(-levels, round(lower * low / scale)))
            q = torch.round(values / scale).clamp_(zero, zero + levels)
            tried.append((scale, zero))
            errors.append((q.mul_(scale) - values).square_().sum())
    found: list[float] = torch.stack(errors).tolist()  # at once: it waits for the device
    return tried[found.index(min(found))]
