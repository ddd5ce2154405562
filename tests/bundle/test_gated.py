"""Gates, smooth activations, 1-D convolutions and inputs with an offset, from the model to the executor."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from bundle_nets import HARDWARE, images, randomise
from test_export import assert_equal_everywhere
from torch import Tensor, nn

import cimq
from cimq import Policy
from cimq.bundle.fx_reader import read_network


class SqueezeExcite(nn.Module):
    def __init__(self, channels: int, gate: nn.Module) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(channels, 2, 1)
        self.excite = nn.Conv2d(2, channels, 1)
        self.gate = gate

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gate(self.excite(F.silu(self.squeeze(F.adaptive_avg_pool2d(x, 1)), inplace=True)))


class InvertedResidual(nn.Module):
    """MobileNetV3's block: expansion, depthwise convolution, squeeze-excite, projection, residual."""

    def __init__(self, channels: int, act: type[nn.Module], gate: nn.Module) -> None:
        super().__init__()
        self.block = nn.Sequential(
            nn.Conv2d(channels, 12, 1, bias=False),
            nn.BatchNorm2d(12),
            act(inplace=True),
            nn.Conv2d(12, 12, 3, padding=1, groups=12, bias=False),
            nn.BatchNorm2d(12),
            act(inplace=True),
            SqueezeExcite(12, gate),
            nn.Conv2d(12, channels, 1, bias=False),
            nn.BatchNorm2d(channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.block(x)


class Gated(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3, stride=2, padding=1)
        self.blocks = nn.Sequential(
            InvertedResidual(6, nn.Hardswish, nn.Hardsigmoid()),
            InvertedResidual(6, nn.SiLU, nn.Sigmoid()),
            InvertedResidual(6, nn.ReLU6, nn.Hardsigmoid()),
        )
        self.fc = nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.blocks(F.hardswish(self.stem(x)))
        x = x * torch.sigmoid(x).mul(x)
        return self.fc(x.mean((2, 3)))


@pytest.mark.parametrize("offset", [False, True])
@pytest.mark.parametrize("hardware", HARDWARE)
def test_executor_equals_the_prepared_model(hardware: str, offset: bool, tmp_path: Path) -> None:
    x = images(5, 3, 9, 10)
    model = cimq.prepare(randomise(Gated()), Policy.uniform(4, 5), HARDWARE[hardware], act_offset=offset)
    cimq.calibrate(model, [x])
    converted = cimq.convert(model.eval(), sample_input=x)
    operations = {node.op for node in read_network(converted, x).nodes}
    assert operations >= {"mul", "silu", "sigmoid", "hardswish", "hardsigmoid", "clamp", "add"}
    bundle = cimq.export(model, tmp_path / "net.cimq", x[:3])
    assert_equal_everywhere(bundle, converted, x)
    with torch.no_grad():
        assert torch.equal(bundle.run(x), model(x))
    zeros = {layer.name: layer.act_zero for layer in bundle.layers}
    assert (zeros["blocks.1.block.7"] < 0) == offset  # its input is that of SiLU
    assert cimq.compile(tmp_path / "net.cimq").latency.time_us == cimq.latency(model).time_us


def test_in_place_activations_write_in_place() -> None:
    class Aliases(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(6, 6)

        def forward(self, x: Tensor) -> Tensor:
            y = self.fc(x)
            F.silu(y, inplace=True)
            return y.sigmoid_() + y

    x = torch.randn(4, 6, generator=torch.Generator().manual_seed(0))
    model = cimq.prepare(Aliases(), example_inputs=x).eval()
    with torch.no_grad():
        y = cimq.ops.activation(cimq.ops.activation(model.fc(x), "silu"), "sigmoid")
        assert torch.equal(model(x), y + y)


class Signal(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv1d(3, 6, 5, stride=2, padding=2, bias=False)
        self.norm = nn.BatchNorm1d(6)
        self.depthwise = nn.Conv1d(6, 6, 3, padding="same", dilation=2, groups=6)
        self.fc = nn.Linear(6 * 8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.norm(self.stem(x)))
        return self.fc(torch.flatten(F.silu(self.depthwise(x)), 1))


@pytest.mark.parametrize("offset", [False, True])
@pytest.mark.parametrize("hardware", ["ideal", "lossy and noisy"])
def test_one_dimensional_convolutions(hardware: str, offset: bool, tmp_path: Path) -> None:
    x = images(5, 3, 16)
    model = cimq.prepare(randomise(Signal()), Policy.uniform(4, 5), HARDWARE[hardware], act_offset=offset)
    cimq.calibrate(model, [x])
    bundle = cimq.export(model, tmp_path / "net.cimq", x[:3])
    assert_equal_everywhere(bundle, cimq.convert(model), x)


def test_products_that_a_bundle_cannot_hold_are_refused(tmp_path: Path) -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(6, 6)

        def forward(self, x: Tensor) -> Tensor:
            return torch.cross(self.fc(x).view(-1, 2, 3), x.view(-1, 2, 3), 2)

    x = images(2, 6)
    with pytest.raises(ValueError, match="cross"):
        cimq.export(cimq.prepare(Scaled(), example_inputs=x), tmp_path / "net.cimq", x)
