"""The network and the data of the tests of whole models on a device, small enough for an emulated one."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import cimq

NARROW = {"bits": 5, "range": "calibrated"}
LOSSY = cimq.Hardware.preset("paper").replace(rows=16, cols=32, adc=NARROW)
NOISY = LOSSY.replace(cell={"programming": {"model": "gaussian", "sigma_levels": 0.3}})


class Network(nn.Module):
    """Convolutions with batch normalisation, a sum, attention, layer normalisation, and a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(2, 8, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(8)
        self.conv2 = nn.Conv2d(8, 8, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(8)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.norm = nn.LayerNorm(8)
        self.fc = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x / 0.7)))
        y = F.relu(y + self.bn2(self.conv2(y)))
        y = F.avg_pool2d(y, 2).flatten(2).transpose(1, 2)
        y = self.norm(y + self.attention(y, y, y, need_weights=False)[0])
        logits: Tensor = self.fc(y.mean(1))
        return logits


def network(seed: int = 0) -> Network:
    """Trained a little, so that it has something to lose."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Network()
        optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
        for _ in range(3):
            for x, y in batches():
                optimizer.zero_grad()
                F.cross_entropy(model(x), y).backward()
                optimizer.step()
        return model.eval()


def batches(count: int = 4, size: int = 3) -> list[tuple[Tensor, Tensor]]:
    """Images of three classes, on the CPU as loaders give them."""
    generator = torch.Generator().manual_seed(1)
    y = [torch.arange(size) % 3 for _ in range(count)]
    x = [torch.rand(size, 2, 4, 4, generator=generator) + target.reshape(-1, 1, 1, 1) / 3 for target in y]
    return list(zip(x, y, strict=True))


def sequential() -> nn.Module:
    """Two convolutions and a linear layer: for searches, which run a model often."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.ReLU(), nn.Flatten(),
            nn.Linear(16, 3),
        ).eval()  # fmt: skip


def on(device: torch.device | str, value: Any) -> Any:
    """A copy of a module's or a tensor's values on a device."""
    import copy

    return copy.deepcopy(value).to(device) if isinstance(value, nn.Module) else value.to(device)
