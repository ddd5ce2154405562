"""benchmarks/training/resnet20.py: a result is never shown for other options than those it was made with."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "benchmarks" / "training" / "resnet20.py"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint that knows nothing, and a few images of two colours."""
    image = pytest.importorskip("PIL.Image")
    root = tmp_path_factory.mktemp("resnet20")
    for part, count in (("train", 20), ("test", 10)):
        for name, colour in (("red", (200, 30, 30)), ("blue", (30, 30, 200))):
            (root / part / name).mkdir(parents=True)
            for index in range(count):
                image.new("RGB", (32, 32), colour).save(root / part / name / f"{index}.png")
    sys.path.insert(0, str(ROOT / "examples"))
    try:
        from models.resnet_cifar import ResNetCifar
    finally:
        sys.path.pop(0)
    torch.manual_seed(0)
    torch.save(ResNetCifar(3, 10).state_dict(), root / "checkpoint.pt")
    return root


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    given = ["--data", str(folder), "--checkpoint", str(folder / "checkpoint.pt"), "--out", str(folder / "out")]
    command = [sys.executable, str(SCRIPT), *given, "--batch-size", "8", "--json", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


def test_other_options_need_another_folder(folder: Path) -> None:
    first = run(folder, "--epochs", "1", "W4A4")
    assert first.returncode == 0, first.stderr[-2000:]
    again = run(folder, "--epochs", "1", "W4A4")
    assert again.returncode == 0, again.stderr[-2000:]

    def top1(done: subprocess.CompletedProcess[str]) -> Any:
        return [row["top1"] for row in json.loads(done.stdout)["rows"]]

    assert top1(again) == top1(first)
    other = run(folder, "--epochs", "1", "--lr", "0.5", "--mixing", "0.5", "W4A4")
    assert other.returncode != 0
    assert "holds a run with --lr 0.02, --mixing 0.0: choose another --out, or remove it" in other.stderr
    (folder / "out" / "W4A4-seed0-1epochs" / "options.json").unlink()
    unknown = run(folder, "--epochs", "1", "W4A4")
    assert unknown.returncode != 0
    assert "its options are not known" in unknown.stderr
