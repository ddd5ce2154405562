"""The shared weights of a search."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import cimq
from cimq.policy_search import SearchSpace
from cimq.policy_search import workbench as workbench_module
from cimq.policy_search.any_bits import drawn_policy, train_any_bits

# The network of these tests is trained in fp32 first.
pytestmark = pytest.mark.filterwarnings("ignore:finetune. Sequential has no quantised layers")


def test_draws_are_of_the_space_and_hold_its_ends(space: SearchSpace) -> None:
    drawn = [drawn_policy(space, 3, 1, step) for step in range(64)]
    assert drawn == [drawn_policy(space, 3, 1, step) for step in range(64)]
    assert all(space.contains(policy) for policy in drawn)
    assert drawn[0] == drawn[8] == space.widest
    fewest = space.assigned([slot.pairs[-1] for slot in space.slots])
    assert drawn[4] == drawn[12] == fewest
    assert len(set(drawn)) > 40
    assert drawn_policy(space, 3, 2, 1) != drawn_policy(space, 3, 1, 1) != drawn_policy(space, 4, 1, 1)
    for index, slot in enumerate(space.slots):
        assert {policy[slot.layers[0]] for policy in drawn} == set(slot.pairs), index


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(16, 40), nn.ReLU(), nn.Linear(40, 40), nn.ReLU(), nn.Linear(40, 6))


def data(count: int, seed: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    centres = torch.randn(6, 16, generator=torch.Generator().manual_seed(0))
    y = torch.arange(count * 30) % 6
    x = centres[y] + 0.5 * torch.randn(len(y), 16, generator=torch.Generator().manual_seed(seed))
    return list(zip(x.split(30), y.split(30), strict=True))


def run(out: Path, resume: bool = False) -> Any:
    model = net()
    cimq.finetune(model, data(6, 1), epochs=3, lr=0.1, progress=False)
    return cimq.search(
        model, data(6, 1), val_loader=data(8, 2), hardware=cimq.Hardware.preset("paper").replace(rows=16, cols=16),
        max_accuracy_drop=0.03, evaluations=16, batch=4, finalists=1, out=out, resume=resume, progress=False,
    )  # fmt: skip


def test_a_search_that_is_interrupted_in_the_shared_training_ends_as_if_it_had_not_been(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = run(tmp_path / "whole")

    def interrupted(prepared: nn.Module, *rest: Any, epochs: int, **options: Any) -> None:
        train_any_bits(prepared, *rest, epochs=epochs, **options)
        state = torch.load(tmp_path / "cut" / "shared.pt", weights_only=True)
        assert len(state["history"]) == epochs
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(workbench_module, "train_any_bits", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path / "cut")
    assert (tmp_path / "cut" / "evaluations.jsonl").read_text() == ""
    again = run(tmp_path / "cut", resume=True)
    assert again.policy == whole.policy
    assert again.accuracy == whole.accuracy
    logs = [
        [{k: v for k, v in json.loads(line).items() if k != "seconds"} for line in path.read_text().splitlines()]
        for path in (tmp_path / "whole" / "evaluations.jsonl", tmp_path / "cut" / "evaluations.jsonl")
    ]
    assert logs[0] == logs[1]


def test_without_resume_old_shared_weights_are_not_taken_up(tmp_path: Path) -> None:
    (tmp_path / "shared.pt").write_bytes(b"no checkpoint")
    assert run(tmp_path).policy is not None
