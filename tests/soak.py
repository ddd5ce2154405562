"""Random cases without fixed seeds for a stated time, on every instruction set: `make soak`.

CI judges a change by the same cases as the change before it; this looks for new ones. It runs, in turn and until the
time is up,

* every file with hypothesis tests, under every setting of CIMQ_CPU_ISA (this project's kernels) and ONEDNN_MAX_CPU_ISA
  (what PyTorch's products may use), each run with a seed of its own;
* the C++ tests with other random numbers (--rng-seed), and fresh layers on every instruction set against the reference.

What fails is printed with the command that repeats it; then it becomes a fixed example (`@example`, or a C++ case of
its own), so that it is met in every run.

    python tests/soak.py [--minutes 20] [--jobs 2] [--seed N] [--binary build/.../cimq_tests]
"""

from __future__ import annotations

import argparse
import collections
import dataclasses
import os
import random
import re
import shlex
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SETTINGS_FREE = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
CPP_SECONDS = 30
# What each instruction set of ours is paired with: None is oneDNN's own choice.
ONEDNN: dict[str, tuple[str | None, ...]] = {
    "amx": (None, "AVX512_CORE", "AVX2"),
    "avx512": (None, "AVX512_CORE", "AVX2"),
    "avx2": (None, "AVX2"),
    "scalar": (None, "SSE41"),
}
PASSING = re.compile(r"(\d+) passing(?: test cases| examples)?, (\d+) failing")
ASSERTIONS = re.compile(r"(?:passed \(|assertions: *)(\d+)")
LAYERS = re.compile(r"soak: (\d+) layers on (\S+)")


@dataclasses.dataclass(frozen=True)
class Job:
    """One process. `setting` names what it is counted under."""

    setting: str
    command: tuple[str, ...]
    environment: tuple[tuple[str, str], ...] = ()

    def text(self) -> str:
        """The command line that repeats it."""
        return " ".join([*(f"{key}={value}" for key, value in self.environment), shlex.join(self.command)])


class Tally:
    """What ran, by setting, and what failed."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.cases: collections.Counter[str] = collections.Counter()
        self.runs: collections.Counter[str] = collections.Counter()
        self.failures: list[str] = []

    def take(self, job: Job, status: int, output: str) -> None:
        """Counts a finished job; prints a failure at once."""
        layers = LAYERS.findall(output)
        with self.lock:
            self.runs[job.setting] += 1
            for count, isa in layers:
                self.cases[f"C++ layers on {isa}"] += int(count)
            if not layers:
                self.cases[job.setting] += sum(int(found[0]) for found in PASSING.findall(output))
                self.cases[job.setting] += sum(map(int, ASSERTIONS.findall(output)))
            if status != 0:
                self.failures.append(job.text())
                print(f"soak: FAILED with exit status {status}; repeat it with\n  {job.text()}\n{output[-6000:]}")
                sys.stdout.flush()


def available_isas() -> list[str]:
    """Instruction sets of this project's kernels that the processor has."""
    code = "import cimq; print(*cimq.build_info()['isa_available'])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout.split()


def property_files() -> list[str]:
    """Test files with hypothesis tests."""
    return sorted(
        str(path.relative_to(ROOT)) for path in (ROOT / "tests").rglob("test_*.py") if "@given" in path.read_text()
    )


def jobs(isas: list[str], binary: Path | None, numbers: random.Random) -> Iterator[Job]:
    """An endless sequence; a round has every file under every setting once."""
    settings = [(isa, limit) for isa in isas for limit in ONEDNN.get(isa, (None,))]
    while True:
        files = property_files()
        numbers.shuffle(files)
        for position, file in enumerate(files):
            if binary is not None and position % 4 == 0:
                yield from cpp_jobs(isas, binary, numbers, suite=position == 0)
            for isa, limit in settings:
                seed = str(numbers.randrange(2**31))
                environment = {"CIMQ_CPU_ISA": isa} | ({"ONEDNN_MAX_CPU_ISA": limit} if limit else {})
                command = [sys.executable, "-m", "pytest", "-q", "-m", "hypothesis", "-p", "no:cacheprovider"]
                command += [f"--hypothesis-seed={seed}", f"--seed={seed}", "--hypothesis-show-statistics", file]
                name = f"Python, CIMQ_CPU_ISA={isa}" + (f", ONEDNN_MAX_CPU_ISA={limit}" if limit else "")
                yield Job(name, tuple(command), tuple(environment.items()))


def cpp_jobs(isas: list[str], binary: Path, numbers: random.Random, *, suite: bool) -> Iterator[Job]:
    """The C++ tests under every instruction set (`suite`), and fresh layers for CPP_SECONDS."""
    seed = str(numbers.randrange(1, 2**31))
    fresh = (str(binary), "[soak]", "--rng-seed", seed)
    yield Job("C++ fresh layers", fresh, (("CIMQ_SOAK_SECONDS", str(CPP_SECONDS)),))
    for isa in isas if suite else []:
        seed = str(numbers.randrange(1, 2**31))
        yield Job(
            f"C++ tests, CIMQ_CPU_ISA={isa}, assertions", (str(binary), "--rng-seed", seed), (("CIMQ_CPU_ISA", isa),)
        )


def work(source: Iterator[Job], source_lock: threading.Lock, deadline: float, tally: Tally) -> None:
    """Takes jobs until the time is up; one that has begun is finished."""
    while time.monotonic() < deadline:
        with source_lock:
            job = next(source)
        environment = {key: value for key, value in os.environ.items() if key != "CI"}
        environment |= SETTINGS_FREE | dict(job.environment)
        done = subprocess.run(
            job.command,
            cwd=ROOT,
            env=environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
        )
        tally.take(job, done.returncode, done.stdout)


def main() -> None:
    """Reads the arguments, works, reports; the exit status is 1 if anything failed."""
    parser = argparse.ArgumentParser(description="random cases without fixed seeds, for a stated time")
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--jobs", type=int, default=2, help="processes at a time")
    parser.add_argument("--seed", type=int, help="of all other seeds (default: a new one, printed)")
    parser.add_argument("--binary", type=Path, help="cimq_tests of a build with C++ tests")
    parser.add_argument("--isa", action="append", help="only these instruction sets")
    options = parser.parse_args()
    seed = random.SystemRandom().randrange(2**31) if options.seed is None else options.seed
    isas = options.isa or available_isas()
    print(f"soak: {options.minutes:g} minutes, {options.jobs} processes, seed {seed}, {', '.join(isas)}", flush=True)
    binary = options.binary.resolve() if options.binary else None
    source, lock, tally = jobs(isas, binary, random.Random(seed)), threading.Lock(), Tally()
    start = time.monotonic()
    deadline = start + 60 * options.minutes
    threads = [threading.Thread(target=work, args=(source, lock, deadline, tally)) for _ in range(options.jobs)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for setting, count in sorted(tally.cases.items()):
        print(f"soak: {count:>9} cases, {tally.runs[setting] or '-':>4} runs: {setting}")
    total, runs = sum(tally.cases.values()), sum(tally.runs.values())
    minutes = (time.monotonic() - start) / 60
    print(f"soak: {total} cases in {minutes:.1f} minutes, {len(tally.failures)} of {runs} runs failed")
    for text in tally.failures:
        print(f"soak: failed: {text}")
    sys.exit(1 if tally.failures else 0)


if __name__ == "__main__":
    main()
