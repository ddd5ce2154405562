"""examples/search_cifar10.py end to end on a handful of images made on the spot, with random weights."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image

import cimq

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def write_images(folder: Path, each: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    for label in range(3):
        (folder / f"class{label}").mkdir(parents=True)
        for index in range(each):
            pixels = rng.integers(80 * label, 80 * label + 96, (32, 32, 3)).astype(np.uint8)
            Image.fromarray(pixels).save(folder / f"class{label}" / f"{index}.png")


def test_whole_run(tmp_path: Path) -> None:
    write_images(tmp_path / "data" / "train", each=40, seed=0)
    write_images(tmp_path / "data" / "test", each=6, seed=1)
    sys.path.insert(0, str(EXAMPLES))
    try:
        from models.resnet_cifar import ResNetCifar
    finally:
        sys.path.remove(str(EXAMPLES))
    torch.manual_seed(0)
    torch.save(ResNetCifar(1, 3).state_dict(), tmp_path / "model.pt")
    out = tmp_path / "out"
    command = [
        *(sys.executable, str(EXAMPLES / "search_cifar10.py"), "--data", "data", "--checkpoint", "model.pt"),
        *("--out", "out", "--blocks", "1", "--evaluations", "6", "--images", "64", "--held-out", "8"),
        *("--batch-size", "32", "--max-accuracy-drop", "0.5"),
    ]
    # The script's own folder comes first on its path; the package is found as this test found it.
    package = str(Path(cimq.__file__).resolve().parents[1])
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": package}

    def run(*more: str) -> None:
        done = subprocess.run(
            [*command, *more], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr

    run()
    result = json.loads((out / "result.json").read_text())
    rows = {row["name"]: row for row in result["rows"]}
    assert list(rows)[:2] == ["fp32", "uniform 8-bit"]
    assert list(rows)[-1] == "found policy"
    assert all(0 <= row["accuracy"] <= 1 for row in rows.values() if row["accuracy"] is not None)
    assert len((out / "evaluations.jsonl").read_text().splitlines()) == result["evaluations"] <= 6
    table = (out / "table.md").read_text()
    assert "| found policy |" in table
    assert f"{rows['found policy']['speedup']:.3f}x" in table
    assert "same values as the trained network in every layer" in (out / "report.html").read_text()
    assert cimq.load_bundle(out / "model.cimq").check().equal
    assert torch.load(tmp_path / "model.pt", weights_only=True)["conv1.weight"].shape == (16, 3, 3, 3)
    # An interrupted run goes on where it was, and ends with the same table.
    log = (out / "evaluations.jsonl").read_text()
    run("--resume")
    assert (out / "evaluations.jsonl").read_text() == log
    assert (out / "table.md").read_text().splitlines()[:6] == table.splitlines()[:6]
