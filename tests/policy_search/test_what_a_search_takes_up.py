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
from cimq.policy_search.confirmation import Confirmed
from cimq.policy_search.costs import Costs, Size
from cimq.policy_search.data import split_loaders
from cimq.policy_search.plan import Plan
from cimq.policy_search.trained_policies import TrainedPolicies, TrainedWeights

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


def test_networks_stay_on_disk_and_old_ones_of_the_front_go(net: nn.Module, tmp_path: Path) -> None:
    options: dict[str, Any] = {"max_accuracy_drop": 0.1, "shared_epochs": 0, "out": tmp_path}
    before = search(net, pareto=2, **options)
    front = tmp_path / "pareto"
    assert {path.name for path in front.iterdir()} == {"0.pt", "0.json", "1.pt", "1.json"}
    name, row = "uniform 8-bit", before.baselines["uniform 8-bit"]
    network = before.trained_models[name]
    assert set(before.trained_models) == {row.name for row in before.trained}
    assert network is not before.trained_models[name]
    confirm = split_loaders(data(16), data(40)[16:], seed=0, search_samples=2000).confirm
    assert cimq.evaluate(network, confirm, progress=False) == row.accuracy

    search(net, pareto=1, resume=True, **options)
    assert {path.name for path in front.iterdir()} == {"0.pt", "0.json"}
    (front / "mine.pt").write_text("of the user")
    for name in ("evaluations.jsonl", "search.json", "plan.json"):
        (tmp_path / name).unlink()
    again = search(net, **options)  # a new search in the same folder
    assert [path.name for path in front.iterdir()] == ["mine.pt"]
    for path in (tmp_path / "trained").iterdir():
        path.unlink()
    with pytest.raises(FileNotFoundError, match=r"left the network of .* is gone"):
        _ = again.trained_models["uniform 8-bit"]
    in_memory = search(net, max_accuracy_drop=0.1, shared_epochs=0, evaluations=6, finalists=0).trained_models
    assert in_memory["uniform 8-bit"] is in_memory["uniform 8-bit"]


def test_what_was_trained_is_found_without_reading_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = TrainedPolicies(tmp_path, {"seed": 0}, resume=True)
    policy = ((8, 8), (4, 4))
    assert not kept.holds(policy)
    kept.keep(policy, TrainedWeights(Confirmed(0.5), {"weight": torch.ones(3)}))
    mapped = []
    load = torch.load
    monkeypatch.setattr(torch, "load", lambda *a, **options: mapped.append(options["mmap"]) or load(*a, **options))
    assert kept.holds(policy)
    assert mapped == [True]
    assert not TrainedPolicies(tmp_path, {"seed": 1}, resume=True).holds(policy)
    (path,) = (tmp_path / "trained").iterdir()
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match="is damaged"):
        kept.holds(policy)


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


def test_other_functions_and_training_data_are_refused(net: nn.Module, tmp_path: Path) -> None:
    options: dict[str, Any] = {
        **FAST, "shared_epochs": 0, "finetune_epochs": 0, "evaluations": 6, "strategy": "uniform",
    }  # fmt: skip
    train, val = data(40)[:16], data(40)[16:]

    def again(loader: Any = train, **changes: Any) -> None:
        cimq.search(net, loader, val_loader=val, out=tmp_path, resume=True, **{**options, **changes})

    cimq.search(net, train, val_loader=val, out=tmp_path, **options)
    with pytest.raises(ValueError, match=r"functions was .*default.*, is .*CrossEntropyLoss"):
        again(loss_fn=nn.CrossEntropyLoss())
    with pytest.raises(ValueError, match=r'training_data was \{"batches": 16, .*, is \{"batches": 15, '):
        again(train[:15])
    again()
