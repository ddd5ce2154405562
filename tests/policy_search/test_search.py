"""cimq.search on scikit-learn's digits with a tiny network."""

from __future__ import annotations

import copy
import json
import random
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

import cimq
from cimq import CimqWarning
from cimq.policy_search.data import split_loaders
from cimq.quantization import get_policy
from cimq.torch_tools.batches import random_state

datasets = pytest.importorskip("sklearn.datasets")

FAST: dict[str, Any] = {
    "evaluations": 16, "shared_epochs": 1, "finetune_epochs": 1, "finalists": 2, "batch": 4, "progress": False
}  # fmt: skip


def digits() -> TensorDataset:
    images, targets = datasets.load_digits(return_X_y=True)
    x = torch.tensor(images, dtype=torch.float32).reshape(-1, 1, 8, 8) / 16
    return TensorDataset(x, torch.tensor(targets))


def network() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 16, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 16, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(64, 10),
    )


@pytest.fixture(scope="module")
def model() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = network()
        optimizer = torch.optim.Adam(net.parameters(), 0.01)
        for _ in range(4):
            for x, y in DataLoader(digits(), batch_size=64, shuffle=True):
                optimizer.zero_grad()
                nn.functional.cross_entropy(net(x), y).backward()
                optimizer.step()
    return net.eval()


def search(model: nn.Module, loader: Any = None, **options: Any) -> cimq.SearchResult:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CimqWarning)
        loader = DataLoader(digits(), batch_size=64, shuffle=True) if loader is None else loader
        return cimq.search(model, loader, **{**FAST, **options})


