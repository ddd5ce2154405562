"""Checkpoints (and logs) that cannot be written."""

from __future__ import annotations

import os
import resource
from pathlib import Path

import pytest
import torch
from torch import nn

import cimq


def batches() -> list[tuple[torch.Tensor, torch.Tensor]]:
    return [(torch.rand(16, 256), torch.arange(16) % 4)]


def prepared() -> nn.Module:
    q = cimq.prepare(nn.Linear(256, 4), cimq.Policy.uniform(4, 4), example_inputs=torch.rand(16, 256))
    return q.eval()


def test_full_disk_keeps_model_and_older_checkpoint_and_leaves_no_part(tmp_path: Path) -> None:
    checkpoint, q, data = tmp_path / "training.pt", prepared(), batches()
    cimq.finetune(q, data, epochs=1, checkpoint=checkpoint, progress=False)
    older, before = checkpoint.read_bytes(), q.weight.detach().clone()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))  # in the place of a full disk
    try:
        with pytest.raises(OSError, match=r"checkpoint cannot be written \(File too large\)") as raised:
            cimq.finetune(q, data, epochs=1, lr=1.0, checkpoint=checkpoint, progress=False)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert str(checkpoint) in str(raised.value)
    assert raised.value.filename == str(checkpoint)
    assert not torch.equal(q.weight, before)
    assert not q.training
    assert checkpoint.read_bytes() == older
    assert os.listdir(tmp_path) == ["training.pt"]


def test_a_full_device_is_named() -> None:
    with pytest.raises(OSError, match=r"checkpoint cannot be written \(No space left on device\).*'/dev/full'"):
        cimq.finetune(prepared(), batches(), epochs=1, checkpoint="/dev/full", progress=False)


@pytest.mark.parametrize("where", ["file/training.pt", "folder"])
def test_a_checkpoint_that_can_never_be_written_is_refused_before_training(tmp_path: Path, where: str) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()
    q = prepared()
    before = {key: value.clone() for key, value in q.state_dict().items()}
    with pytest.raises(OSError, match=f"checkpoint cannot be written.*{where}'"):
        cimq.finetune(q, batches(), epochs=1, checkpoint=tmp_path / where, progress=False)
    assert all(torch.equal(value, before[key]) for key, value in q.state_dict().items())


def test_a_log_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    x = torch.rand(64, 8)
    data = [(x, torch.arange(64) % 2)] * 4
    (tmp_path / "evaluations.jsonl").symlink_to("/dev/full")
    net = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 2))
    with pytest.raises(OSError, match=r"the log cannot be written \(No space left on device\).*evaluations.jsonl'"):
        cimq.search(net, data, val_loader=data, evaluations=4, out=tmp_path, first_last_bits=None, progress=False)
