"""cimq search: configurations, their mistakes, and the way to the report."""

from __future__ import annotations

import inspect
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from cli_commands import cimq_command, refused, write
from devices import each_device

import cimq
from cimq.cli.search_config import _TYPES, read_search_config
from cimq.hardware import Hardware

FACTORIES = """
import torch
from torch.utils.data import DataLoader, TensorDataset

def model():
    return torch.nn.Linear(4, 2)

def loader():
    x = torch.randn(90, 4, generator=torch.Generator().manual_seed(0))
    return DataLoader(TensorDataset(x, (x.sum(1) > 0).long()), batch_size=90)

def many_layers():
    torch.manual_seed(0)
    layers = [torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2)]
    return torch.nn.Sequential(*layers)

def metric(output, target):
    return 1.0

constant = 3
"""


@pytest.fixture
def factories(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Name of a module with factories, in tmp_path."""
    name = f"factories_{tmp_path.name}".replace("-", "_")
    (tmp_path / f"{name}.py").write_text(FACTORIES)
    monkeypatch.setattr(sys, "path", list(sys.path))
    return name


def config(name: str, **changes: Any) -> dict[str, Any]:
    base = {"model": f"{name}:model", "data": f"{name}:loader", "max_accuracy_drop": 0.01, "out": "runs/x"}
    return {key: value for key, value in {**base, **changes}.items() if value is not ...}


def test_search_config_becomes_arguments(tmp_path: Path, factories: str) -> None:
    content = config(factories, hardware={"base": "paper-2b", "rows": 64}, metric=f"{factories}:metric", seed=3)
    arguments = read_search_config(write(tmp_path, content, "c.yaml"))
    assert type(arguments.pop("model")).__name__ == "Linear"
    assert len(arguments.pop("loader")) == 1
    assert arguments.pop("metric_fn")(0, 0) == 1.0
    assert arguments.pop("hardware").cell_bits == 2
    assert arguments == {"max_accuracy_drop": 0.01, "out": tmp_path / "runs/x", "seed": 3}
    within_cost = config(factories, max_accuracy_drop=..., min_speedup=2.5)
    assert read_search_config(write(tmp_path, within_cost, "c.yaml"))["min_speedup"] == 2.5
    axes = read_search_config(write(tmp_path, config(factories, adc_bits=[4, 8], mappings=["offset"]), "c.yaml"))
    assert (axes["adc_bits"], axes["mappings"]) == ((4, 8), ["offset"])
    Hardware(rows=32).save(tmp_path / "machine.yaml")
    by_file = config(factories, hardware="machine.yaml")
    assert read_search_config(write(tmp_path, by_file, "c.yaml"))["hardware"].rows == 32


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"modle": "x"}, "unknown key 'modle' (did you mean 'model'?); allowed: model, data"),
        ({"out": ...}, "it lacks out"),
        ({"max_accuracy_drop": ...}, "it lacks max_accuracy_drop or min_speedup"),
        ({"min_speedup": "fast"}, 'min_speedup must be of type int or float or null, got "fast"'),
        ({"evaluations": "many"}, 'evaluations must be of type int or null, got "many"'),
        ({"evaluations": True}, "evaluations must be of type int or null, got true"),
        ({"first_last_bits": "8"}, 'first_last_bits must be of type int or null, got "8"'),
        ({"resume": 1}, "resume must be of type bool, got 1"),
        ({"model": "model"}, 'model must have the form "package.module:function", got "model"'),
        ({"model": 3}, 'model must have the form "package.module:function", got 3'),
        ({"model": "no_such_module_here:f"}, "model: there is no module 'no_such_module_here'"),
        ({"data": "json:nothing"}, "data: module 'json' has no function 'nothing'"),
        ({"device": "nowhere"}, "device must be a device that is there, such as cpu, cuda or cuda:1, got 'nowhere' ("),
        ({"device": "fpga:0"}, "device must be a device that is there, such as cpu, cuda or cuda:1, got 'fpga:0' ("),
        ({"device": 0}, "device must be of type str or null, got 0"),
        ({"hardware": 3}, "hardware must be a preset, a file or an object with fields, got 3"),
        ({"hardware": {"rows": 0}}, "hardware: rows must be an integer from 1 to 65536, got 0"),
    ],
)
def test_wrong_search_configs_are_one_sentence(
    tmp_path: Path, factories: str, changes: dict[str, Any], reason: str
) -> None:
    path = write(tmp_path, config(factories, **changes), "c.yaml")
    sentence = refused("search", path)
    assert sentence.startswith(f"cimq: search configuration {path}: ")
    assert reason in sentence


def test_search_then_report(tmp_path: Path, factories: str) -> None:
    options = {"evaluations": 4, "strategy": "random", "finetune_epochs": 1, "bits": [4, 8], "max_accuracy_drop": 1.0}
    data = {"model": f"{factories}:many_layers", "val_data": f"{factories}:loader"}
    path = write(tmp_path, config(factories, **data, **options), "c.yaml")
    command = [sys.executable, "-m", "cimq"]
    subprocess.run([*command, "search", str(path)], cwd=tmp_path, capture_output=True, text=True, check=True)
    result = json.loads((tmp_path / "runs/x/result.json").read_text())
    assert result["strategy"] == "random"
    assert cimq.Policy.load(tmp_path / "runs/x/policy.json").names == ("0", "2", "4")
    done = cimq_command("report", tmp_path / "runs/x")
    assert (done.exit_code, done.stdout) == (0, f"wrote {tmp_path / 'runs/x/report.html'}\n")
    assert "found policy" in (tmp_path / "runs/x/report.html").read_text()


@pytest.mark.parametrize("device", each_device())
def test_a_search_config_puts_the_model_on_a_device(tmp_path: Path, factories: str, device: str) -> None:
    arguments = read_search_config(write(tmp_path, config(factories, device=device), "c.yaml"))
    assert "device" not in arguments
    assert next(arguments["model"].parameters()).device.type == device


def test_search_config_must_be_a_mapping(tmp_path: Path) -> None:
    assert "it must hold keys with values, got list" in refused("search", write(tmp_path, "[]", "c.json"))


# ---- bundles ----


def test_every_plain_argument_of_search_has_a_key_that_takes_its_default() -> None:
    given_otherwise = {"model", "loader", "val_loader", "hardware", "loss_fn", "metric_fn", "forward_fn", "progress"}
    plain = {k: v for k, v in inspect.signature(cimq.search).parameters.items() if k not in given_otherwise}
    assert set(plain) <= set(_TYPES)
    for name, parameter in plain.items():
        default = list(parameter.default) if isinstance(parameter.default, tuple) else parameter.default
        # A result without a folder would be lost.
        assert isinstance(default, _TYPES[name]) or name == "out", name


def test_paths_start_at_the_file(tmp_path: Path, factories: str) -> None:
    content = config(factories, shared_weights="first/shared.pt", time_budget=None, finalists=None)
    arguments = read_search_config(write(tmp_path, content, "c.yaml"))
    assert arguments["shared_weights"] == tmp_path / "first/shared.pt"
    assert arguments["out"] == tmp_path / "runs/x"
    assert (arguments["time_budget"], arguments["finalists"]) == (None, None)
    path = write(tmp_path, config(factories, shared_weights=None), "c.yaml")
    assert read_search_config(path)["shared_weights"] is None
