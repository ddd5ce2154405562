"""cimq run, compile and report: what they print, and what they refuse."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from cli_commands import cimq_command, refused
from torch import nn

import cimq


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


def test_compile_writes_a_trace_and_prints_json(bundle: Path, tmp_path: Path) -> None:
    trace = tmp_path / "trace.json"
    result = cimq_command("compile", bundle, "--pipeline", "stationary", "--trace", trace, "--json")
    assert result.exit_code == 0, result.output
    printed = json.loads(result.stdout)
    assert printed["simulated"]["time_us"] == printed["latency"]["time_us"]  # one crossbar, no other limits
    spans = [event for event in json.loads(trace.read_text())["traceEvents"] if event.get("cat") == "layer"]
    assert [span["name"] for span in spans] == [layer["name"] for layer in printed["simulated"]["layers"]]


def test_compile_writes_nothing_over_the_bundle(bundle: Path, tmp_path: Path) -> None:
    before = {file.name: file.read_bytes() for file in bundle.iterdir()}
    for option, pipeline in (("--output", "stationary"), ("--output", "closed_form"), ("--trace", "stationary")):
        for place in (bundle / "program.jsonl", bundle / "new.json", bundle, bundle / ".." / bundle.name / "x.json"):
            told = refused("compile", bundle, "--pipeline", pipeline, option, place)
            assert "would damage it; write to a file elsewhere" in told
    assert {file.name: file.read_bytes() for file in bundle.iterdir()} == before
    elsewhere = bundle.parent / "program.jsonl"
    assert cimq_command("compile", bundle, "--output", elsewhere).exit_code == 0
    assert elsewhere.read_bytes() == before["program.jsonl"]
    told = refused("compile", bundle, "--dump-after", "tile", "--output", tmp_path / "dump.jsonl")
    assert "--dump-after prints and writes nothing else, leave out --output" in told


def test_explain_prints_a_layer(bundle: Path) -> None:
    name = cimq.compile(bundle).layers[0].name
    result = cimq_command("explain", bundle, name, "--hardware", "isaac")
    assert result.exit_code == 0, result.output
    assert "on arrays of 128 x 128" in result.stdout
    assert "energy: " in result.stdout
    assert "there is no crossbar layer 'nothing'" in refused("explain", bundle, "nothing")


def test_compile_sweeps_a_resource(bundle: Path, tmp_path: Path) -> None:
    picture = tmp_path / "sweep.png"
    result = cimq_command("compile", bundle, "--sweep", "crossbars=1,4,inf", "--plot", picture)
    assert result.exit_code == 0, result.output
    assert [line.split()[0] for line in result.stdout.splitlines()[2:]] == ["1", "4", "inf"]
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert "--plot draws a sweep, give --sweep" in refused("compile", bundle, "--plot", picture)
    inside = ("--sweep", "crossbars=1", "--plot", bundle / "sweep.svg")
    assert "would damage it" in refused("compile", bundle, *inside)
    assert "leave out --output and --trace" in refused("compile", bundle, "--sweep", "crossbars=1", "--trace", picture)


def test_compile_takes_a_batch(bundle: Path, tmp_path: Path) -> None:
    result = cimq_command("compile", bundle, "--batch", "4", "--output", tmp_path / "four.jsonl", "--json")
    assert result.exit_code == 0, result.output
    simulated = json.loads(result.stdout)["simulated"]
    assert simulated["batch"] == 4
    assert simulated["time_us"] == pytest.approx(simulated["batch_us"] / 4)
    assert '"samples":true' in (tmp_path / "four.jsonl").read_text()
    assert "batch: 4 samples" in cimq_command("compile", bundle, "--batch", "4").stdout
    swept = cimq_command("compile", bundle, "--sweep", "batch=1,4")
    assert swept.stdout.split()[0] == "batch"
    assert "leave out --batch" in refused("compile", bundle, "--emit", "c", "--batch", "2", "--out", tmp_path / "c")
