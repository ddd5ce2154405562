"""examples/imagenet.py on a handful of images made on the spot, with random weights; needs torchvision."""

from __future__ import annotations

import json
import os
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import cimq

SCRIPT = Path(__file__).resolve().parents[2] / "examples" / "imagenet.py"
QUICK = ("--bits", "W4A4", "--epochs", "1", "--batch-size", "6", "--image-size", "64", "--workers", "0")


@pytest.fixture(scope="module")
def models() -> object:
    return pytest.importorskip("torchvision", reason="needs torchvision (make test-cuda)").models


def write_images(folder: Path, each: int, classes: int = 3) -> None:
    rng = np.random.default_rng(0)
    for label in range(classes):
        (folder / f"class{label}").mkdir(parents=True)
        for index in range(each):
            pixels = rng.integers(80 * label, 80 * label + 96, (64, 64, 3)).astype(np.uint8)
            Image.fromarray(pixels).save(folder / f"class{label}" / f"{index}.png")


def run(folder: Path, *arguments: str, processes: int = 1) -> subprocess.CompletedProcess[str]:
    package = str(Path(cimq.__file__).resolve().parents[1])
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": package}
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    command = [sys.executable, *(launcher if processes > 1 else []), str(SCRIPT), "--data", "data", *arguments]
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300, check=False
    )


def test_without_torchvision_it_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(SCRIPT.parent))
    monkeypatch.setitem(sys.modules, "torchvision", None)
    with pytest.raises(SystemExit, match="needs torchvision, the version that fits your torch"):
        runpy.run_path(str(SCRIPT))


@pytest.mark.slow
def test_trains_exports_and_goes_on(models: object, tmp_path: Path) -> None:
    write_images(tmp_path / "data" / "train", each=4)
    write_images(tmp_path / "data" / "val", each=3)
    done = run(tmp_path, *QUICK, "--out", "one")
    assert done.returncode == 0, done.stderr[-2000:]
    out = tmp_path / "one"
    result = json.loads((out / "result.json").read_text())
    assert len(result["losses"]) == 1
    assert set(result["top1"]) == {"fp32", "trained"}
    assert all(round(9 * top1, 6) in range(10) for top1 in result["top1"].values())
    assert result["no_bundle_because"] is None
    bundle = cimq.load_bundle(out / "model.cimq")
    assert bundle.check().equal
    assert tuple(bundle.run(torch.zeros(2, 3, 64, 64)).shape) == (2, 3)
    assert bundle.policy.pairs()[0] == bundle.policy.pairs()[-1] == (8, 8)
    assert set(bundle.policy.pairs()[1:-1]) == {(4, 4)}
    assert cimq.compile(out / "model.cimq").latency.time_us == result["time_us"]
    # The checkpoint of one process, in two, with a teacher.
    state = {key: value for key, value in torch.load(out / "trained.pt").items() if "scales" not in key}
    weights = {key: value for key, value in state.items() if not key.endswith("act_signed_state")}
    torch.save({"state_dict": weights}, tmp_path / "weights.pt")
    more = ("--epochs", "2", "--resume", "--amp", "bf16", "--policy", "one/policy.json", "--weights", "weights.pt")
    done = run(tmp_path, *QUICK[2:], *more, "--out", "one", processes=2)
    assert done.returncode == 0, done.stderr[-2000:]
    longer = json.loads((out / "result.json").read_text())
    assert longer["losses"][:1] == result["losses"]
    assert len(longer["losses"]) == 2


def test_what_does_not_fit_is_said(models: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(SCRIPT.parent))
    monkeypatch.chdir(tmp_path)
    main = runpy.run_path(str(SCRIPT))["main"]

    def refusal(*arguments: str) -> str:
        with pytest.raises(SystemExit) as caught:
            main(["--data", "data", *QUICK, *arguments])
        return str(caught.value)

    assert "there is no folder data/train" in refusal()
    write_images(tmp_path / "data" / "train", each=2)
    write_images(tmp_path / "data" / "val", each=1, classes=2)
    assert "only one of them has class2" in refusal()
    write_images(tmp_path / "data" / "val" / "more", each=1, classes=1)
    (tmp_path / "data" / "val" / "more" / "class0").rename(tmp_path / "data" / "val" / "class2")
    (tmp_path / "data" / "val" / "more").rmdir()
    assert "has no network 'resnet81'; near: resnet" in refusal("--model", "resnet81")
    assert "there is no file nowhere.pt" in refusal("--weights", "nowhere.pt")
    torch.save({"fc.weight": torch.zeros(10, 512)}, tmp_path / "ten.pt")
    message = refusal("--weights", "ten.pt")
    assert "with the 3 classes of --data: fc.weight has shape [10, 512], [3, 512] would fit" in message
    assert "--bits must be WxAy with 1 to 8 bits, got 'W9A4'" in refusal("--bits", "W9A4")
    assert "more than 6 training images" in refusal("--batch-size", "8")
