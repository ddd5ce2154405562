"""examples/ddp.py: two gloo processes have the loss curve of one process with the double batch."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

SCRIPT = Path(__file__).resolve().parents[2] / "examples" / "ddp.py"


def run(out: Path, *arguments: str, processes: int = 1) -> dict[str, Any]:
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    command = [sys.executable, *(launcher if processes > 1 else []), str(SCRIPT), "--out", str(out), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return dict(json.loads((out / "result.json").read_text()))


@pytest.mark.skipif(not torch.distributed.is_available(), reason="torch without torch.distributed")
def test_two_processes_train_as_one_and_go_on_from_its_checkpoint(tmp_path: Path) -> None:
    pytest.importorskip("sklearn")
    one = run(tmp_path / "one", "--epochs", "2")
    two = run(tmp_path / "two", "--epochs", "2", processes=2)
    assert (one["processes"], two["processes"]) == (1, 2)
    # Sums of gradients in another order, and now and then a weight that is rounded to its other neighbour.
    assert two["losses"] == pytest.approx(one["losses"], rel=1e-2)
    assert two["losses"][0] == pytest.approx(one["losses"][0], rel=1e-3)
    assert one["losses"][1] < one["losses"][0]
    longer = run(tmp_path / "two", "--epochs", "3", "--resume")  # the file of two processes, in one
    assert longer["losses"][:2] == two["losses"]
    assert len(longer["losses"]) == 3


def test_batches_that_cannot_be_shared_are_refused() -> None:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(SCRIPT)]
    done = subprocess.run([*command, "--batch-size", "7"], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode != 0
    assert "--batch-size must be a multiple of the 2 processes, got 7" in done.stderr
