"""cimq.cli: outputs, exit codes, and one sentence instead of a traceback."""

from __future__ import annotations

import dataclasses
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from typer.testing import CliRunner, Result

import cimq
from cimq.cli import app
from cimq.cli.search_config import read_search_config
from cimq.hardware import Hardware

PUBLISHED = Path(__file__).parent / "data" / "policies_date2026.json"


def cimq_command(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def refused(*arguments: str | Path) -> str:
    """The one sentence on stderr; checks exit code 2 and that nothing else was printed."""
    result = cimq_command(*arguments)
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    assert "Traceback" not in result.stderr
    assert len(result.stderr.splitlines()) == 1, result.stderr
    return str(result.stderr)


def table() -> dict[str, Any]:
    return {
        "hardware": {
            "rows": 128,
            "cols": 64,
            "dac_bits": 2,
            "write_time_us": 10.0,
            "mvm_time_us": 0.5,
            "adc": None,
            "crossbars": 1,
        },
        "layers": {
            "net": [
                {"kind": "Conv2D", "outputs": 16, "inputs": 200, "invocations": 100, "repeats": 2},
                {"outputs": 10, "inputs": 64, "invocations": 1},
            ]
        },
        "policies": [{"name": "p", "model": "net", "cell_bits": 2, "policy": [[4, 3], [8, 8]], "note": "any"}],
    }


def write(tmp_path: Path, content: Any, name: str = "table.json") -> Path:
    path = tmp_path / name
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


# Layer 0 (w4, c2: 2 slices): dc 64 columns -> 1 x 2 tiles; dr 32 columns, 400 rows -> 1 x 4; offset 33 -> 1 x 2.
# 8-bit: 4 slices: dc 128 -> 2 x 2; dr 64 -> 1 x 4; offset 65 -> 2 x 2. Digits: ceil(3/2) = 2, ceil(8/2) = 4.
# Layer 1 (w8): dc 80 columns -> 2; dr 40 columns, 128 rows -> 1; offset 41 columns -> 1. 4 digits.
BY_HAND = {
    "differential_column": (2 * 2 + 2, 2 * 2 * 100 * 2 + 2 * 4, 2 * 4 + 2, 2 * 4 * 100 * 4 + 2 * 4),
    "differential_row": (2 * 4 + 1, 2 * 4 * 100 * 2 + 1 * 4, 2 * 4 + 1, 2 * 4 * 100 * 4 + 1 * 4),
    "offset": (2 * 2 + 1, 2 * 2 * 100 * 2 + 1 * 4, 2 * 4 + 1, 2 * 4 * 100 * 4 + 1 * 4),
}


def expected_by_hand() -> dict[str, dict[str, Any]]:
    result = {}
    for mapping, (writes, mvms, writes8, mvms8) in BY_HAND.items():
        time, time8 = writes * 10.0 + mvms * 0.5, writes8 * 10.0 + mvms8 * 0.5
        counts = {"writes": writes, "mvms": mvms, "time_us": time, "uniform8_time_us": time8}
        result[mapping] = {**counts, "speedup": round(time8 / time, 6)}
    return result


def test_latency_json_by_hand(tmp_path: Path) -> None:
    result = cimq_command("latency", write(tmp_path, table()), "--json")
    assert result.exit_code == 0
    assert json.loads(result.stdout) == {"p": expected_by_hand()}


def test_latency_takes_hardware_in_every_form(tmp_path: Path) -> None:
    flat = table()
    nested = table()
    fields = {"rows": 128, "cols": 64, "dac_bits": 2, "timing": {"write_time_us": 10.0, "mvm_time_us": 0.5}}
    nested["hardware"] = Hardware(**fields).to_dict()
    partial = table()
    partial["hardware"] = fields
    with_adc = table()
    with_adc["hardware"]["adc"] = 6
    cell_bits = table()
    cell_bits["hardware"]["cell_bits"] = 2
    del cell_bits["policies"][0]["cell_bits"]
    for content in (flat, nested, partial, with_adc, cell_bits):
        result = cimq_command("latency", write(tmp_path, content), "--json")
        assert json.loads(result.stdout)["p"] == expected_by_hand()
    preset = table()
    preset["hardware"] = "paper"
    assert cimq_command("latency", write(tmp_path, preset)).exit_code == 0


def test_latency_sign_magnitude_counts_where_there_is_a_pair(tmp_path: Path) -> None:
    content = table()
    content["hardware"]["sign_magnitude"] = True
    content["policies"][0]["policy"] = [[3, 3], [3, 3]]
    by_mapping = json.loads(cimq_command("latency", write(tmp_path, content), "--json").stdout)["p"]
    content["hardware"]["sign_magnitude"] = False
    without = json.loads(cimq_command("latency", write(tmp_path, content), "--json").stdout)["p"]
    assert by_mapping["offset"] == without["offset"]
    assert by_mapping["differential_column"]["time_us"] <= without["differential_column"]["time_us"]


def test_latency_table_is_aligned(tmp_path: Path) -> None:
    content = table()
    content["policies"].append({**content["policies"][0], "name": "a much longer name"})
    result = cimq_command("latency", write(tmp_path, content))
    lines = result.stdout.splitlines()
    assert len(lines) == 2 + 2 * 3
    assert " ".join(lines[0].split()) == "policy mapping writes MVMs time us uniform 8-bit us speed-up"
    starts = {line.index("differential_column") for line in lines if "differential_column" in line}
    assert len(starts) == 1
    assert {len(line) for line in lines} == {len(lines[1])}


def test_latency_of_the_published_file() -> None:
    published = {row["name"]: row["expected"] for row in json.loads(PUBLISHED.read_text())["policies"]}
    printed = json.loads(cimq_command("latency", PUBLISHED, "--json").stdout)
    keys = ("writes", "mvms", "time_us", "uniform8_time_us", "speedup")
    assert printed == {
        name: {mapping: {key: row[key] for key in keys} for mapping, row in rows.items()}
        for name, rows in published.items()
    }


def changed(path: str, value: Any) -> dict[str, Any]:
    """table() with the value at a dotted path replaced, or removed if it is `...`."""
    content: Any = table()
    *inner, last = [int(part) if part.isdigit() else part for part in path.split(".")]
    node = content
    for part in inner:
        node = node[part]
    if value is ...:
        del node[last]
    else:
        node[last] = value
    return dict(content)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ([], "the table must be an object with keys, got list"),
        ({}, "the table lacks hardware, layers, policies"),
        (changed("hardware", ...), "the table lacks hardware"),
        (changed("hardware.rows", 0), "hardware: rows must be an integer from 1 to 65536, got 0"),
        (changed("hardware.rowz", 3), "unknown key 'rowz' (did you mean 'rows'?)"),
        (changed("hardware.mvm_time_us", -1), "timing.mvm_time_us must be a number from 0"),
        (changed("hardware.timing", {"mvm_time_us": 1}), "mvm_time_us and timing.mvm_time_us are both given"),
        (changed("hardware", "papr"), "did you mean 'paper'?"),
        (changed("layers", []), "layers must be an object with keys, got list"),
        (changed("layers.net", []), "layers.net must be a list of at least one layer"),
        (changed("layers.net.0", 3), "layers.net[0] must be an object with keys, got int"),
        (changed("layers.net.0.outputs", 0), "layer 'net.0': outputs must be an integer from 1"),
        (changed("layers.net.1.inputs", "64"), "layer 'net.1': inputs must be a positive integer, got '64'"),
        (changed("layers.net.1.inputs", ...), "layers.net[1] lacks inputs"),
        (changed("layers.net.0.repeat", 2), "layers.net[0]: unknown key 'repeat'"),
        (changed("layers.net.0.colour", 2), "layers.net[0]: unknown key 'colour'; allowed: outputs"),
        (changed("layers.net.0.kind", 2), "layers.net[0].kind must be a text, got 2"),
        (changed("policies", []), "policies must be a list of at least one policy"),
        (changed("policies.0.name", 3), "policies[0].name must be a text, got 3"),
        (changed("policies.0.model", "nets"), "policy 'p': model must be one of net, got \"nets\""),
        (changed("policies.0.policy", [[4, 4]]), "policy 'p': policy: 1 rows of bits do not fit 2 layers"),
        (changed("policies.0.policy", [[4, 4], [9, 4]]), "row 1: weight_bits must be an integer from 1 to 8, got 9"),
        (changed("policies.0.policy", 3), "policy 'p': policy must be a list of [w, a] rows"),
        (changed("policies.0.policy", ...), "policies[0] lacks policy"),
        (changed("policies.0.cell_bits", 9), "policy 'p': hardware: cell_bits must be an integer from 1 to 8, got 9"),
        ({**table(), "policies": table()["policies"] * 2}, "policy 'p' is given twice"),
        ('{"hardware": {', "not valid JSON"),
        ("[" * 100_000, "table.json"),
    ],
)
def test_bad_tables_are_one_sentence(tmp_path: Path, content: Any, reason: str) -> None:
    path = write(tmp_path, content)
    sentence = refused("latency", path)
    assert sentence.startswith(f"cimq: policy table {path}")
    assert reason in sentence


