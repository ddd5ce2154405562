"""Convolutions of the networks that the benchmarks take their shapes from."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Conv:
    """One convolution and the batch it gets."""

    name: str
    batch: int
    in_channels: int
    out_channels: int
    kernel: int
    stride: int
    size: int

    @property
    def padding(self) -> int:
        return self.kernel // 2

    @property
    def macs(self) -> int:
        """Multiply-adds of the layer's product."""
        out = (self.size + 2 * self.padding - self.kernel) // self.stride + 1
        return self.batch * out * out * self.out_channels * self.in_channels * self.kernel**2

    def operands(self, *, weight_bits: int, act_bits: int) -> tuple[Tensor, Tensor]:
        """Random activations [batch, in_channels, size, size] (uint8) and weights (int8), the same at every call."""
        generator = torch.Generator().manual_seed(0)
        x_shape = (self.batch, self.in_channels, self.size, self.size)
        w_shape = (self.out_channels, self.in_channels, self.kernel, self.kernel)
        top = 2 ** (weight_bits - 1) - 1
        x = torch.randint(0, 2**act_bits, x_shape, generator=generator, dtype=torch.uint8)
        return x, torch.randint(-top, top + 1, w_shape, generator=generator, dtype=torch.int8)


def resnet18_convs(batch: int) -> list[Conv]:
    """The shapes of ResNet-18 on 224 x 224 images (He et al., CVPR 2016, table 1)."""
    shapes = [
        ("conv1", 3, 64, 7, 2, 224),
        ("layer1", 64, 64, 3, 1, 56),
        ("layer2.0", 64, 128, 3, 2, 56),
        ("layer2", 128, 128, 3, 1, 28),
        ("layer3.0", 128, 256, 3, 2, 28),
        ("layer3", 256, 256, 3, 1, 14),
        ("layer4.0", 256, 512, 3, 2, 14),
        ("layer4", 512, 512, 3, 1, 7),
        ("layer4 shortcut", 256, 512, 1, 2, 14),
    ]
    return [Conv(f"ResNet-18 {name}", batch, *shape) for name, *shape in shapes]


def resnet20_convs(batch: int) -> list[Conv]:
    """The shapes of ResNet-20 on 32 x 32 images (He et al., CVPR 2016, section 4.2)."""
    shapes = [
        ("conv1", 3, 16, 3, 1, 32),
        ("stage 1", 16, 16, 3, 1, 32),
        ("stage 2.0", 16, 32, 3, 2, 32),
        ("stage 2", 32, 32, 3, 1, 16),
        ("stage 3.0", 32, 64, 3, 2, 16),
        ("stage 3", 64, 64, 3, 1, 8),
    ]
    return [Conv(f"ResNet-20 {name}", batch, *shape) for name, *shape in shapes]
