"""Convolutions that compute their padding from the size of the image, as networks from TensorFlow do."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import cimq
from cimq.quantization import layer_outputs


class SamePadded(nn.Conv2d):
    """The padding of EfficientNet, NFNet and MixNet in timm, written as there."""

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.size()[-2:]
        across = self.padding_of(height, self.kernel_size[0], self.stride[0], self.dilation[0])
        along = self.padding_of(width, self.kernel_size[1], self.stride[1], self.dilation[1])
        x = F.pad(x, (along // 2, along - along // 2, across // 2, across - across // 2), value=0)
        return F.conv2d(x, self.weight, self.bias, self.stride, (0, 0), self.dilation, self.groups)

    @staticmethod
    def padding_of(size: int, kernel: int, stride: int, dilation: int) -> int:
        if isinstance(size, Tensor):
            raise TypeError("a size is no tensor")
        return max((math.ceil(size / stride) - 1) * stride + (kernel - 1) * dilation + 1 - size, 0)


class Clipped(nn.Module):
    """Numbers from sizes elsewhere: the smaller of two sizes, the larger of several."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        side = min(x.shape[-1], x.shape[-2], 20)
        return self.conv(x[..., :side, :side]) / max(side, 2, x.shape[1])


def prepared(model: nn.Module, x: Tensor) -> nn.Module:
    return cimq.prepare(model.eval(), cimq.Policy.uniform(4, 4), example_inputs=x).eval()


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        SamePadded(3, 8, 3, stride=2),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        SamePadded(8, 4, (4, 2), stride=(1, 3), dilation=(2, 1), groups=4),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(4, 3),
    )


@pytest.mark.parametrize("model", [network, Clipped])
def test_sizes_may_be_compared(model: type[nn.Module], tmp_path: Path) -> None:
    x = torch.randn(3, 3, 11, 8)
    q = prepared(model(), x)
    converted = cimq.convert(q)  # a warning of what it left would be an error
    bundle = cimq.export(converted, tmp_path / "net.cimq", x)
    with torch.no_grad():
        for sizes in ((11, 8), (9, 9), (16, 5), (4, 23)):
            other = torch.randn(2, 3, *sizes)
            assert torch.equal(converted(other), q(other))
    y, layers = bundle.run_layers(x)
    assert torch.equal(y, converted(x))
    for name, values in layer_outputs(converted, x).items():
        assert torch.equal(layers[name], values)


def test_max_and_min_are_what_they_were() -> None:
    before = max, min

    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            assert max([1, 2]) == 2
            assert max("ab", "c", key=len) == "ab"
            assert min(3, 2) == 2
            assert min([], default=1) == 1
            return self.fc(x)

    x = torch.rand(8, 4)
    q = prepared(Odd(), x)
    with torch.no_grad():
        assert torch.equal(cimq.convert(q)(x), q(x))
    assert (max, min) == before
