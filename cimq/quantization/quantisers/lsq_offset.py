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

from cimq.mapping import MAX_BITS
from cimq.quantization.quantisers.scale_search import mse_scales


def zero_point(offset: Tensor, bits: int) -> Tensor:
    """The integer zero point of a learned offset, int32 [].

    Example:
        >>> zero_point(torch.tensor(-2.5), 4), zero_point(torch.tensor(3.0), 4)
        (tensor(-2, dtype=torch.int32), tensor(0, dtype=torch.int32))
    """
    return offset.detach().clamp(1 - 2**bits, 0).round().to(torch.int32)


@torch.no_grad()
def quantize_offset(x: Tensor, scale: Tensor, zero: Tensor, bits: int) -> Tensor:
    """The integers q of an input, uint8.

    Raises:
        ValueError: For values that are not finite.

    Example:
        >>> quantize_offset(torch.tensor([-0.4, 0.0, 1.0, 9.0]), torch.tensor(0.2), torch.tensor(-2), 3)
        tensor([0, 2, 7, 7], dtype=torch.uint8)
    """
    if not bool(torch.isfinite(x).all()):
        raise ValueError("quantize: x must be finite, got NaN or infinite values")
    low = zero.float()
    q = torch.round(x.float() / scale).clamp(low, low + (2**bits - 1)) - low
    return q.to(torch.uint8)


def fake_quantize_offset(x: Tensor, scale: Tensor, offset: Tensor, bits: int) -> Tensor:
    """x_hat with the gradients of LSQ+: straight through inside the range; scale and offset learn as in the paper.

    Their factor is 1 / sqrt(values of one sample * (2^a - 1)), as for inputs without an offset.
    """
    levels = 2**bits - 1
    grad_scale = (max(1, x.numel() // max(1, x.shape[0])) * levels) ** -0.5
    y: Tensor = _FakeQuantizeOffset.apply(x, scale, offset, levels, grad_scale)  # type: ignore[no-untyped-call]
    return y


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


@torch.no_grad()
def zero_correction(w_q: Tensor, zero: Tensor) -> Tensor:
    """z * sum of the integer weights of every output, int32 [O]."""
    return w_q.flatten(1).sum(1, dtype=torch.int32) * zero


@torch.no_grad()
def offset_scales(values: Tensor, method: str) -> tuple[Tensor, Tensor]:
    """Scales and zero points of all widths for a sample of an input.

    Args:
        values: [1, n], with both ends of the range in it.
        method: "mse": of a few ranges [low, low + levels * scale] whose ends are shares of those seen, the one with the
            smallest squared error; "minmax": the range seen, with 0 in it.

    Returns:
        Two float32 tensors [8].

    Example:
        >>> scales, zeros = offset_scales(torch.tensor([[-1.0, 0.0, 1.0, 2.0]]), "minmax")
        >>> scales[1], zeros[1]
        (tensor(1.), tensor(-1.))
    """
    low, high = min(float(values.min()), 0.0), max(float(values.max()), 0.0)
    scales, zeros = [], []
    for bits in range(1, MAX_BITS + 1):
        levels = 2**bits - 1
        if low == 0 and method == "mse":
            found = float(mse_scales(values, 0, levels)[0]), 0
        else:
            found = _best_range(values, low, high, levels, method)
        scales.append(found[0])
        zeros.append(float(found[1]))
    device = values.device
    return torch.tensor(scales, device=device), torch.tensor(zeros, device=device)


_SHARES = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2)


def _best_range(values: Tensor, low: float, high: float, levels: int, method: str) -> tuple[float, int]:
    if high - low <= 0:
        return 1.0, 0
    best, best_error = (0.0, 0), float("inf")
    for lower in _SHARES if method == "mse" else (1.0,):
        for upper in _SHARES if method == "mse" else (1.0,):
            scale = max((upper * high - lower * low) / levels, 1e-8)
            zero = min(0, max(-levels, round(lower * low / scale)))
            q = torch.round(values / scale).clamp_(zero, zero + levels)
            error = float((q.mul_(scale) - values).square_().sum())
            if error < best_error:
                best, best_error = (scale, zero), error
    return best
