"""Fake kernels of layers around the crossbars, and of products in which nothing is lost."""

from __future__ import annotations

import torch
from torch import Tensor

from cimq.mapping import act_range, weight_range
from cimq.ops.fakes.register import register_fake
from cimq.ops.fakes.shapes import conv_shape
from cimq.torch_tools.private_names import suggest_memory_format


@register_fake("activation")
def _activation(x: Tensor, kind: str, alpha: float = 1.0) -> Tensor:
    return x.new_empty(x.shape)


@register_fake("softmax")
def _softmax(x: Tensor, dim: int, logarithm: bool = False) -> Tensor:
    return x.new_empty(x.shape)


@register_fake("layer_norm")
def _layer_norm(
    x: Tensor,
    normalized_shape: list[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    return x.new_empty(x.shape)


@register_fake("group_norm")
def _group_norm(
    x: Tensor, groups: int, weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5
) -> Tensor:
    return x.new_empty(x.shape)


@register_fake("linear_f32")
def _linear_f32(x: Tensor, w: Tensor, bias: Tensor | None = None) -> Tensor:
    return x.new_empty([*x.shape[:-1], w.shape[0]])


@register_fake("conv2d_f32")
def _conv2d_f32(
    x: Tensor,
    w: Tensor,
    bias: Tensor | None = None,
    stride: list[int] = [1, 1],  # noqa: B006  the schema's default
    padding: list[int] = [0, 0, 0, 0],  # noqa: B006
    dilation: list[int] = [1, 1],  # noqa: B006
    groups: int = 1,
) -> Tensor:
    return x.new_empty(conv_shape(x, w, stride, padding, dilation))


@register_fake("digital_conv2d")
def _digital_conv2d(
    x: Tensor,
    w: Tensor,
    weight_bits: int,
    act_bits: int,
    act_signed: bool,
    stride: list[int],
    padding: list[int],
    dilation: list[int],
    groups: int,
) -> Tensor:
    shape = conv_shape(x, w, stride, padding, dilation)
    return torch.empty(shape, dtype=torch.float32, device=x.device, memory_format=suggest_memory_format(x))


@register_fake("digital_matmul")
def _digital_matmul(x: Tensor, w: Tensor, weight_bits: int, act_bits: int, act_signed: bool) -> Tensor:
    low, high = act_range(act_bits, act_signed)
    largest = max(-low, high) * weight_range(weight_bits)[1]
    dtype = torch.float32 if x.shape[-1] <= 2**24 // largest else torch.int32
    return x.new_empty([*x.shape[:-1], w.shape[-2]], dtype=dtype)