def test_missing_files_are_one_sentence(tmp_path: Path) -> None:
    assert "policy table nowhere.json does not exist" in refused("latency", "nowhere.json")
    assert f"{tmp_path} is not a file" in refused("latency", tmp_path)
    assert "run: give --input and --output, or --check" in refused("run", tmp_path)
    assert "run: give --input and --output, or --check" in refused("run", tmp_path, "--check", "--input", "x.npy")
    assert "search configuration none.yaml does not exist" in refused("search", "none.yaml")


def test_info() -> None:
    result = cimq_command("info")
    assert result.exit_code == 0
    for key in ("version", "torch_built", "isa_chosen", "threads"):
        assert key in result.stdout
    facts = json.loads(cimq_command("info", "--json").stdout)
    assert facts["torch_built"] == facts["torch_running"]


def test_version() -> None:
    result = cimq_command("--version")
    assert (result.exit_code, result.stdout) == (0, f"cimq {cimq.__version__}\n")
    assert "--version" in cimq_command("--help").stdout


def test_out_of_memory_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for error, sentence in [
        (MemoryError(), "cimq: out of memory\n"),
        (MemoryError("std::bad_alloc"), "cimq: out of memory\n"),
        (MemoryError("Unable to allocate 8 GiB"), "cimq: out of memory (Unable to allocate 8 GiB)\n"),
    ]:

        def fails(*_: Any, error: MemoryError = error, **__: Any) -> None:
            raise error

        monkeypatch.setattr("cimq.load_bundle", fails)
        assert refused("run", tmp_path, "--check") == sentence


