"""examples/own_loop.py: the loop and the recipe, down to the executed bundle."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "examples" / "own_loop.py"


@pytest.mark.parametrize("recipe", [[], ["--recipe"]])
def test_trains_converts_and_executes(recipe: list[str], tmp_path: Path) -> None:
    pytest.importorskip("sklearn")
    options = [*recipe, "--fp32-epochs", "3", "--epochs", "2", "--out", str(tmp_path)]
    done = subprocess.run([sys.executable, str(SCRIPT), *options], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    accuracy = {line[:16].strip(): line[16:].strip() for line in done.stdout.splitlines()[:-1]}
    assert accuracy["trained"] == accuracy["converted"] == accuracy["executed in C++"]
    assert float(accuracy["trained"].rstrip("%")) > 60
    assert any((tmp_path / "model.cimq").iterdir())
