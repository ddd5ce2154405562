"""One small network per operation: a convolution, the operation, a layer on what it gives."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Operation = Callable[[Tensor], Tensor]


class Around(nn.Module):
    """[B, 3, H, W] -> convolution to 8 channels -> `operation` -> a layer on its channels or last dimension."""

    def __init__(self, operation: Operation, shape: tuple[int, ...] = (3, 9, 10)) -> None:
        super().__init__()
        one_dimensional = len(shape) == 2
        self.conv: nn.Module = nn.Conv1d(3, 8, 3, padding=1) if one_dimensional else nn.Conv2d(3, 8, 3, padding=1)
        self.operation = operation
        with torch.no_grad():
            y = operation(self.conv(torch.zeros(2, *shape)))
        images = y.dim() == 4 and not one_dimensional
        self.head: nn.Module = nn.Conv2d(y.shape[1], 4, 1) if images else nn.Linear(y.shape[-1], 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.operation(self.conv(x)))


def _shuffled(x: Tensor) -> Tensor:
    """ShuffleNet's idiom."""
    batch, channels, height, width = x.size()
    x = x.view(batch, 2, channels // 2, height, width)
    x = torch.transpose(x, 1, 2).contiguous()
    return x.view(batch, channels, height, width)


def _halves(x: Tensor) -> Tensor:
    a, b = x.chunk(2, dim=1)
    return torch.cat((b, a + b), dim=1)


def _unequal(x: Tensor) -> Tensor:
    a, b, c = torch.split(x, [1, 4, 3], 1)
    return torch.cat([c, a, b.flip(1)], 1)


def _rows(x: Tensor) -> Tensor:
    parts = x.tensor_split(4, -2)
    return torch.cat([parts[-1], parts[1]], 2)


def _unbound(x: Tensor) -> Tensor:
    channels = torch.unbind(x, 1)
    return torch.stack([channels[3], channels[0], channels[3]], dim=-1)


def _shifted(x: Tensor) -> Tensor:
    return x.roll((1, -2), (2, 3)) + torch.roll(x, shifts=3, dims=1)


# What works for images of other sizes too.
OF_ANY_SIZE: dict[str, Operation] = {
    "nearest, twice": nn.Upsample(scale_factor=2),
    "nearest, odd factor": lambda x: F.interpolate(x, scale_factor=1.7),
    "nearest, smaller": lambda x: F.interpolate(x, scale_factor=(0.5, 0.35)),
    "nearest, size": nn.UpsamplingNearest2d((13, 7)),
    "nearest to another value": lambda x: F.interpolate(F.max_pool2d(x, 2), size=x.shape[-2:]),
    "bilinear, twice": nn.Upsample(scale_factor=2, mode="bilinear"),
    "bilinear, odd factor": lambda x: F.interpolate(x, scale_factor=1.3, mode="bilinear"),
    "bilinear, recomputed": lambda x: F.interpolate(x, scale_factor=1.3, mode="bilinear", recompute_scale_factor=True),
    "bilinear, corners": nn.UpsamplingBilinear2d(scale_factor=3),
    "bilinear, size": lambda x: F.interpolate(x, (5, 21), mode="bilinear", align_corners=False),
    "bilinear, one pixel": nn.Upsample(1, mode="bilinear", align_corners=True),
    "area": lambda x: F.interpolate(x, (4, 7), mode="area"),
    "zero padding": nn.ZeroPad2d((1, 2, 0, 3)),
    "constant padding": nn.ConstantPad2d(2, -0.75),
    "reflection padding": nn.ReflectionPad2d((3, 1, 2, 0)),
    "replication padding": nn.ReplicationPad2d((3, 12, 2, 0)),
    "circular padding": nn.CircularPad2d((3, 1, 2, 4)),
    "maximum, rounded up": nn.MaxPool2d(3, 2, ceil_mode=True),
    "maximum, rounded up and padded": nn.MaxPool2d(2, 3, 1, 2, ceil_mode=True),
    "average, rounded up": nn.AvgPool2d(3, 2, ceil_mode=True),
    "average, rounded up and padded": nn.AvgPool2d(4, 3, 1, ceil_mode=True),
    "average, rounded up without padding": nn.AvgPool2d(4, 3, 2, ceil_mode=True, count_include_pad=False),
    "average, divisor": lambda x: F.avg_pool2d(x, 3, 2, 1, True, True, 5),
    "adaptive average": nn.AdaptiveAvgPool2d((4, 3)),
    "adaptive average of equal windows": nn.AdaptiveAvgPool2d((3, 5)),
    "adaptive average to more": nn.AdaptiveAvgPool2d((13, 10)),
    "adaptive average of rows": nn.AdaptiveAvgPool2d((None, 3)),
    "adaptive maximum": nn.AdaptiveMaxPool2d((4, 3)),
    "channel shuffle": nn.ChannelShuffle(4),
    "shuffle of ShuffleNet": _shuffled,
    "pixel shuffle": nn.PixelShuffle(2),
    "chunk": _halves,
    "split": _unequal,
    "tensor_split": _rows,
    "roll": _shifted,
    "flip": lambda x: x.flip(1, -1),
    "squeeze and unsqueeze": lambda x: F.adaptive_avg_pool2d(x, 1).squeeze(-1).squeeze(2).unsqueeze(1),
    "unsqueezed twice": lambda x: x.mean(3).unsqueeze(-1)[:, :, :, None].squeeze((3, 4))[..., None],
    "mean of channels": lambda x: x.mean(1, keepdim=True),
    "mean of all but channels": lambda x: x.mean(dim=(-1, 2)),
    "mean of columns": lambda x: torch.mean(x, 3, True),
    "mean of everything": lambda x: x.mean((1, 2, 3), keepdim=True),
    "sum of channels": lambda x: x.sum(1, keepdim=True),
    "sum of all but channels": lambda x: torch.sum(x, dim=(-1, 2)),
    "sum of parts": lambda x: torch.stack([x[:, :4], x[:, 4:]], 1).sum(dim=1),
    "mean of five dimensions": lambda x: x.unflatten(1, (2, 4)).mean((2, 3)).unsqueeze(2),
    "index": lambda x: torch.cat([x[:, -1:, 1:-1:2], x[:, 2:3, 1:-1:2]], 1),
    "index of a channel": lambda x: x[:, -3][:, None],
    "select and narrow": lambda x: torch.stack((x.select(1, -2), x.narrow(1, 3, 1).squeeze(1)), 1),
    "repeat": lambda x: x.repeat(1, 2, 1, 3),
    "repeat_interleave": lambda x: x.repeat_interleave(3, dim=2),
    "expand": lambda x: F.adaptive_avg_pool2d(x, 1).expand(-1, -1, 5, 4),
    "expand_as": lambda x: F.adaptive_avg_pool2d(x, 1).expand_as(x) + x,
    "tokens": lambda x: x.flatten(2).transpose(1, 2),
}
# Shapes of the head depend on the size of the image.
OF_ONE_SIZE: dict[str, Operation] = {
    "unbind and stack": _unbound,
    "channels last": lambda x: x.permute(0, 2, 3, 1),
    "movedim": lambda x: torch.movedim(x, 1, -1),
    "swapaxes": lambda x: x.swapaxes(1, 3).mT.flatten(start_dim=2),
    "unflatten": lambda x: x.flatten(1).unflatten(1, (8, -1)),
    "pixel unshuffle": lambda x: F.pixel_unshuffle(F.pad(x, (0, 0, 0, 1)), 2).permute(0, 1, 3, 2),
    "T of a part": lambda x: x.mean((2, 3)).unsqueeze(2).mT.view(x.size(0), 2, 4),
    "view_as": lambda x: x.permute(0, 1, 3, 2).reshape_as(x),
}
OF_SIGNALS: dict[str, Operation] = {
    "nearest": nn.Upsample(scale_factor=2),
    "linear": nn.Upsample(scale_factor=1.5, mode="linear"),
    "linear, corners": nn.Upsample(13, mode="linear", align_corners=True),
    "zero padding": nn.ZeroPad1d(2),
    "reflection padding": nn.ReflectionPad1d((2, 1)),
    "replication padding": nn.ReplicationPad1d(3),
    "maximum": nn.MaxPool1d(3, 2, 1, ceil_mode=True),
    "average": nn.AvgPool1d(3, 2, 1, ceil_mode=True),
    "average without padding": nn.AvgPool1d(4, count_include_pad=False),
    "adaptive average": nn.AdaptiveAvgPool1d(5),
    "adaptive maximum": nn.AdaptiveMaxPool1d(5),
    "mean": lambda x: x.mean(-1),
    "channel shuffle": nn.ChannelShuffle(2),
}


def cases() -> dict[str, tuple[Any, tuple[int, ...]]]:
    """Name -> (operation, shape of a sample)."""
    images = {name: (operation, (3, 9, 10)) for name, operation in (OF_ANY_SIZE | OF_ONE_SIZE).items()}
    return images | {f"signals: {name}": (operation, (3, 16)) for name, operation in OF_SIGNALS.items()}