def test_messages_hold_no_control_characters(tmp_path: Path) -> None:
    sentence = refused("latency", tmp_path / "no\x1b[31m\x07\n.json")
    assert "no\\x1b[31m\\x07" in sentence
    content = table()
    content["policies"][0]["name"] = "p\x1b[2J\nq"
    printed = cimq_command("latency", write(tmp_path, content))
    assert "\x1b" not in printed.stdout
    assert len([line for line in printed.stdout.splitlines() if "p\\x1b[2J\\nq" in line]) == 3


def test_usage_errors_and_help() -> None:
    assert cimq_command("latency").exit_code == 2
    assert cimq_command("nothing").exit_code == 2
    help_text = cimq_command("--help").stdout
    for name in ("info", "latency", "search", "compile", "run", "report"):
        assert f"\n  {name} " in help_text


def test_python_dash_m(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "cimq", "latency"]
    content = table()
    content["hardware"]["crossbars"] = 4
    done = subprocess.run(
        [*command, str(write(tmp_path, content)), "--json"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout)["p"] == expected_by_hand()
    assert done.stderr.startswith("cimq: warning: hardware 'custom' has 4 crossbars, but the closed-form latency")
    done = subprocess.run([*command, "nowhere.json"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "cimq: policy table nowhere.json does not exist\n"


def test_traceback_on_request(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CIMQ_TRACEBACK", "1")
    result = cimq_command("latency", "nowhere.json")
    assert isinstance(result.exception, FileNotFoundError)


# ---- search configurations ----

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
    Hardware(rows=32).save(tmp_path / "machine.yaml")
    by_file = config(factories, hardware="machine.yaml")
    assert read_search_config(write(tmp_path, by_file, "c.yaml"))["hardware"].rows == 32


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"modle": "x"}, "unknown key 'modle' (did you mean 'model'?); allowed: model, data"),
        ({"out": ...}, "it lacks out"),
        ({"evaluations": "many"}, 'evaluations must be of type int, got "many"'),
        ({"evaluations": True}, "evaluations must be of type int, got true"),
        ({"first_last_bits": "8"}, 'first_last_bits must be of type int or null, got "8"'),
        ({"resume": 1}, "resume must be of type bool, got 1"),
        ({"model": "model"}, 'model must have the form "package.module:function", got "model"'),
        ({"model": 3}, 'model must have the form "package.module:function", got 3'),
        ({"model": "no_such_module_here:f"}, "model: there is no module 'no_such_module_here'"),
        ({"data": "json:nothing"}, "data: module 'json' has no function 'nothing'"),
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


def test_search_config_must_be_a_mapping(tmp_path: Path) -> None:
    assert "it must hold keys with values, got list" in refused("search", write(tmp_path, "[]", "c.json"))


# ---- bundles ----


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small convolutional network, exported."""
    torch.manual_seed(0)
    layers = [nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 16, 5)]
    x = torch.randn(8, 1, 6, 6)
    model = cimq.prepare(nn.Sequential(*layers), cimq.Policy.uniform(4, 5), example_inputs=x).eval()
    path = tmp_path_factory.mktemp("bundles") / "m.cimq"
    cimq.export(model, path, sample_input=x)
    return path


@pytest.fixture
def damaged(bundle: Path, tmp_path: Path) -> Path:
    path = tmp_path / "damaged.cimq"
    shutil.copytree(bundle, path)
    with open(path / "weights.safetensors", "r+b") as file:
        file.truncate(20)
    return path


def test_run_writes_what_the_executor_computes(bundle: Path, tmp_path: Path) -> None:
    x = np.random.default_rng(0).standard_normal((3, 1, 6, 6)).astype(np.float32)
    np.save(tmp_path / "x.npy", x)
    result = cimq_command("run", bundle, "--input", tmp_path / "x.npy", "--output", tmp_path / "y.npy")
    assert result.exit_code == 0, result.output
    assert result.stdout == f"wrote {tmp_path / 'y.npy'}: float32 [3, 5]\n"
    np.testing.assert_array_equal(np.load(tmp_path / "y.npy"), cimq.load_bundle(bundle).run(x))


def test_run_check_prints_every_layer(bundle: Path) -> None:
    result = cimq_command("run", bundle, "--check")
    assert result.exit_code == 0, result.output
    assert result.stdout.count("equal") >= 3  # two layers and the output
    assert "check passed" in result.stdout


def test_run_check_fails_on_a_mismatch(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = cimq.load_bundle(bundle)
    entries = loaded.check().entries
    wrong = dataclasses.replace(entries[0], different=1, first_difference="at [0, 0]: 3, expected 4")
    report = dataclasses.replace(loaded.check(), entries=(wrong, *entries[1:]))
    monkeypatch.setattr(type(loaded), "check", lambda _: report)
    result = cimq_command("run", bundle, "--check")
    assert result.exit_code == 1
    assert "1 differ (at [0, 0]: 3, expected 4)" in result.stdout
    assert "check FAILED" in result.stdout


def test_run_refuses_bad_inputs_in_one_sentence(bundle: Path, damaged: Path, tmp_path: Path) -> None:
    x, y = tmp_path / "x.npy", tmp_path / "y.npy"
    assert f"run: input {x} does not exist" in refused("run", bundle, "--input", x, "--output", y)
    x.write_bytes(b"junk")
    assert f"run: input {x} is not a readable .npy" in refused("run", bundle, "--input", x, "--output", y)
    np.save(x, np.full((1, 1, 6, 6), np.nan, dtype=np.float32))
    assert "must be finite, got nan" in refused("run", bundle, "--input", x, "--output", y)
    np.save(x, np.zeros((1, 2, 6, 6), dtype=np.float32))
    assert "[" in refused("run", bundle, "--input", x, "--output", y)
    assert "weights.safetensors" in refused("run", damaged, "--check")
    assert "nowhere.cimq" in refused("run", "nowhere.cimq", "--check")
    assert not y.exists()


def test_compile_prints_the_latency(bundle: Path, damaged: Path, tmp_path: Path) -> None:
    copy = tmp_path / "m.cimq"
    shutil.copytree(bundle, copy)
    result = cimq_command("compile", copy)
    assert result.exit_code == 0, result.output
    assert str(cimq.latency(copy)) in result.stdout
    assert "weights.safetensors" in refused("compile", damaged)
    assert "did you mean 'paper'?" in refused("compile", copy, "--hardware", "papre")
    assert cimq_command("run", copy, "--check").exit_code == 0


def test_report_refuses_a_folder_without_results(tmp_path: Path) -> None:
    assert "result.json is missing" in refused("report", tmp_path)
