"""Quantisers: fake quantisation for training (LSQ) and the integers for inference."""

from __future__ import annotations

import torch
from torch import Tensor


def fake_quantize(
    x: Tensor,
    scale: Tensor,
    qmin: int,
    qmax: int,
    *,
    axis: int | None = None,
    grad_scale: float | None = None,
    binary: bool = False,
) -> Tensor:
    """Rounds `x` to the grid `scale * {qmin, ..., qmax}`, with the gradients of learned step size quantisation.

    Forward: `scale * clamp(rint(x / scale), qmin, qmax)`, half to even. Backward: `x` gets the gradient where
    `qmin <= x/scale <= qmax` (straight through) and 0 elsewhere; `scale` gets the sum of the gradient times
    `rint(x/scale) - x/scale` inside and `qmin` or `qmax` outside, times `grad_scale` (Esser et al., "Learned step size
    quantization", ICLR 2020, equations 2 and 3). NaN in `x` stays NaN. Sums do not depend on the number of threads.

    Args:
        x: Values, any shape; float32, float64, or bfloat16/float16, which are computed in float32.
        scale: Step size, positive: shape `[]` (or one element), or `[C]` with `axis`. float64 for a float64 `x`,
            else float32.
        qmin: Smallest integer, at least -65535.
        qmax: Largest integer, at most 65535.
        axis: Dimension of `x` that has its own scale per index; None for one scale.
        grad_scale: Factor of the scale's gradient; None for `1 / sqrt(n * qmax)` with n values per scale.
        binary: 1-bit weights: `qmin=-1`, `qmax=1` and only these two values occur, chosen by the sign (0 counts as
            positive). The scale's gradient is then the sum of the gradient times the sign.

    Returns:
        A tensor of `x`'s shape and type.

    Raises:
        ValueError: For a scale of the wrong shape, not positive or not finite, an axis out of range, `qmin >= qmax`.
        TypeError: For integer `x` or a scale of the wrong type.

    Example:
        >>> import torch, cimq
        >>> x = torch.tensor([-1.0, 0.26, 0.74, 9.0])
        >>> cimq.ops.fake_quantize(x, torch.tensor(0.5), qmin=0, qmax=3)
        tensor([0.0000, 0.5000, 0.5000, 1.5000])
    """
    out: Tensor = torch.ops.cimq.fake_quantize(x, scale, qmin, qmax, axis, grad_scale, binary)
    return out


def quantize(
    x: Tensor, scale: Tensor, qmin: int, qmax: int, *, axis: int | None = None, binary: bool = False
) -> Tensor:
    """The integers `clamp(rint(x / scale), qmin, qmax)`: division in float32, half to even.

    `quantize(x, s, ...) * s` equals `fake_quantize(x, s, ...)` bit for bit.

    Args:
        x: Values, any shape, float32 (or bfloat16/float16, converted exactly).
        scale: Step size, positive, float32: shape `[]`, or `[C]` with `axis`.
        qmin: Smallest integer, at least -128.
        qmax: Largest integer, at most 127, or 255 where `qmin >= 0`.
        axis: Dimension of `x` that has its own scale per index; None for one scale.
        binary: 1-bit weights, -1 or +1 by the sign; see `fake_quantize`.

    Returns:
        uint8 where `qmin >= 0`, else int8; `x`'s shape.

    Raises:
        ValueError: For NaN or infinite values (names the first), a bad scale, range or axis.
        TypeError: For an `x` that is not float32, bfloat16 or float16.

    Example:
        >>> import torch, cimq
        >>> cimq.ops.quantize(torch.tensor([-1.0, 0.25, 0.75, 9.0]), torch.tensor(0.5), -4, 3)
        tensor([-2,  0,  2,  3], dtype=torch.int8)
    """
    out: Tensor = torch.ops.cimq.quantize(x, scale, qmin, qmax, axis, binary)
    return out
