"""What the measuring process answers, with a timer that knows nothing of time, on the CPU."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import _measure
import pytest
import torch
from _cases import Case
from _claims import BANDWIDTH_CASE
from _registry import CASES
from _timing import (
    FEWEST,
    MOST,
    Peaks,
    Timing,
    best_product,
    calls_for,
    clocks,
    measured_peaks,
    product_operands,
    summary,
)

CPU = torch.device("cpu")


class Timer:
    """Counts what is timed; every call takes one second, or what is given, in turn."""

    def __init__(self, *seconds: float) -> None:
        self.seconds = list(seconds)
        self.calls = 0

    def __call__(self, function: Callable[[], object]) -> Timing:
        function()
        self.calls += 1
        once = self.seconds.pop(0) if self.seconds else 1.0
        return Timing(once, once, 1)


def measurements(timer: Timer | None = None) -> _measure.Measurements:
    return _measure.Measurements(CPU, timer or Timer(), small=True)


def test_the_list_has_all_cases_with_their_counts() -> None:
    found = measurements().answer({"do": "list"})
    assert [row["case"] for row in found["cases"]] == list(CASES)
    row = next(row for row in found["cases"] if row["case"] == BANDWIDTH_CASE)
    assert row["operator"] == "fake_quantize"
    assert row["kernels"] == ["fake_quantize_forward"]
    values = 3 * 5 * 7 * 9
    assert (row["bytes"], row["operations"]) == (8 * values + 4, {"float32": 5 * values})
    assert isinstance(found["without_case"], list)


def test_a_case_is_checked_and_timed() -> None:
    timer = Timer(0.25)
    found = measurements(timer).answer({"do": "time", "case": BANDWIDTH_CASE})
    assert found == {"faults": [], "median": 0.25, "least": 0.25, "calls": 1, "clocks": ""}
    assert timer.calls == 1


def test_a_case_with_wrong_results_is_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    right = Case.call
    runs: list[int] = []

    def wrong(self: Case, arguments: Any) -> list[torch.Tensor]:
        runs.append(1)
        results = right(self, arguments)
        return results if len(runs) % 2 else [results[0] + 1]

    monkeypatch.setattr(Case, "call", wrong)
    timer = Timer()
    found = measurements(timer).answer({"do": "time", "case": BANDWIDTH_CASE})
    assert len(found["faults"]) == 1
    assert timer.calls == 0


def test_results_that_change_from_run_to_run_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(measurements().answer({"do": "digest", "case": BANDWIDTH_CASE})["digest"]) == 64
    monkeypatch.setattr(Case, "call", lambda self, arguments: [torch.rand(3)])
    found = measurements().answer({"do": "digest", "case": BANDWIDTH_CASE})
    assert found["faults"] == ["3 different results in 3 runs of one process"]


def test_an_operator_without_a_kernel_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Case, arguments: Any) -> list[torch.Tensor]:
        raise NotImplementedError("cimq::x has no CUDA kernel in this build\nmore")

    monkeypatch.setattr(Case, "call", refuse)
    for action in ("time", "digest"):
        found = measurements().answer({"do": action, "case": BANDWIDTH_CASE})
        assert found == {"no_kernel": "cimq::x has no CUDA kernel in this build"}
    with pytest.raises(NotImplementedError):
        measurements().answer({"do": "list"})


def test_once_runs_all_cases_and_counts_the_wrong_ones(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    chosen = {name: CASES[name] for name in (BANDWIDTH_CASE, "softmax: attention of ViT-B", "mean: over tokens")}
    monkeypatch.setattr(_measure, "CASES", chosen)
    assert _measure.run_once(CPU) == 0
    right = Case.call

    def sometimes(self: Case, arguments: Any) -> list[torch.Tensor]:
        if self.operator == "mean":
            raise RuntimeError("an illegal access")
        if self.operator == "softmax":
            raise NotImplementedError("softmax has no CUDA kernel")
        return right(self, arguments)

    monkeypatch.setattr(Case, "call", sometimes)
    assert _measure.run_once(CPU) == 1
    printed = capsys.readouterr().out
    assert "mean: over tokens: RuntimeError: an illegal access" in printed
    assert "no kernel: softmax has no CUDA kernel" in printed


def test_peaks_are_bytes_and_operations_over_their_times() -> None:
    # A copy; then products of int8, float32, float64, each with its second matrix in both orders: the faster counts.
    timer = Timer(0.5, 2.0, 1.0, 3.0, 4.0, 6.0, 5.0)
    peaks = measured_peaks(timer, CPU, small=True)
    operations = 2 * 128**3
    assert peaks == Peaks(2 * 2**20 / 0.5, operations / 1.0, operations / 3.0, operations / 5.0)
    assert peaks.rates() == {"int8": operations, "float32": operations / 6, "float64": operations / 10}
    assert torch.backends.cuda.matmul.allow_tf32 is False


def test_the_plain_product_is_one_of_integers() -> None:
    a, b, other = product_operands(32, 64, 48, torch.int8, CPU)
    assert torch.equal(b, other)
    assert (b.is_contiguous(), other.t().is_contiguous()) == (True, True)
    assert int(a.min()) < -100
    assert torch.equal(torch._int_mm(a, b), (a.long() @ b.long()).int())
    assert best_product(Timer(3.0, 2.0), 32, 64, 48, torch.int8, CPU).median == 2.0


def test_an_order_that_the_library_does_not_have_is_left_out() -> None:
    answers: list[Timing | RuntimeError] = [RuntimeError("not supported"), Timing(2.0, 2.0, 1)]

    def timer(function: Callable[[], object]) -> Timing:
        answer = answers.pop(0)
        if isinstance(answer, RuntimeError):
            raise answer
        return answer

    assert best_product(timer, 32, 32, 32, torch.int8, CPU).median == 2.0
    answers += [RuntimeError("not supported"), RuntimeError("neither")]
    with pytest.raises(RuntimeError, match="not supported"):
        best_product(timer, 32, 32, 32, torch.int8, CPU)


def test_what_the_driver_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert clocks() == "not known: no nvidia-smi"
    tool = tmp_path / "nvidia-smi"
    tool.write_text('#!/bin/sh\necho "1980 MHz, $*"\necho second device\n')
    tool.chmod(0o755)
    assert clocks().startswith("1980 MHz, --query-gpu=clocks.sm,clocks.mem")
    tool.write_text("#!/bin/sh\nexit 9\n")
    assert clocks() == "not known: nvidia-smi failed"


def test_numbers_of_calls_and_their_summary() -> None:
    assert calls_for(1e-6) == MOST
    assert calls_for(10.0) == FEWEST
    assert calls_for(0.02) == 25
    assert summary([3.0, 1.0, 2.0]) == Timing(2.0, 1.0, 3)
    with pytest.raises(ValueError, match="the clock does not tell"):
        summary([0.0])
