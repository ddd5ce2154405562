"""Pooling, means and resized images with one definition: `cimq.ops` where it is defined (float32, on devices with
kernels), else PyTorch's own.

Converted models call these functions; `ExactEval` answers PyTorch's with them (`HANDLERS`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from cimq import ops
from cimq.ops.pooling import resize_geometry
from cimq.quantization.exact.functions import is_plain as plain


def _images(x: Any) -> bool:
    return plain(x) and x.dim() == 4


def _signals(x: Any) -> bool:
    return plain(x) and x.dim() == 3


def _one(value: Any) -> Any:
    """The only value of a 1-D size."""
    return value[0] if isinstance(value, Sequence) and len(value) == 1 else value


def avg_pool2d(
    x: Tensor,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Tensor:
    """`F.avg_pool2d`."""
    if not _images(x):
        return F.avg_pool2d(x, kernel_size, stride or None, padding, ceil_mode, count_include_pad, divisor_override)
    kernel, stride, padding = _one(kernel_size), _one(stride or None), _one(padding)
    return ops.avg_pool2d(x, kernel, stride, padding, count_include_pad, ceil_mode, divisor_override)


def avg_pool1d(
    x: Tensor,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Tensor:
    """`F.avg_pool1d`, as pooling of images with one row."""
    if not _signals(x):
        return F.avg_pool1d(x, kernel_size, stride or kernel_size, padding, ceil_mode, count_include_pad)
    kernel, stride = _one(kernel_size), _one(stride)
    steps = (1, stride or kernel)
    row = ops.avg_pool2d(x.unsqueeze(2), (1, kernel), steps, (0, _one(padding)), count_include_pad, ceil_mode)
    return row.squeeze(2)


def adaptive_avg_pool2d(x: Tensor, output_size: Any) -> Tensor:
    """`F.adaptive_avg_pool2d`, for every size of images."""
    return ops.adaptive_avg_pool2d(x, output_size) if _images(x) else F.adaptive_avg_pool2d(x, output_size)


def adaptive_avg_pool1d(x: Tensor, output_size: Any) -> Tensor:
    """`F.adaptive_avg_pool1d`, as pooling of images with one row."""
    if not _signals(x):
        return F.adaptive_avg_pool1d(x, output_size)
    return ops.adaptive_avg_pool2d(x.unsqueeze(2), (1, _one(output_size))).squeeze(2)


def mean(x: Tensor, dim: Any, keepdim: bool = False) -> Tensor:
    """`x.mean(dim, keepdim)`; over height and width of images as their average pooling."""
    dims = (dim,) if isinstance(dim, int) else tuple(dim)
    if not plain(x) or not dims:
        return x.mean(dim, keepdim)
    if x.dim() == 4 and len(dims) == 2 and {d % 4 for d in dims} == {2, 3}:
        y = ops.avg_pool2d(x, (x.shape[-2], x.shape[-1]))
        return y if keepdim else y.flatten(1)
    return ops.mean(x, dims, keepdim)


def total(x: Tensor, dim: Any, keepdim: bool = False) -> Tensor:
    """`x.sum(dim, keepdim)`: the mean, times the number of elements."""
    dims = (dim,) if isinstance(dim, int) else tuple(dim)
    if not plain(x) or not dims or x.numel() == 0:
        return x.sum(dim, keepdim)
    count: int = math.prod(x.shape[d] for d in dims)
    sums: Tensor = mean(x, dims, keepdim) * count
    return sums


_MODES = {3: {"nearest": "nearest", "linear": "bilinear"}, 4: {"nearest": "nearest", "bilinear": "bilinear"}}


def interpolate(
    x: Tensor,
    size: Any = None,
    scale_factor: Any = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
    recompute_scale_factor: bool | None = None,
) -> Tensor:
    """`F.interpolate`: nearest and bilinear of images, nearest and linear of signals, and the average over areas."""
    defined = _MODES.get(x.dim(), {}).get(mode) if plain(x) else None
    area = mode == "area" and _images(x)
    if (defined is None and not area) or (mode == "nearest" and align_corners is not None):
        return F.interpolate(x, size, scale_factor, mode, align_corners, recompute_scale_factor)
    image = x.unsqueeze(2) if x.dim() == 3 else x
    if x.dim() == 3:
        size = None if size is None else (1, _one(size))
        scale_factor = None if scale_factor is None else (1.0, _one(scale_factor))
    if area:
        return ops.adaptive_avg_pool2d(image, resize_geometry(image, size, scale_factor)[0])
    y = ops.resize2d(image, size, scale_factor, str(defined), bool(align_corners), bool(recompute_scale_factor))
    return y.squeeze(2) if x.dim() == 3 else y


# ---- what answers PyTorch's functions in evaluation ----


def _avg_pool2d(evaluation: Any, input: Tensor, *args: Any, **kwargs: Any) -> Any:
    return avg_pool2d(input, *args, **kwargs) if _images(input) else NotImplemented


def _avg_pool1d(evaluation: Any, input: Tensor, *args: Any, **kwargs: Any) -> Any:
    return avg_pool1d(input, *args, **kwargs) if _signals(input) else NotImplemented


def _adaptive_avg_pool2d(evaluation: Any, input: Tensor, output_size: Any) -> Any:
    return adaptive_avg_pool2d(input, output_size) if _images(input) else NotImplemented


def _adaptive_avg_pool1d(evaluation: Any, input: Tensor, output_size: Any) -> Any:
    return adaptive_avg_pool1d(input, output_size) if _signals(input) else NotImplemented


def _mean(evaluation: Any, input: Tensor, dim: Any = None, keepdim: bool = False, *rest: Any, **kwargs: Any) -> Any:
    dim = kwargs.pop("axis", dim)
    if kwargs or rest or not plain(input) or not isinstance(keepdim, bool):
        return NotImplemented
    if not isinstance(dim, (int, tuple, list)) or dim in ((), []):
        return NotImplemented
    return mean(input, dim, keepdim)


def _total(evaluation: Any, input: Tensor, dim: Any = None, keepdim: bool = False, *rest: Any, **kwargs: Any) -> Any:
    dim = kwargs.pop("axis", dim)
    if kwargs or rest or not plain(input) or not isinstance(keepdim, bool):
        return NotImplemented
    if not isinstance(dim, (int, tuple, list)) or dim in ((), []):
        return NotImplemented
    return total(input, dim, keepdim)


def _interpolate(
    evaluation: Any,
    input: Tensor,
    size: Any = None,
    scale_factor: Any = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
    recompute_scale_factor: bool | None = None,
    antialias: bool = False,
) -> Any:
    if antialias or not plain(input) or (mode != "area" and mode not in _MODES.get(input.dim(), {})):
        return NotImplemented
    return interpolate(input, size, scale_factor, mode, align_corners, recompute_scale_factor)


HANDLERS: dict[Any, Callable[..., Any]] = {
    F.avg_pool2d: _avg_pool2d,
    F.avg_pool1d: _avg_pool1d,
    F.adaptive_avg_pool2d: _adaptive_avg_pool2d,
    F.adaptive_avg_pool1d: _adaptive_avg_pool1d,
    torch.mean: _mean,
    Tensor.mean: _mean,
    torch.sum: _total,
    Tensor.sum: _total,
    F.interpolate: _interpolate,
}
