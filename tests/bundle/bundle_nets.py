"""Networks, hardware and a bundle written by hand for the tests of bundles."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn

import cimq
from cimq import Hardware, Policy
from cimq.bundle.folder import write_manifest
from cimq.bundle.network import CrossbarFacts, Network, Node

HARDWARE: dict[str, Hardware] = {
    "ideal": Hardware.preset("paper").replace(rows=32, cols=32),
    "lossy": Hardware.preset("paper").replace(rows=32, cols=32, cell_bits=2, adc={"bits": 5}),
    "noisy": Hardware.preset("paper").replace(
        rows=32, cols=32, cell_bits=2, cell={"programming": {"model": "gaussian", "sigma_levels": 0.2}}
    ),
    "lossy and noisy": Hardware.preset("paper").replace(
        rows=16,
        cols=32,
        cell_bits=2,
        mapping="offset",
        adc={"bits": 6},
        cell={"programming": {"model": "gaussian", "sigma_levels": 0.2}},
    ),
    "everything": Hardware.preset("rram-wan2022").replace(
        rows=32,
        cols=24,
        adc={"bits": 7},
        cell={
            "read": {"model": "proportional", "sigma_ratio": 0.02},
            "stuck_at": {"hrs_rate": 0.002, "lrs_rate": 0.001},
            "drift": {"nu": 0.02, "nu_sigma": 0.005, "time_s": 1000.0},
        },
        wires={"word_line_ohm": 1.0, "bit_line_ohm": 1.0},
    ),
    "columns": Hardware.preset("paper").replace(
        rows=24,
        cell_bits=2,
        mapping="offset",
        adc={"bits": 5, "range": "calibrated", "granularity": "column"},
        cell={"programming": {"model": "gaussian", "sigma_levels": 0.2}},
    ),
    "row pairs": Hardware.preset("paper").replace(rows=24, mapping="differential_row", dac_bits=2, adc={"bits": 7}),
}


class Block(nn.Module):
    """Residual block; with option-A shortcut (strided slice and zero channels) where it grows."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.grow = outputs - inputs

    def forward(self, x: Tensor) -> Tensor:
        out = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        if self.grow:
            x = F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.grow // 2, self.grow - self.grow // 2))
        return F.relu(out + x)


class Residual(nn.Module):
    """CIFAR-style ResNet in small."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(4)
        self.blocks = nn.Sequential(Block(4, 4, 1), Block(4, 8, 2))
        self.fc = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.blocks(F.relu(self.bn(self.conv(x))))
        x = F.avg_pool2d(x, x.size()[3])
        return self.fc(x.view(x.size(0), -1))


class Varied(nn.Module):
    """Asymmetric padding, dilation, groups, depthwise, clamps, every pooling, a normalisation that cannot be folded."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 6, (2, 3), stride=(2, 1), padding="valid", bias=True)
        self.depthwise = nn.Conv2d(6, 6, 3, padding=2, dilation=2, groups=6)
        self.grouped = nn.Conv2d(6, 8, 3, padding=1, groups=2, bias=False)
        self.bn = nn.BatchNorm2d(8)
        self.even = nn.Conv2d(8, 8, 2, padding="same")
        self.input_bn = nn.BatchNorm2d(3)
        self.pool = nn.AvgPool2d(3, 2, 1, count_include_pad=False)
        self.fc1 = nn.Linear(8 * 2 * 3, 7)
        self.fc2 = nn.Linear(7, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.input_bn(x)
        x = F.relu6(self.conv1(F.pad(x, (1, 0, 0, 1))))
        x = self.depthwise(x).clamp(-1.5, 2.0)
        x = F.max_pool2d(F.relu(self.bn(self.grouped(x))), 3, 2, 1)
        x = torch.cat([self.even(x)[:, :4], x[:, 4:]], 1)
        x = self.pool(x)
        x = torch.flatten(x, 1)
        return self.fc2(F.relu(self.fc1(x)))


def randomise(model: nn.Module, seed: int = 0) -> nn.Module:
    """Seeded weights and batch statistics away from their defaults."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if not tensor.is_floating_point():
                continue
            if name.endswith("running_var") or (tensor.dim() == 1 and name.endswith("weight")):
                tensor.copy_(torch.rand(tensor.shape, generator=generator) + 0.5)
            else:
                spread = max(1, tensor[0].numel()) ** -0.5 if tensor.dim() > 1 else 0.2
                tensor.copy_(torch.randn(tensor.shape, generator=generator) * spread)
    return model


def images(batch: int, *shape: int, seed: int = 1) -> Tensor:
    return torch.randn(batch, *shape, generator=torch.Generator().manual_seed(seed))


def converted(model: nn.Module, x: Tensor, hardware: Any = "paper", policy: Policy | None = None) -> nn.Module:
    """Prepared, calibrated on `x`, and converted."""
    prepared = cimq.prepare(randomise(model), policy or Policy.uniform(4, 5), hardware=hardware, example_inputs=x)
    return cimq.convert(prepared.eval(), sample_input=x)


def handmade_network() -> Network:
    """x [4] -> linear (ideal weights by hand) -> relu."""
    weight = torch.tensor([[1, -2, 3, 0], [7, -7, 5, 4], [0, 0, 0, -1]], dtype=torch.int8)
    facts = CrossbarFacts("fc", 0, 4, 3, False, 3, 4, 1, 1)
    linear = Node(
        "fc",
        "crossbar_linear",
        ("x",),
        (3,),
        {},
        {
            "weight": weight,
            "x_scale": torch.tensor(0.5),
            "multiplier": torch.tensor([0.25, 0.5, 1.0]),
            "bias": torch.tensor([0.0, -1.0, 2.0]),
        },
        facts,
    )
    return Network("x", (4,), "relu", (linear, Node("relu", "relu", ("fc",), (3,))))


def handmade_result(x: Tensor) -> tuple[Tensor, Tensor]:
    """(Y, output) of the network above, from its definition."""
    node = handmade_network().nodes[0]
    x_q = torch.clamp(torch.round(x / 0.5), 0, 7).to(torch.int32)
    Y = x_q @ node.tensors["weight"].to(torch.int32).t()
    return Y, torch.relu(Y.float() * node.tensors["multiplier"] + node.tensors["bias"])


def write_handmade(folder: Path, hardware: Hardware = HARDWARE["ideal"]) -> Path:
    """The network above as a bundle, without cimq.export."""
    network = handmade_network()
    folder.mkdir()
    x = torch.tensor([[0.0, 0.4, 1.0, 9.0], [0.75, 1.25, 1.75, 2.25]])
    Y, y = handmade_result(x)
    (folder / "layers.json").write_text(network.layers_json())
    (folder / "hardware.json").write_text(hardware.to_json())
    (folder / "weights.safetensors").write_bytes(network.weights())
    Policy({"fc": (4, 3)}).save(folder / "policy.json")
    save_file({"input": x, "layer.fc": Y, "output": y}, folder / "expected.safetensors")
    write_manifest(folder, [path.name for path in folder.iterdir()], {})
    return folder
