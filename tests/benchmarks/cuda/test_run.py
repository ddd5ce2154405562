"""The command as a whole, on the CPU in the place of a device, and what it refuses."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
from _budget import Budget
from _build import Chip
from _checks import Determinism, Sanitizer, Suites, judged, measure_command
from _record import ABSENT, DONE, FAILED, OUT_OF_TIME, Outcome
from _times import CLAIMED, COMPILED, EAGER, PEAKS, Times
from _worker import Worker
from scripts import load_script

SCRIPT = Path(__file__).resolve().parents[3] / "benchmarks" / "cuda" / "run.py"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    return load_script(SCRIPT, "cuda_run")


def test_determinism_of_all_cases_and_a_page(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(script, "chip_at_hand", lambda: None)
    out = tmp_path / "results" / "found.md"
    script.main(["--device", "cpu", "--stages", "determinism", "--out", str(out)])
    found = json.loads(out.with_suffix(".json").read_text())
    parts = found["stages"]["determinism"]
    assert len(parts) > 30
    assert {part["status"] for part in parts.values()} == {DONE}
    assert all(len(part["values"]["digest"]) == 64 for part in parts.values())
    assert f"{len(parts)} of {len(parts)} parts done" in out.read_text()
    # What is done stays done; a page without times has no claims.
    script.main(["--device", "cpu", "--stages", "determinism", "--out", str(out), "--resume"])
    assert json.loads(out.with_suffix(".json").read_text())["stages"]["determinism"] == parts
    assert len(json.loads(out.with_suffix(".json").read_text())["commands"]) == 2
    assert "## Claims" not in out.read_text()


def test_a_failed_part_is_the_exit_status(script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(script, "chip_at_hand", lambda: None)
    monkeypatch.setattr(script, "measure_command", lambda device, *more: [sys.executable, "-c", "raise SystemExit(4)"])
    out = tmp_path / "found.md"
    log = tmp_path / "log"
    log.write_text(
        "ptxas info    : Compiling entry function '_Z5otherv' for 'sm_80'\nptxas info    : Used 8 registers\n"
    )
    with pytest.raises(SystemExit, match="failed: static: kernels"):
        script.main(["--stages", "static", "--log", str(log), "--out", str(out)])
    assert "how is other launched?" in out.read_text()
    assert "the operators' shapes need a built cimq" in out.read_text()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--stages", "time,dance"], "--stages must be of build, test, "),
        (["--time-budget", "soon"], "--time-budget: a time must be a positive number"),
        (["--log", "/nowhere/log"], "there is no /nowhere/log"),
    ],
)
def test_arguments_that_make_no_sense(
    script: ModuleType, given: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        script.arguments(given)
    assert message in capsys.readouterr().err


def test_a_page_is_there_after_every_part(script: ModuleType, tmp_path: Path) -> None:
    out = tmp_path / "found.md"
    run = script.Run(script.arguments(["--out", str(out)]), Chip("NVIDIA H200", 9, 0))
    run.record.put("build", "extension", Outcome(FAILED, "no nvcc"), 1.0)
    run.tell("build: extension: failed")
    assert "| build: extension | failed | 1 s | no nvcc |" in out.read_text()
    assert out.read_text().count("not measured") == 5


def test_stages_of_a_gpu_need_one(script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(script, "chip_at_hand", lambda: None)
    with pytest.raises(SystemExit, match="--stages: build needs a GPU"):
        script.main(["--stages", "build", "--out", str(tmp_path / "found.md")])


def test_what_is_run_where(script: ModuleType, tmp_path: Path) -> None:
    out = ["--out", str(tmp_path / "found.md")]
    without = script.Run(script.arguments(out), None)
    assert [stage.name for stage in without.stages()] == ["static", "amx"]
    chip = Chip("NVIDIA H200", 9, 0)
    with_one = script.Run(script.arguments(out), chip)
    assert [stage.name for stage in with_one.stages()] == ["build", "test", "determinism", "time", "sanitize", "amx"]
    assert with_one.record.content["environment"]["architecture"] == "sm_90"
    chosen = script.Run(script.arguments([*out, "--stages", "time,build"]), chip)
    assert [stage.name for stage in chosen.stages()] == ["time", "build"]


def test_the_page_is_named_after_the_chip(script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(script, "ROOT", tmp_path)
    chip = Chip("NVIDIA H100 80GB HBM3", 9, 0)
    assert script.Run(script.arguments([]), chip).out == tmp_path / "benchmarks/results/cuda-h100-80gb-hbm3.md"
    assert script.Run(script.arguments([]), None).out == tmp_path / "benchmarks/results/cuda-static.md"


class Answers(Worker):
    """A worker whose answers are given."""

    def __init__(self, answers: dict[str, dict[str, object]], tmp_path: Path) -> None:
        super().__init__([], tmp_path / "log", tmp_path)
        self.answers = answers
        self.limits: dict[str, float] = {}

    def ask(self, request: dict[str, object], limit: float) -> dict[str, object]:
        name = str(request.get("case", request["do"] if "compiled" not in request else request["compiled"]))
        self.limits[name] = limit
        return dict(self.answers.get(name, {"faults": []}))


def test_two_processes_with_different_results_have_failed(tmp_path: Path) -> None:
    workers = iter([Answers({"a": {"digest": "1"}, "b": {"digest": "2"}}, tmp_path),
                    Answers({"a": {"digest": "1"}, "b": {"digest": "3"}}, tmp_path)])  # fmt: skip
    stage = Determinism(lambda: ["a", "b"], lambda name: next(workers))
    outcomes = {part.name: part.run(60) for part in stage.parts()}
    assert outcomes["a"].status == DONE
    assert (outcomes["b"].status, outcomes["b"].note) == (FAILED, "two processes give different results")


def test_the_time_stage_begins_with_what_the_claims_need(tmp_path: Path) -> None:
    worker = Answers({}, tmp_path)
    names = ["softmax", "fake_quantize: activations", "mean"]
    parts = list(Times(lambda: names, lambda name: worker).parts())
    order = [PEAKS, CLAIMED, "fake_quantize: activations", EAGER, "softmax", "mean", COMPILED]
    assert [part.name for part in parts] == order
    assert {part.run(1000).status for part in parts} == {DONE}
    assert worker.limits["mean"] == 90  # a kernel that hangs does not take all there is
    parts[-2].run(20)
    assert worker.limits["mean"] == 20


def test_tests_are_judged_by_their_status(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert judged(0, "5 passed", "", 60).note == "5 passed"
    assert judged(1, "", "1 failed", 60).status == FAILED
    assert judged(None, "", "", 60).status == OUT_OF_TIME
    parts = {part.name: part for part in Suites(tmp_path, tmp_path).parts()}
    outcome = parts["C++ tests"].run(60)
    assert (outcome.status, outcome.note) == (ABSENT, "the C++ tests were not built (stage build)")


def test_without_the_sanitizer_it_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    parts = {part.name: part.run(60) for part in Sanitizer(tmp_path).parts()}
    assert {name: outcome.note for name, outcome in parts.items()} == dict.fromkeys(
        ("memcheck", "racecheck"), "no compute-sanitizer on PATH"
    )


def test_what_the_sanitizer_finds_is_the_outcome(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tool = tmp_path / "compute-sanitizer"
    lines = ["#!/bin/sh", 'echo "$@" $PYTORCH_NO_CUDA_MEMORY_CACHING', 'echo "=== ERROR SUMMARY: 1 error"']
    tool.write_text("\n".join([*lines, "[ $2 = racecheck ] && exit 9", "exit 0", ""]))
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    outcomes = {part.name: part.run(60) for part in Sanitizer(tmp_path).parts()}
    assert outcomes["memcheck"].status == DONE
    assert outcomes["memcheck"].note == "=== ERROR SUMMARY: 1 error"
    assert outcomes["racecheck"].status == FAILED
    printed = (tmp_path / "memcheck.log").read_text()
    assert "--tool memcheck --error-exitcode 9" in printed
    assert " ".join(measure_command("cuda", "--once")) + " 1" in printed


def test_a_budget_without_end(script: ModuleType) -> None:
    assert script.arguments([]).budget is None
    assert script.arguments(["--time-budget", "25m"]).budget == 1500
    assert Budget(None).left() == float("inf")


@pytest.mark.skipif(torch.cuda.is_available(), reason="of a machine without a GPU")
def test_no_gpu_is_found_here(script: ModuleType) -> None:
    assert script.chip_at_hand() is None
