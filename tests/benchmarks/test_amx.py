"""benchmarks/ops/amx.py with instruction sets that this machine has, and with one that it may not have."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import cimq
from cimq import _C

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "ops" / "amx.py"


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    package = str(Path(cimq.__file__).resolve().parents[1])
    environment = {**os.environ, "PYTHONPATH": package}
    environment.pop("CIMQ_CPU_ISA", None)
    command = [sys.executable, str(SCRIPT), *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)


def test_two_instruction_sets_take_turns() -> None:
    isas = _C.isa_available()
    if len(isas) < 2:
        pytest.skip("this processor has one instruction set")
    best, other = isas[0], isas[1]
    done = run("--isa", best, "--against", other, "--batch", "8", "--rounds", "3", "--json")
    assert done.returncode == 0, done.stderr[-2000:]
    found: dict[str, Any] = json.loads(done.stdout)
    ours, theirs = found["ms"], found["against_ms"]
    assert set(ours) == set(theirs) == {"product", "noisy", "matmul", "peak"}
    assert all(value > 0 for value in (*ours.values(), *theirs.values()))
    assert found["over_tables"] == pytest.approx(theirs["product"] / ours["product"])
    assert found["of_matmul"] == pytest.approx(ours["product"] / ours["matmul"])
    assert found["noisy_over_plain"] == pytest.approx(ours["noisy"] / ours["product"])
    assert found["share_of_peak"] > 0
    assert {"processor", "torch", "cimq"} <= found["environment"].keys()


def test_an_instruction_set_that_is_not_here_is_said() -> None:
    done = run("--isa", "amx" if "amx" not in _C.isa_available() else "neon", "--json")
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout)
    assert found["absent"].startswith("this processor has no ")
    assert "ms" not in found
