"""A search that takes a second: a network of small integers, and data that it classifies without error."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

import cimq


def _integers(count: int, top: int, start: int) -> torch.Tensor:
    """Pseudo-random integers in -top .. top; the same wherever this runs."""
    values, state = [], start
    for _ in range(count):
        state = (1103515245 * state + 12345) % 2**31
        values.append((state >> 16) % (2 * top + 1) - top)
    return torch.tensor(values, dtype=torch.float32)


def network() -> nn.Sequential:
    net = nn.Sequential(nn.Linear(16, 40), nn.ReLU(), nn.Linear(40, 20), nn.ReLU(), nn.Linear(20, 6))
    with torch.no_grad():
        for number, parameter in enumerate(net.parameters()):
            parameter.copy_(_integers(parameter.numel(), 9, number).reshape(parameter.shape) / 16)
    return net.eval()


def batches(net: nn.Module, count: int, start: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    x = _integers(count * 50 * 16, 16, start).reshape(-1, 16) / 16
    with torch.no_grad():
        return list(zip(x.split(50), net(x).argmax(1).split(50), strict=True))


def run(out: Path, strategy: str, resume: bool = False) -> Any:
    net = network()
    hardware = cimq.Hardware.preset("paper").replace(rows=16, cols=16, cell_bits=2)
    return cimq.search(
        net, batches(net, 4, 100), val_loader=batches(net, 12, 200), hardware=hardware, max_accuracy_drop=0.05,
        evaluations=24, strategy=strategy, seed=5, out=out, resume=resume, finetune_epochs=0, finalists=2, batch=4,
        first_last_bits=None, progress=False,
    )  # fmt: skip
