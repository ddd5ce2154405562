"""The loop over digits, slices and row tiles that one would write in torch, to compare with."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import unfold

from cimq import Hardware


class TorchLoop:
    """A product on differential columns: planes prepared outside, one float32 matmul per digit, slice and row tile.

    Args:
        w: integer weights [outputs, inputs].
        hardware: differential_column, subtracted before conversion; no variation.
        weight_bits: bits of a weight.
        act_bits: bits of an unsigned activation, applied bit by bit.
    """

    def __init__(self, w: Tensor, hardware: Hardware, *, weight_bits: int, act_bits: int) -> None:
        base = 2**hardware.cell_bits
        self.rows = hardware.rows
        self.act_bits = act_bits
        slices = hardware.weight_slices(weight_bits)
        w = w.int()
        self.planes = [(w.sign() * (w.abs() // base**s % base)).float().T.contiguous() for s in range(slices)]
        bits = hardware.adc.bits
        self.top = None if bits is None else 2 ** (bits - 1) - 1
        lsb = 1.0 if self.top is None else hardware.rows * (base - 1) / self.top
        self.inverse = torch.tensor(1 / lsb, dtype=torch.float32)
        self.scales = [torch.tensor(base**s * lsb, dtype=torch.float32) for s in range(slices)]

    def __call__(self, x: Tensor) -> Tensor:
        """x [batch, inputs] int32, on the device of the weights -> [batch, outputs] float32."""
        y = torch.zeros(x.shape[0], self.planes[0].shape[1], device=x.device)
        for plane, scale in zip(self.planes, self.scales, strict=True):
            codes = torch.zeros_like(y)
            for start in range(0, x.shape[1], self.rows):
                for i in range(self.act_bits):
                    digit = (x[:, start : start + self.rows] >> i & 1).float()
                    current = digit @ plane[start : start + self.rows]
                    if self.top is not None:
                        current = (current * self.inverse).round_().clamp_(-self.top, self.top)
                    codes += current * 2.0**i
            y += codes * scale
        return y


class TorchConvLoop:
    """The same for a convolution: patches of the whole batch, then the product."""

    def __init__(
        self, w: Tensor, hardware: Hardware, *, weight_bits: int, act_bits: int, stride: int, padding: int
    ) -> None:
        self.kernel, self.stride, self.padding = w.shape[2], stride, padding
        self.product = TorchLoop(w.flatten(1), hardware, weight_bits=weight_bits, act_bits=act_bits)

    def __call__(self, x: Tensor) -> Tensor:
        """x [batch, channels, h, w] float32 -> [batch, outputs, h, w] float32."""
        patches = unfold(x, self.kernel, padding=self.padding, stride=self.stride).transpose(1, 2)
        y = self.product(patches.flatten(0, 1).int())
        size = (x.shape[2] + 2 * self.padding - self.kernel) // self.stride + 1
        return y.view(x.shape[0], size, size, -1).permute(0, 3, 1, 2)