def records(folder: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (folder / "evaluations.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k != "seconds"} for line in lines]


def test_two_arguments_are_enough_and_nothing_of_the_users_changes(model: nn.Module) -> None:
    before = copy.deepcopy(model.state_dict())
    torch_state, numpy_state, python_state = torch.get_rng_state(), np.random.get_state(), random.getstate()
    loader = DataLoader(digits(), batch_size=64, shuffle=True)
    with pytest.warns(CimqWarning, match="no val_loader given"):
        result = cimq.search(model, loader, **{**FAST, "evaluations": 12})
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    assert torch.equal(torch_state, torch.get_rng_state())
    assert python_state == random.getstate()
    assert all(np.array_equal(a, b) for a, b in zip(numpy_state, np.random.get_state(), strict=True))
    assert isinstance(result.policy, cimq.Policy)
    assert len(result.evaluations) <= 12
    assert result.accuracy >= result.reference_accuracy - 0.01
    assert get_policy(result.model) == result.policy
    assert not result.model.training
    assert result.accuracy > 0.9
    assert {"fp32", "uniform 8-bit"} < set(result.baselines)
    trained = {row.name: row for row in result.trained}
    assert all(row.search_accuracy is not None for row in trained.values())
    for name in trained.keys() & result.baselines.keys():
        assert trained[name] == result.baselines[name]
    times = [e.time_us for e in result.pareto]
    assert times == sorted(times)
    assert "found policy" in str(result)


class Jittered(Dataset[Any]):
    """Digits with a transform that draws, from the global random state, as augmentations do."""

    def __init__(self) -> None:
        self.digits = digits()

    def __len__(self) -> int:
        return len(self.digits)

    def __getitem__(self, index: int) -> Any:
        x, y = self.digits[index]
        return x + 0.3 * torch.randn(x.shape) + float(np.random.rand()) * 0.01, y


@pytest.mark.parametrize("with_validation_data", [False, True])
def test_transforms_that_draw_depend_on_the_seed_and_leave_the_random_state(
    model: nn.Module, with_validation_data: bool
) -> None:
    found = []
    for start in (1, 2):
        torch.manual_seed(start)
        np.random.seed(start)
        before = random_state()
        loader = DataLoader(Jittered(), batch_size=64, shuffle=True)
        val_loader = DataLoader(Jittered(), batch_size=64) if with_validation_data else None
        options = {"evaluations": 8, "shared_epochs": 0, "finetune_epochs": 0, "strategy": "uniform"}
        found.append(search(model, loader, val_loader=val_loader, **options))
        assert random_state() == before
    assert [e.damage for e in found[0].evaluations] == [e.damage for e in found[1].evaluations]
    assert found[0].accuracy == found[1].accuracy


def test_the_result_never_loses_to_a_uniform_policy_that_satisfies(model: nn.Module) -> None:
    result = search(model, max_accuracy_drop=0.05)
    for baseline in result.baselines.values():
        if baseline.accuracy is not None and baseline.time_us is not None:  # trained
            satisfies = baseline.accuracy >= result.reference_accuracy - 0.05
            assert not satisfies or result.latency.time_us <= baseline.time_us
    assert result.latency.speedup > 1


def test_the_same_seed_gives_the_same_search_and_an_interrupted_one_continues(
    model: nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = search(model, out=tmp_path / "whole")
    again = search(model, out=tmp_path / "again")
    assert records(tmp_path / "whole") == records(tmp_path / "again")
    assert whole.policy == again.policy
    assert whole.accuracy == again.accuracy

    from cimq.policy_search.evaluators.without_training import WithoutTraining

    measured = []
    original = WithoutTraining.measure

    def interrupted(self: WithoutTraining, policies: Any) -> Any:
        for policy, found in zip(policies, original(self, policies), strict=True):
            if len(measured) == 9:
                raise KeyboardInterrupt
            measured.append(policy)
            yield found

    with monkeypatch.context() as patch:
        patch.setattr(WithoutTraining, "measure", interrupted)
        assert search(model, out=tmp_path / "cut").interrupted  # in the middle of the sensitivities
    assert 0 < len(records(tmp_path / "cut")) < 16
    with pytest.raises(ValueError, match="resume=True"):
        search(model, out=tmp_path / "cut")
    with pytest.raises(ValueError, match=r"other settings: .*seed was 0, is 1"):
        search(model, out=tmp_path / "cut", seed=1, resume=True)
    resumed = search(model, out=tmp_path / "cut", resume=True)
    assert records(tmp_path / "cut") == records(tmp_path / "whole")
    assert resumed.policy == whole.policy
    assert resumed.accuracy == whole.accuracy


@pytest.mark.parametrize("strategy", ["random", "uniform"])
def test_other_strategies_share_evaluator_and_budget(model: nn.Module, tmp_path: Path, strategy: str) -> None:
    small = cimq.Hardware(rows=16, cols=16)  # on large arrays there are fewer than 10 different uniform policies
    result = search(model, strategy=strategy, evaluations=10, finetune_epochs=0, out=tmp_path, hardware=small)
    assert len(result.evaluations) == 10
    assert {e.strategy for e in result.evaluations} == {"baseline", strategy}
    written = json.loads((tmp_path / "result.json").read_text())
    assert written["schema"] == "cimq.result"
    names = [row["name"] for row in written["rows"]]
    assert (names[:2], names[-1]) == (["fp32", "uniform 8-bit"], "found policy")
    uniform = {row["name"] for row in written["trained"] if row["name"].startswith("uniform")}
    assert set(names) == {"fp32", "uniform 4-bit", "found policy", *uniform}  # slower ones first
    assert written["evaluations"] == 10
    assert [layer["name"] for layer in written["layers"]] == list(result.policy)
    assert sum(layer["time_us"] for layer in written["layers"]) == pytest.approx(result.latency.time_us)
    assert written["reference"]["accuracy"] == result.reference_accuracy
    assert cimq.Policy.load(tmp_path / "policy.json") == result.policy
    assert written["rows"][-1]["policy"] == [list(pair) for pair in result.policy.pairs()]


def test_a_metric_and_a_loss_of_ones_own(model: nn.Module) -> None:
    def negative_loss(output: Any, target: Any) -> Any:
        return -nn.functional.cross_entropy(output, target)

    result = search(
        model,
        evaluations=8,
        metric_fn=negative_loss,
        loss_fn=lambda output, target: nn.functional.cross_entropy(output, target),
        max_accuracy_drop=0.2,
    )
    assert result.accuracy < 0
    assert result.accuracy >= result.reference_accuracy - 0.2


def test_evaluation_is_a_function_of_the_policy(model: nn.Module) -> None:
    """Batch statistics of one candidate must not leak into the next."""
    first = search(model, strategy="uniform", evaluations=24, finetune_epochs=0)
    by_policy = {e.policy: e.accuracy for e in first.evaluations}
    second = search(model, strategy="random", evaluations=24, finetune_epochs=0)
    shared = [e for e in second.evaluations if e.policy in by_policy]
    assert len(shared) >= 5
    assert all(e.accuracy == by_policy[e.policy] for e in shared)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"workers": 0}, "workers must be None (this process), a number of local processes of at least 1, or the"),
        ({"workers": True}, "workers must be None"),
        ({"workers": ""}, "workers must be None"),
        ({"threads": 0}, "threads must be None or at least 1, got 0"),
        (
            {"strategy": "magic"},
            "strategy must be one of auto, thompson, pairwise, knapsack, evolution, reinforce, random, uniform",
        ),
        ({"max_accuracy_drop": -0.1}, "max_accuracy_drop must be a fraction of at least 0"),
        ({"evaluations": 0}, "evaluations must be an integer of at least 1"),
        ({"batch": 1}, "batch must be an integer of at least 2"),
        ({"bits": (2, 9)}, "bits must satisfy"),
        ({"finalists": -1}, "finalists must be an integer of at least 0"),
        ({"finetune_epochs": -1}, "finetune_epochs must be an integer of at least 0"),
        ({"seed": -1}, "seed must be in 0..2^64-1"),
        ({"calibration_batches": 0}, "calibration_batches must be an integer of at least 1"),
        ({"rung_policies": -1}, "rung_policies must be an integer of at least 0"),
        ({"pareto": 2.0}, "pareto must be an integer of at least 0, got 2.0"),
        ({"finalists": True}, "finalists must be an integer of at least 0, got True"),
        ({"batch": None}, "batch must be an integer of at least 2, got None"),
        ({"bn_batches": 0}, "bn_batches must be an integer of at least 1, got 0"),
        ({"search_samples": 0}, "search_samples must be an integer of at least 1, got 0"),
        ({"seed": 1.5}, "seed must be in 0..2^64-1, got 1.5"),
        ({"finetune_lr": float("nan")}, "search: finetune_lr must be above 0, got nan"),
        ({"pareto": -1}, "pareto must be an integer of at least 0"),
        ({"rung_policies": 16, "evaluations": 8}, "evaluations must be more than the 8 that rung_policies=16 takes"),
    ],
)
def test_errors(model: nn.Module, options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        search(model, **options)
    assert words in str(caught.value)


@pytest.mark.parametrize("name", ["max_accuracy_drop", "finetune_lr"])
def test_what_is_no_number_is_refused(model: nn.Module, name: str) -> None:
    with pytest.raises(TypeError, match=f"search: {name} must be a number, got '0.1'"):
        search(model, **{name: "0.1"})


def test_a_result_that_does_not_obey_what_was_asked_for_is_named(model: nn.Module) -> None:
    options = {"bits": (2, 3), "first_last_bits": 2, "max_accuracy_drop": 0.0, "finetune_epochs": 0, "shared_epochs": 0}
    loader = DataLoader(digits(), batch_size=64)
    with pytest.warns(CimqWarning, match=r"obeys bits=\(2, 3\), first_last_bits=2, .* the result is 8 bits everywhere"):
        result = cimq.search(model, loader, val_loader=loader, **{**FAST, "evaluations": 6, **options})
    assert set(result.policy.pairs()) == {(8, 8)}


def test_settings_are_checked_before_data_is_read(model: nn.Module) -> None:
    class Data(list[Any]):
        def __iter__(self) -> Any:
            pytest.fail("data were read")

    for wrong in ({"evaluations": 0}, {"bits": (2, 9)}, {"hardware": "papper"}, {"first_last_bits": 9}):
        with pytest.raises(ValueError, match=r"search:|papper"):
            cimq.search(model, Data(), val_loader=Data(), **wrong)


def test_a_stream_asks_for_val_loader(model: nn.Module) -> None:
    with pytest.raises(ValueError, match="give val_loader as well"):
        search(model, iter([]))
    with pytest.raises(TypeError, match=r"takes an nn\.Module"):
        cimq.search("model", [])


def test_rungs_drops_and_the_trained_front_are_in_the_result(model: nn.Module, tmp_path: Path) -> None:
    options = {"evaluations": 40, "rung_policies": 2, "pareto": 2, "max_accuracy_drop": 0.05}
    result = search(model, out=tmp_path, **options)
    assert {(c.lower, c.higher) for c in result.rungs} >= {
        ("additive proxy", "calibrated"), ("calibrated", "shared weights"), ("shared weights", "short training")
    }  # fmt: skip
    assert all(c.count >= 16 for c in result.rungs if c.higher != "short training")
    assert result.ranking == "shared weights"
    assert {e.rung for e in result.evaluations} == {"shared weights"}
    spent = len(result.evaluations) + 0.25 * 2 * 16
    assert spent <= 40

    held_out = 179  # a tenth of the images, of which each is right or wrong
    assert result.drop == result.reference_accuracy - result.accuracy
    assert result.confirmation is not None
    assert result.confirmation.units == held_out
    assert result.confirmation.drop == pytest.approx(result.drop, abs=1e-6)
    low, high = result.drop_interval or (1.0, -1.0)
    assert low < result.drop < high
    assert f"{held_out} samples" in result.verdict
    assert result.verdict in str(result)
    assert all(row.drop is not None for row in result.trained)
    assert {row.name for row in result.trained} > {"uniform 8-bit"}

    assert len(result.pareto_models) == 2
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CimqWarning)
        confirm = split_loaders(DataLoader(digits(), batch_size=64), None, seed=0, search_samples=2000).confirm
    for found in result.pareto_models:
        network = found.model
        assert network is not found.model  # read anew
        assert get_policy(network) == found.policy
        assert cimq.evaluate(network, confirm, progress=False) == found.accuracy
        assert found.path is not None
        assert cimq.Policy.load(found.path.with_suffix(".json")) == found.policy
    written = json.loads((tmp_path / "result.json").read_text())
    assert [entry["file"] for entry in written["pareto_models"]] == ["pareto/0.pt", "pareto/1.pt"]
    assert len(written["rungs"]) == len(result.rungs)
    assert written["verdict"] == result.verdict
    for path in (tmp_path / "pareto").glob("*.pt"):
        path.unlink()
    with pytest.raises(FileNotFoundError, match="is gone"):
        _ = result.pareto_models[0].model
    in_memory = search(model, **options)
    assert in_memory.pareto_models[0].path is None
    assert [found.accuracy for found in in_memory.pareto_models] == [e["accuracy"] for e in written["pareto_models"]]
    assert get_policy(in_memory.pareto_models[0].model) == in_memory.pareto_models[0].policy


def test_without_shared_weights_the_calibrated_model_ranks(model: nn.Module) -> None:
    result = search(model, evaluations=40, rung_policies=1, shared_epochs=0, finetune_epochs=0)
    assert result.ranking == "calibrated"
    assert ("additive proxy", "calibrated") in {(c.lower, c.higher) for c in result.rungs}


def test_on_a_large_set_candidates_race(model: nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cimq.policy_search.workbench.RACING_SAMPLES", 100)
    options = {"evaluations": 24, "finetune_epochs": 0, "strategy": "random"}
    result = search(model, out=tmp_path, **options)
    shares = [e.share for e in result.evaluations]
    baselines = sum(e.strategy == "baseline" for e in result.evaluations)
    assert set(shares[:baselines]) == {1.0}
    assert 0.25 in shares[baselines:]
    assert len(shares) > 24
    assert sum(shares) <= 24.25
    lines = (tmp_path / "evaluations.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "evaluations.jsonl").write_text("".join(lines[: baselines + 3]))
    resumed = search(model, out=tmp_path, resume=True, **options)
    assert [e.damage for e in resumed.evaluations] == [e.damage for e in result.evaluations]
    assert resumed.policy == result.policy
