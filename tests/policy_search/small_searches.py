"""A tiny network with data, for whole searches that take seconds."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import torch
from torch import nn

import cimq

FAST: dict[str, Any] = {
    "hardware": cimq.Hardware(rows=16, cols=16), "evaluations": 14, "shared_epochs": 1, "finalists": 2, "batch": 4,
    "first_last_bits": None, "max_accuracy_drop": 0.03, "progress": False, "threads": 1,
}  # fmt: skip


def data(count: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Batches of points around six centres."""
    generator = torch.Generator().manual_seed(0)
    centres = torch.randn(6, 16, generator=generator)
    y = torch.arange(count * 20) % 6
    x = centres[y] + 1.0 * torch.randn(len(y), 16, generator=generator)
    return list(zip(x.split(20), y.split(20), strict=True))


def trained_network() -> nn.Module:
    """Classifies them."""
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Linear(16, 24), nn.BatchNorm1d(24), nn.ReLU(), nn.Linear(24, 24), nn.ReLU(), nn.Linear(24, 6)
    )
    optimizer = torch.optim.Adam(net.parameters(), 0.01)
    for _ in range(8):
        for x, y in data(16):
            optimizer.zero_grad()
            nn.functional.cross_entropy(net(x), y).backward()
            optimizer.step()
    return net.eval()


def search(net: nn.Module, **options: Any) -> cimq.SearchResult:
    """A search of seconds."""
    return cimq.search(net, data(16), val_loader=data(40)[16:], **{**FAST, **options})


class Sleeper:
    """A tool of workers that takes its time."""

    def sleep(self, seconds: float) -> None:
        """Does nothing else."""
        time.sleep(seconds)


def rows(folder: Path) -> list[dict[str, Any]]:
    """The log without times."""
    found = map(json.loads, (folder / "evaluations.jsonl").read_text().splitlines())
    return [{key: value for key, value in row.items() if key != "seconds"} for row in found]


def assert_same(found: cimq.SearchResult, wanted: cimq.SearchResult) -> None:
    """The same choice, accuracies and weights, to the last bit."""
    assert (found.policy, found.accuracy) == (wanted.policy, wanted.accuracy)
    assert [entry.accuracy for entry in found.finalists] == [entry.accuracy for entry in wanted.finalists]
    assert {name: row.accuracy for name, row in found.baselines.items()} == {
        name: row.accuracy for name, row in wanted.baselines.items()
    }
    state = found.model.state_dict()
    assert all(torch.equal(value, state[key]) for key, value in wanted.model.state_dict().items())
