"""Wherever a search on cells that vary is interrupted, it continues to the same log and the same result."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import cimq
from cimq.policy_search import SearchResult
from cimq.policy_search.data import HeldBatches
from cimq.policy_search.evaluators.candidate_model import CandidateModel
from cimq.policy_search.evaluators.without_training import WithoutTraining
from cimq.policy_search.functions import UserFunctions

NOISY = cimq.Hardware.preset("rram-wan2022").replace(rows=32, cols=32)


def data(count: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Points around six centres, so near one another that noise makes mistakes."""
    generator = torch.Generator().manual_seed(0)
    centres = torch.randn(6, 16, generator=generator)
    y = torch.arange(count * 25) % 6
    x = centres[y] + 1.2 * torch.randn(len(y), 16, generator=generator)
    return list(zip(x.split(25), y.split(25), strict=True))


@pytest.fixture(scope="module")
def net() -> nn.Module:
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Linear(16, 24), nn.BatchNorm1d(24), nn.ReLU(), nn.Linear(24, 24), nn.BatchNorm1d(24), nn.ReLU(),
        nn.Linear(24, 24), nn.ReLU(), nn.Linear(24, 6),
    )  # fmt: skip
    optimizer = torch.optim.Adam(net.parameters(), 0.01)
    for _ in range(10):
        for x, y in data(20):
            optimizer.zero_grad()
            nn.functional.cross_entropy(net(x), y).backward()
            optimizer.step()
    return net.eval()


def run(net: nn.Module, out: Path, resume: bool) -> SearchResult:
    return cimq.search(
        net, data(20), val_loader=data(44)[20:], hardware=NOISY, max_accuracy_drop=0.02, evaluations=14, seed=3,
        out=out, resume=resume, progress=False, first_last_bits=None, finalists=1,
        shared_epochs=1,
    )  # fmt: skip


def rows(out: Path) -> list[Any]:
    found = map(json.loads, (out / "evaluations.jsonl").read_text().splitlines())
    return [{key: value for key, value in row.items() if key != "seconds"} for row in found]


def test_every_truncation_continues_in_the_same_way(net: nn.Module, tmp_path: Path) -> None:
    whole = run(net, tmp_path / "whole", False)
    wanted = rows(tmp_path / "whole")
    lines = (tmp_path / "whole" / "evaluations.jsonl").read_text().splitlines(keepends=True)
    assert len({row["accuracy"] for row in wanted}) > 4  # the noise shows
    for count in (1, 5, len(lines) - 1):
        cut = tmp_path / f"cut{count}"
        cut.mkdir()
        (cut / "search.json").write_bytes((tmp_path / "whole" / "search.json").read_bytes())
        (cut / "evaluations.jsonl").write_text("".join(lines[:count]) + lines[count][:17])
        again = run(net, cut, True)
        assert rows(cut) == wanted, f"cut after {count}"
        assert (again.policy, again.accuracy) == (whole.policy, whole.accuracy)


def test_a_measurement_is_a_function_of_the_policy(net: nn.Module) -> None:
    q = cimq.prepare(net, cimq.Policy.uniform(4, 4), NOISY, example_inputs=data(1)[0][0]).eval()

    functions = UserFunctions(metric=lambda out, y: out.double().square().mean())
    candidate = CandidateModel(q, HeldBatches(data(2)), HeldBatches(data(2)))
    widest = ((8, 8),) * 4
    policies = [widest, ((4, 4),) * 4, ((2, 3), (3, 2), (4, 4), (8, 8))]
    for evaluator in (WithoutTraining(candidate, net, functions), WithoutTraining(candidate, net, functions, 25)):
        first = list(evaluator.measure(policies))
        list(WithoutTraining(candidate, net, functions).measure(policies[1:2]))
        assert list(evaluator.measure(policies[::-1])) == first[::-1]
        assert len(set(first)) == 3


def test_batch_statistics_are_a_function_of_model_and_batches(net: nn.Module) -> None:
    q = cimq.prepare(net, cimq.Policy.uniform(4, 4), NOISY, example_inputs=data(1)[0][0])
    found = []
    for _ in range(2):
        cimq.reestimate_bn(q, data(3))
        found.append({key: value.clone() for key, value in q.state_dict().items()})
    assert all(torch.equal(value, found[1][key]) for key, value in found[0].items())
    assert all(int(value) == 0 for key, value in found[0].items() if key.endswith("noise_step"))
