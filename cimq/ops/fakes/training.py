"""Fake kernels of the convolution that quantises its input on the way."""

from __future__ import annotations

import torch
from torch import Tensor

from cimq.ops.fakes.register import register_fake
from cimq.ops.fakes.shapes import conv_shape
from cimq.torch_tools.private_names import suggest_memory_format


@register_fake("fake_quantized_conv2d")
def _fake_quantized_conv2d(
    x: Tensor,
    scale: Tensor,
    qmin: int,
    qmax: int,
    w: Tensor,
    w_scale: Tensor,
    bias: Tensor | None,
    stride: list[int],
    padding: list[int],
    dilation: list[int],
    groups: int,
    grad_scale: float,
    dtype: torch.dtype | None = None,
    memory_format: torch.memory_format | None = None,
) -> Tensor:
    shape = conv_shape(x, w, stride, padding, dilation)
    last = torch.channels_last in (suggest_memory_format(x), suggest_memory_format(w))
    layout = memory_format or (torch.channels_last if last else torch.contiguous_format)
    return torch.empty(shape, dtype=x.dtype if dtype is None else dtype, device=x.device, memory_format=layout)


@register_fake("fake_quantized_conv2d_backward")
def _fake_quantized_conv2d_backward(
    grad: Tensor,
    x: Tensor,
    scale: Tensor,
    qmin: int,
    qmax: int,
    w: Tensor,
    w_scale: Tensor,
    stride: list[int],
    padding: list[int],
    dilation: list[int],
    groups: int,
    grad_scale: float,
    input: bool,
    bias: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    if input:
        dx = torch.empty(x.shape, dtype=x.dtype, device=x.device, memory_format=suggest_memory_format(x))
    else:
        dx = x.new_empty([0])
    return dx, torch.empty_like(scale), torch.empty_like(w), w.new_empty([w.shape[0] if bias else 0])
