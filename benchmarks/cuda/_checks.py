"""Stages that ask whether kernels are right: tests, the sanitizer, the same bits from run to run."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from _build import package_environment, usable_cores
from _commands import run_command
from _record import ABSENT, DONE, FAILED, OUT_OF_TIME, ROOT, Outcome
from _stages import Part
from _worker import Worker

NOTHING_COLLECTED = 5  # exit status of pytest
PATIENCE = 90.0  # seconds for the digest of one case
MEASURE = Path(__file__).resolve().parent / "_measure.py"
SANITIZED = {"memcheck": 9, "racecheck": 9}  # tool -> exit status where it found something


def measure_command(device: str, *more: str) -> list[str]:
    return [sys.executable, str(MEASURE), "--device", device, *more]


class Suites:
    """The stage `test`.

    Args:
        folder: For logs.
        build_folder: Where ctest finds the C++ tests, if they were built.
    """

    def __init__(self, folder: Path, build_folder: Path) -> None:
        self.folder, self.build_folder = folder, build_folder

    def parts(self) -> Iterator[Part]:
        on_device = ["-m", "cuda", "--continue-on-collection-errors", "tests"]
        yield Part("Python tests on the device", lambda limit: self._pytest("device", on_device, limit))
        yield Part("what operators refuse", lambda limit: self._pytest(
            "refusals", ["tests/ops/test_cuda_operators.py"], limit))  # fmt: skip
        yield Part("C++ tests", self._ctest)

    def _pytest(self, name: str, selected: list[str], limit: float) -> Outcome:
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *selected]
        ran = run_command(command, limit, self.folder / f"test-{name}.log", cwd=ROOT, env=package_environment())
        last = ran.tail.splitlines()[-1] if ran.tail else ""
        if ran.status == NOTHING_COLLECTED:
            return Outcome(ABSENT, f"pytest {' '.join(selected)} finds no test")
        return judged(ran.status, last, ran.tail, limit)

    def _ctest(self, limit: float) -> Outcome:
        if not (self.build_folder / "tests" / "csrc" / "cimq_tests").exists():
            return Outcome(ABSENT, "the C++ tests were not built (stage build)")
        command = ["ctest", "--test-dir", str(self.build_folder), "--output-on-failure", "-j", str(usable_cores())]
        ran = run_command(command, limit, self.folder / "ctest.log", cwd=ROOT)
        summary = [line for line in ran.output.splitlines() if "tests passed" in line]
        return judged(ran.status, summary[-1] if summary else "", ran.tail, limit)


def judged(status: int | None, summary: str, tail: str, limit: float) -> Outcome:
    if status is None:
        return Outcome(OUT_OF_TIME, f"ended after {limit:.0f} s")
    return Outcome(DONE, summary) if status == 0 else Outcome(FAILED, f"status {status}:\n{tail}")


class Sanitizer:
    """The stage `sanitize`: every case once, at its small size, under compute-sanitizer."""

    def __init__(self, folder: Path, device: str = "cuda") -> None:
        self.folder, self.device = folder, device

    def parts(self) -> Iterator[Part]:
        for tool, fault in SANITIZED.items():
            yield Part(tool, lambda limit, tool=tool, fault=fault: self._run(tool, fault, limit), least=30)  # type: ignore[misc]

    def _run(self, tool: str, fault: int, limit: float) -> Outcome:
        program = shutil.which("compute-sanitizer")
        if program is None:
            return Outcome(ABSENT, "no compute-sanitizer on PATH")
        command = [program, "--tool", tool, "--error-exitcode", str(fault), *measure_command(self.device, "--once")]
        # Allocations one by one, so that accesses behind a tensor are seen.
        env = package_environment() | {"PYTORCH_NO_CUDA_MEMORY_CACHING": "1"}
        ran = run_command(command, limit, self.folder / f"{tool}.log", cwd=ROOT, env=env)
        summary = [line for line in ran.output.splitlines() if "ERROR SUMMARY" in line or "RACECHECK SUMMARY" in line]
        return judged(ran.status, summary[-1] if summary else "", ran.tail, limit)


class Determinism:
    """The stage `determinism`: every case in two processes, three times in each; all results have the same bits.

    Args:
        names: Of the cases; asked for when the stage begins.
        worker: Makes a worker.
    """

    def __init__(self, names: Callable[[], list[str]], worker: Callable[[str], Worker]) -> None:
        self._names = names
        self._workers = [worker("determinism-1"), worker("determinism-2")]

    def parts(self) -> Iterator[Part]:
        for name in self._names():
            yield Part(name, lambda limit, name=name: self._compare(name, limit))  # type: ignore[misc]

    def _compare(self, name: str, limit: float) -> Outcome:
        """Both at the same time; where they do not agree on an outcome, the one that is not a result counts."""
        request = {"do": "digest", "case": name}
        with ThreadPoolExecutor() as pool:
            outcomes = list(pool.map(lambda worker: worker.outcome(request, limit, PATIENCE), self._workers))
        for outcome in outcomes:
            if outcome.status != DONE:
                return outcome
        digests = {outcome.values["digest"] for outcome in outcomes}
        if len(digests) > 1:
            return Outcome(FAILED, "two processes give different results")
        return Outcome(DONE, "", {"digest": digests.pop()})

    def end(self) -> None:
        for worker in self._workers:
            worker.end()
