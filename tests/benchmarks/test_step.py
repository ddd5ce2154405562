"""benchmarks/training/step.py on a small network and a handful of images: what it checks of itself, and its rows."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import cimq

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "training" / "step.py"


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    package = str(Path(cimq.__file__).resolve().parents[1])
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": package}
    command = [sys.executable, str(SCRIPT), *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)


def test_every_alternative_has_a_row_and_what_is_absent_is_said() -> None:
    done = run(
        "--blocks", "1", "--batch-size", "4", "--rounds", "2", "--bits", "W4A4", "W2A3", "--threads", "1", "--json"
    )
    assert done.returncode == 0, done.stderr[-2000:]
    printed = json.loads(done.stdout)
    assert {"processor", "torch", "cimq", "threads"} <= printed["environment"].keys()
    rows: list[dict[str, Any]] = printed["rows"]
    if importlib.util.find_spec("brevitas") is None:
        note = rows.pop()
        assert "brevitas: not installed, skipped" in note["network"]
        assert note["ms"] is None
    ours = [row for row in rows if not row["network"].startswith("brevitas")]
    names = ["fp32", "cimq W4A4", "cimq W2A3"]
    assert [(row["network"], row["format"]) for row in ours] == [
        (name, kind) for kind in ("float32", "channels_last", "bf16") for name in names
    ]
    assert all(row["ms"] > 0 and row["of_fp32"] > 0 for row in rows)
    assert all(row["of_fp32"] == 1 for row in rows if row["network"] == "fp32")
    peers = [row for row in rows if row["network"].startswith("brevitas")]
    assert all(row["over_cimq"] > 0 for row in peers)
    assert len(peers) in (0, 6)


def test_bits_that_make_no_sense_are_refused() -> None:
    done = run("--bits", "W4A9")
    assert done.returncode == 2
    assert "--bits must be WxAy with 2 to 8 bits, got 'W4A9'" in done.stderr
