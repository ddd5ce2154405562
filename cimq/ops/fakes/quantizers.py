"""Fake kernels of the quantisers."""

from __future__ import annotations

import torch
from torch import Tensor

from cimq.ops.fakes.register import register_fake

_is_dense = torch.ops.aten.is_non_overlapping_and_dense


def _result_like(x: Tensor, per_tensor: bool, dtype: torch.dtype, by_first_axis: bool = False) -> Tensor:
    """Dense layouts are kept with one scale, or where channels lie one after another; others become row-major."""
    source = x if x.dtype in (torch.float32, torch.float64) else torch.empty_like(x, dtype=torch.float32)
    if by_first_axis:
        if x.dtype in (torch.bfloat16, torch.float16):
            source = x  # whose gaps are not closed here
        kept = _is_dense(source) and source.stride(0) * source.shape[0] == source.numel()
    else:
        kept = per_tensor and _is_dense(source)
    return torch.empty_like(
        source, dtype=dtype, memory_format=torch.preserve_format if kept else torch.contiguous_format
    )


@register_fake("fake_quantize")
def _fake_quantize(
    x: Tensor,
    scale: Tensor,
    qmin: int,
    qmax: int,
    axis: int | None = None,
    grad_scale: float | None = None,
    binary: bool = False,
) -> Tensor:
    return _result_like(x, axis is None, x.dtype, axis in (0, -x.dim()))


@register_fake("fake_quantize_backward")
def _fake_quantize_backward(
    grad: Tensor,
    x: Tensor,
    scale: Tensor,
    qmin: int,
    qmax: int,
    axis: int | None = None,
    grad_scale: float | None = None,
    binary: bool = False,
) -> tuple[Tensor, Tensor]:
    return _result_like(x, axis is None, x.dtype, axis in (0, -x.dim())), scale.new_empty(scale.shape)


@register_fake("quantize")
def _quantize(x: Tensor, scale: Tensor, qmin: int, qmax: int, axis: int | None = None, binary: bool = False) -> Tensor:
    return _result_like(x, axis is None, torch.uint8 if qmin >= 0 else torch.int8)
