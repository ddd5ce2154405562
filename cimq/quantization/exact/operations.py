"""What the defined operations are: those of `cimq.ops` where they exist (float32, on devices with kernels), else
PyTorch's.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from cimq import ops
from cimq.quantization.exact import windows
from cimq.quantization.exact.functions import is_plain as _plain


def norm_affine(
    mean: Tensor, var: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float
) -> tuple[Tensor, Tensor]:
    """Batch normalisation with fixed statistics as x * scale[c] + shift[c]; float64 [C] each."""
    scale = 1.0 / torch.sqrt(var.double() + eps)
    if weight is not None:
        scale = scale * weight.double()
    shift = -mean.double() * scale
    return scale, shift if bias is None else shift + bias.double()


def affine_of(norm: Any) -> tuple[Tensor, Tensor]:
    """`norm_affine` of a batch normalisation."""
    return norm_affine(norm.running_mean, norm.running_var, norm.weight, norm.bias, norm.eps)


def affine(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """x * scale[c] + shift[c] in float32, two roundings; x [N, C, ...]."""
    shape = (1, -1) + (1,) * (x.dim() - 2)
    return x.float() * scale.float().reshape(shape) + shift.float().reshape(shape)


def global_avg_pool2d(x: Tensor, keepdim: bool = True, dims: tuple[int, ...] = (-2, -1)) -> Tensor:
    """Mean over two dimensions, of [N, C, H, W] height and width; in float32 as `ops.avg_pool2d` defines it."""
    return windows.mean(x, dims, keepdim)


def conv2d_f32(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: tuple[int, int],
    padding: tuple[int, int, int, int],
    dilation: tuple[int, int],
    groups: int,
) -> Tensor:
    """`ops.conv2d_f32` where it is defined (float32), else PyTorch's convolution."""
    if _plain(x):
        return ops.conv2d_f32(x, weight, bias, stride=stride, padding=padding, dilation=dilation, groups=groups)
    return F.conv2d(F.pad(x, padding), weight, bias, stride, 0, dilation, groups)


def linear_f32(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """`ops.linear_f32` where it is defined (float32), else PyTorch's linear layer."""
    return ops.linear_f32(x, weight, bias) if _plain(x) else F.linear(x, weight, bias)


def divided(x: Tensor, number: float) -> Tensor:
    """x / number in one rounding. On a GPU torch multiplies by the reciprocal of a number, which rounds twice."""
    if x.device.type == "cpu" or not _plain(x):
        return x / number
    return x / torch.full((), number, dtype=x.dtype, device=x.device)


def conv2d_args(
    kernel_size: Any, stride: Any = 1, padding: Any = 0, dilation: Any = 1
) -> tuple[tuple[int, int], tuple[int, int, int, int], tuple[int, int]]:
    """Stride, padding (left, right, top, bottom) and dilation of a conv2d call; string paddings are worked out."""

    def pair(value: Any) -> tuple[int, int]:
        values = (value, value) if isinstance(value, int) else tuple(int(v) for v in value)
        return (values[0], values[0]) if len(values) == 1 else (values[0], values[1])

    dilation = pair(dilation)
    if padding == "valid":
        sides = (0, 0, 0, 0)
    elif padding == "same":
        total = [d * (k - 1) for d, k in zip(dilation, pair(kernel_size), strict=True)]
        top, left = total[0] // 2, total[1] // 2
        sides = (left, total[1] - left, top, total[0] - top)
    else:
        vertical, horizontal = pair(padding)
        sides = (horizontal, horizontal, vertical, vertical)
    return pair(stride), sides, dilation


def conv1d_args(
    kernel_size: Any, stride: Any = 1, padding: Any = 0, dilation: Any = 1
) -> tuple[tuple[int, int], tuple[int, int, int, int], tuple[int, int]]:
    """As `conv2d_args`, for a conv1d call taken as a convolution with one row."""

    def row(value: Any, other: int) -> Any:
        return value if isinstance(value, str) else (other, value if isinstance(value, int) else int(value[0]))

    return conv2d_args(row(kernel_size, 1), row(stride, 1), row(padding, 0), row(dilation, 1))
