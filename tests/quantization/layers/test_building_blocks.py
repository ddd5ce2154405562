"""Blocks that networks are built of: a prepared model in evaluation equals the converted one, bit for bit."""

from __future__ import annotations

import nets
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import cimq
from cimq.quantization import CrossbarConv2d, quant_layers


class SamePad(nn.Conv2d):
    """Pads itself, as TensorFlow does: more at the right and at the bottom."""

    def forward(self, x: Tensor) -> Tensor:
        (h, w), (k, _), (s, _) = x.shape[-2:], self.kernel_size, self.stride
        high, wide = (max((-(-n // s) - 1) * s + k - n, 0) for n in (h, w))
        x = F.pad(x, (wide // 2, wide - wide // 2, high // 2, high - high // 2))
        return F.conv2d(x, self.weight, self.bias, self.stride)


class OddPad(SamePad):
    """Looks at a size on its way, which torch.fx cannot follow."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x[..., :-1] if x.shape[-1] % 2 else x)


class OwnPadding(nn.Module):
    def __init__(self, kind: type[nn.Conv2d] = SamePad) -> None:
        super().__init__()
        self.conv = kind(3, 6, 3, stride=2)
        self.fc = nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(F.relu6(self.conv(x)).mean([2, 3]))


class SmoothAndClipped(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 6, 3), nn.SiLU(), nn.Conv2d(6, 6, 3), nn.ReLU6(), nn.Flatten())
        self.fc = nn.Linear(6 * 8 * 8, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(F.hardswish(self.body(x)))


class SqueezeExcite(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.down, self.up = nn.Conv2d(channels, 2, 1), nn.Conv2d(2, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        gate = torch.sigmoid(self.up(F.silu(self.down(x.mean((2, 3), keepdim=True)))))
        return x * gate


class InvertedResidual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.expand, self.norm = nn.Conv2d(3, 12, 1, bias=False), nn.BatchNorm2d(12)
        self.depthwise = nn.Conv2d(12, 12, 3, padding=1, groups=12)
        self.gate = SqueezeExcite(12)
        self.project = nn.Conv2d(12, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = F.hardswish(self.norm(self.expand(x)))
        return torch.add(x, self.project(self.gate(F.hardswish(self.depthwise(y)))))


class FunctionalJoins(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(3, 4, 1)
        self.c = nn.Conv2d(12, 5, 1)

    def forward(self, x: Tensor) -> Tensor:
        a, b = self.a(x), self.b(x)
        joined = torch.cat((torch.add(a, b), torch.mul(a, b), a), dim=1)
        return self.c(torch.relu(joined)).mean(dim=(-1, -2))


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(8, 8), nn.Linear(8, 8)
        self.second.weight = self.first.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.second(F.silu(self.first(x)))


class TakesDict(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.image, self.table = nn.Conv2d(3, 4, 3), nn.Linear(5, 4)
        self.head = nn.Linear(4, 2)

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        return self.head(torch.sigmoid(self.table(batch["table"])) * self.image(batch["image"]).mean((2, 3)))


def equal_after_conversion(model: nn.Module, x: Tensor) -> nn.Module:
    q = cimq.prepare(nets.randomise(model), cimq.Policy.uniform(4, 5))
    cimq.calibrate(q, [x])
    converted = cimq.convert(q.eval(), sample_input=x)
    with torch.no_grad():
        for batch in (x, x[:1]):
            assert torch.equal(converted(batch), q(batch))
    return q


def test_convolution_with_its_own_padding_keeps_its_forward() -> None:
    with pytest.warns(cimq.CimqWarning, match=r"left as they stand.*: conv .QuantOddPad.$"):
        q = equal_after_conversion(OwnPadding(OddPad), nets.images())
    assert isinstance(q.conv, OddPad)
    assert [name for name, _ in quant_layers(q)] == ["conv", "fc"]


def test_convolution_with_its_own_padding() -> None:
    q = equal_after_conversion(OwnPadding(), nets.images())
    assert isinstance(q.conv, SamePad)
    assert isinstance(cimq.convert(q).conv, CrossbarConv2d)


@pytest.mark.parametrize("kind", [SmoothAndClipped, InvertedResidual, FunctionalJoins])
def test_of_images(kind: type[nn.Module]) -> None:
    q = equal_after_conversion(kind(), nets.images())
    assert len(quant_layers(q)) == sum(isinstance(m, nn.Conv2d | nn.Linear) for m in kind().modules())


def test_tied_weights() -> None:
    q = equal_after_conversion(Tied(), torch.randn(6, 8, generator=torch.Generator().manual_seed(0)))
    assert q.first.weight is q.second.weight


def test_forward_that_takes_a_dict() -> None:
    table = torch.randn(8, 5, generator=torch.Generator().manual_seed(0))
    batch = {"image": nets.images(), "table": table}
    q = cimq.prepare(nets.randomise(TakesDict()), cimq.Policy.uniform(4, 5))
    with torch.no_grad():
        cimq.calibrate(q, [batch], forward_fn=lambda net, inputs: net(inputs))
        converted = cimq.convert(q.eval(), sample_input={"batch": batch})
        assert torch.equal(converted(batch), q(batch))
