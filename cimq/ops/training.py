"""A convolution that quantises its input on the way: for training, with the integers multiplied as integers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache

import torch
from torch import Tensor

from cimq import _C

_BUILT = bool(torch.backends.mkldnn.is_available()) and hasattr(torch.ops.onednn, "qconv2d_pointwise")  # type: ignore[no-untyped-call]


@lru_cache(maxsize=1)
def _tried() -> bool:
    return _BUILT and _C.has_exact_products()


def _known() -> bool:
    return _tried()


_constant: Callable[[], bool] = torch.compiler.assume_constant_result(_known)  # type: ignore[no-untyped-call]
forget_trial = _tried.cache_clear


def has_integer_convolutions() -> bool:
    """Whether this machine and this build of PyTorch convolve bytes exactly and faster than floats.

    That needs AVX-512 VNNI (without it oneDNN's sums of bytes saturate) and a PyTorch with oneDNN that uses it, which
    a trial on integers finds out at the first call: `ONEDNN_MAX_CPU_ISA` may keep it from that.

    Example:
        >>> import cimq
        >>> isinstance(cimq.ops.has_integer_convolutions(), bool)
        True
    """
    return _constant()


def fake_quantized_conv2d(
    x: Tensor,
    scale: Tensor,
    qmin: int,
    qmax: int,
    weight: Tensor,
    weight_scale: Tensor,
    bias: Tensor | None = None,
    *,
    stride: Sequence[int] = (1, 1),
    padding: Sequence[int] = (0, 0, 0, 0),
    dilation: Sequence[int] = (1, 1),
    groups: int = 1,
    grad_scale: float,
    dtype: torch.dtype | None = None,
    memory_format: torch.memory_format | None = None,
) -> Tensor:
    """`conv2d(fake_quantize(x, scale, qmin, qmax), weight, bias)` for a weight that lies on its grid.

    The forward pass multiplies the integers of both operands, which is exact, and scales the sums; it takes less time
    than a convolution in float32 or bfloat16, and keeps nothing but `x` for the backward pass. Gradients are those of
    `fake_quantize` and of the convolution. Where `x` or `weight` has NaN or infinities, floats are multiplied instead,
    so that NaN stays NaN. Quicker than floats where `has_integer_convolutions()`.

    oneDNN's convolution must prove to be exact: the first product of every geometry is compared with cimq's own
    kernels, on integers that would show saturated sums and reads beyond the operands. Where it fails, those kernels
    compute the product, and a CimqWarning says so once.

    Args:
        x: Input [N, C, H, W], float32 or bfloat16.
        scale: Step of the input, float32 `[]`, positive.
        qmin: Smallest integer of the input: 0, or with a sign down to -128.
        qmax: Largest: at most 255, or with a sign 127.
        weight: [O, C / groups, kh, kw], float32: `weight_scale` times integers within +-127; C / groups > 1.
        weight_scale: Step of every output, float32 [O], positive. It gets no gradient here; `weight` does.
        bias: [O] or None.
        stride: (vertical, horizontal).
        padding: (left, right, top, bottom) with left = right and top = bottom.
        dilation: (vertical, horizontal).
        groups: As in conv2d.
        grad_scale: Factor of the gradient of `scale`; see `fake_quantize`.
        dtype: Of the output, float32 or bfloat16; None: that of `x`.
        memory_format: Of the output, torch.contiguous_format or torch.channels_last; None: as with torch's
            convolutions channels-last if `x` or `weight` is.

    Returns:
        [N, O, OH, OW]; in float32 within a few units in the last place of the exact product.

    Raises:
        ValueError: For shapes, ranges, paddings or scales that do not fit, and sums that could exceed 32 bits.
        TypeError: For other types.

    Example:
        >>> import torch, cimq
        >>> if cimq.ops.has_integer_convolutions():
        ...     x, w = torch.rand(1, 2, 3, 3), torch.tensor([[-1.0, 1.0]]).reshape(1, 2, 1, 1)
        ...     y = cimq.ops.fake_quantized_conv2d(x, torch.tensor(0.1), 0, 15, w, torch.ones(1), grad_scale=1.0)
        ...     assert torch.allclose(y, 0.1 * ((x[:, 1:] / 0.1).round() - (x[:, :1] / 0.1).round()))
    """
    out: Tensor = torch.ops.cimq.fake_quantized_conv2d(
        x,
        scale,
        qmin,
        qmax,
        weight,
        weight_scale,
        bias,
        stride,
        padding,
        dilation,
        groups,
        grad_scale,
        dtype,
        memory_format,
    )
    return out
