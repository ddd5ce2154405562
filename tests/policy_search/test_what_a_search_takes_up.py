"""A search that is resumed takes up its own files, and nothing of another search that lies in its folder."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from small_searches import FAST, assert_same, data, rows, search, trained_network
from torch import nn

import cimq
from cimq.policy_search import workbench
from cimq.policy_search.costs import Costs, Size
from cimq.policy_search.plan import Plan

COSTS = Costs(
    step=0.01, training_step=0.01, sample=1e-5, epoch_batches=16, measured_samples=300, confirmed_samples=200,
    finetune_epochs=1, side_by_side=1,
)  # fmt: skip


@pytest.fixture(scope="module")
def net() -> nn.Module:
    return trained_network()


def test_other_finalists_than_before_are_trained(net: nn.Module, tmp_path: Path) -> None:
    before = search(net, out=tmp_path, finalists=0, max_accuracy_drop=0.1)
    log = rows(tmp_path)
    more = search(net, out=tmp_path, finalists=3, max_accuracy_drop=0.1, resume=True)
    at_once = search(net, finalists=3, max_accuracy_drop=0.1)
    assert rows(tmp_path) == log
    assert len(more.finalists) > len(before.finalists)
    assert more.plan is not None
    assert more.plan.size == Size(evaluations=14, shared_epochs=1, train_batches=None, finalists=3)
    assert_same(more, at_once)
    assert search(net, out=tmp_path, finalists=None, max_accuracy_drop=0.1, resume=True).finalists == before.finalists


def test_a_plan_of_a_search_that_did_not_begin_is_not_taken_up(
    net: nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Plan(1, 1, Size(10, 1, 2, 1), dataclasses.replace(COSTS, step=9.0), 7.0).keep(tmp_path, resume=False)
    monkeypatch.setattr(workbench.Workbench, "costs", lambda *_: COSTS)
    found = search(net, out=tmp_path, resume=True)
    assert found.plan is not None
    assert found.plan.size == Size(evaluations=14, shared_epochs=1, train_batches=None, finalists=2)
    assert Plan.read(tmp_path) == found.plan


def interrupted(*_: Any, **__: Any) -> None:
    raise KeyboardInterrupt  # before the first epoch has ended


def test_shared_weights_of_an_earlier_search_are_not_taken_up(
    net: nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    search(net, out=tmp_path / "other", finetune_lr=0.05, seed=7)
    shared = (tmp_path / "other" / "shared.pt").read_bytes()
    for name, resume in (("begun", False), ("unknown", True)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "shared.pt").write_bytes(shared)
        with monkeypatch.context() as patch:
            patch.setattr(workbench, "train_any_bits", interrupted)
            if resume:
                with pytest.raises(ValueError, match=r"search\.json is missing; .*give it as shared_weights"):
                    search(net, out=tmp_path / name, resume=True)
                assert (tmp_path / name / "shared.pt").read_bytes() == shared
            else:
                with pytest.raises(KeyboardInterrupt):
                    search(net, out=tmp_path / name)
    again = search(net, out=tmp_path / "begun", resume=True)
    plain = search(net)
    assert_same(again, plain)
    ours = torch.load(tmp_path / "begun" / "shared.pt", weights_only=True)["model"]
    others = torch.load(tmp_path / "other" / "shared.pt", weights_only=True)["model"]
    assert any(not torch.equal(value, others[key]) for key, value in ours.items())


def test_a_folder_that_is_none_is_refused_before_anything_is_done(
    net: nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("mine")
    monkeypatch.setattr(workbench, "calibrate", lambda *_, **__: pytest.fail("the model was calibrated"))
    for out in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(OSError, match="search: out must be a folder that can be written to"):
            search(net, out=out)
    assert (tmp_path / "file").read_text() == "mine"


def test_what_was_measured_on_other_data_is_refused(net: nn.Module, tmp_path: Path) -> None:
    options: dict[str, Any] = {
        **FAST,
        "shared_epochs": 0,
        "finetune_epochs": 0,
        "evaluations": 6,
        "strategy": "uniform",
    }
    val = data(40)[16:]
    cimq.search(net, data(16), val_loader=val, out=tmp_path, **options)
    others = [(x + 0.5, y) for x, y in val]
    with pytest.raises(ValueError, match="other settings: held_out_data was"):
        cimq.search(net, data(16), val_loader=others, out=tmp_path, resume=True, **options)
    cimq.search(net, data(16), val_loader=val, out=tmp_path, resume=True, **options)
