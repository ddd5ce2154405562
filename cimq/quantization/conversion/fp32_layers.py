"""Layers of a converted model that stay in fp32, with the order of additions defined."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from cimq.quantization.conversion.converted import Geometry
from cimq.quantization.conversion.installation import show_attributes
from cimq.quantization.exact import operations


class Affine(nn.Module):
    """x * scale[c] + shift[c], two float32 roundings: a batch normalisation that could not be folded."""

    scale: Tensor
    shift: Tensor

    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        scale, shift = operations.affine_of(norm)
        self.register_buffer("scale", scale.detach().float())
        self.register_buffer("shift", shift.detach().float())
        show_attributes(self, norm)

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        """[N, C, ...]."""
        return operations.affine(x, self.scale, self.shift)


class Conv2dF32(nn.Module):
    """A convolution left in fp32, with the order of additions defined (`ops.conv2d_f32`)."""

    weight: Tensor
    bias: Tensor | None

    def __init__(self, layer: nn.Conv2d) -> None:
        super().__init__()
        self.register_buffer("weight", layer.weight.detach().clone())
        self.register_buffer("bias", None if layer.bias is None else layer.bias.detach().clone())
        args = operations.conv2d_args(layer.kernel_size, layer.stride, layer.padding, layer.dilation)
        self.geometry = Geometry(*args, layer.groups)
        show_attributes(self, layer)

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W]."""
        return operations.conv2d_f32(x, self.weight, self.bias, *self.geometry)


class LinearF32(nn.Module):
    """A linear layer left in fp32, with the order of additions defined (`ops.linear_f32`)."""

    weight: Tensor
    bias: Tensor | None

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        self.register_buffer("weight", layer.weight.detach().clone())
        self.register_buffer("bias", None if layer.bias is None else layer.bias.detach().clone())
        show_attributes(self, layer)

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        """[..., in_features]."""
        return operations.linear_f32(x, self.weight, self.bias)
