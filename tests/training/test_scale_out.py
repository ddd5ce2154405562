"""Two processes see half of each batch and get what one process gets from the whole."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

import cimq

SCRIPT = """
import os, sys
import torch, torch.nn.functional as F
from torch import nn
import cimq

rank, world, folder = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
torch.set_num_threads(1)
torch.manual_seed(0)
net = nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Conv2d(6, 6, 3), nn.ReLU(), nn.Flatten(), nn.Linear(96, 4))
x, y = torch.randn(6, 16, 3, 8, 8), torch.arange(16) % 4
model = cimq.prepare(net, cimq.Policy.uniform(4, 4))
cimq.calibrate(model, [x[0]])
if world > 1:
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=world)
    model = nn.parallel.DistributedDataParallel(model)
    for call in (lambda: cimq.calibrate(model, [x[0]]), lambda: cimq.prepare(model)):
        try:
            call()
        except ValueError as error:
            assert "Prepare and calibrate the model first, then wrap it" in str(error)
        else:
            raise AssertionError("a distributed model was not refused")
data = [(batch[rank::world], y[rank::world]) for batch in x]
history = cimq.finetune(
    model, data, epochs=2, lr=0.05, val_loader=data, checkpoint=f"{folder}/{world}.ckpt", progress=False
)
inner = model.module if world > 1 else model
curves = [epoch.loss for epoch in history], [epoch.metric for epoch in history]
torch.save((*curves, inner.state_dict()), f"{folder}/{world}-{rank}.pt")
if world > 1:  # as examples/processes.py tells
    del model
    torch.distributed.destroy_process_group()
"""


def run(world: int, folder: Path) -> None:
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", SCRIPT, str(rank), str(world), str(folder)], cwd=folder, stderr=subprocess.PIPE
        )
        for rank in range(world)
    ]
    for process in processes:
        _, errors = process.communicate(timeout=240)
        assert process.returncode == 0, errors.decode()[-2000:]


@pytest.mark.skipif(not torch.distributed.is_available(), reason="torch without torch.distributed")
def test_two_gloo_processes_train_as_one_with_the_double_batch(tmp_path: Path) -> None:
    run(1, tmp_path)
    run(2, tmp_path)
    one_loss, one_metric, one = torch.load(tmp_path / "1-0.pt")
    parts = [torch.load(tmp_path / f"2-{rank}.pt") for rank in range(2)]
    for losses, metrics, _ in parts:  # of both processes' samples, in both
        assert losses == pytest.approx(one_loss, rel=1e-3)
        assert metrics == pytest.approx(one_metric, abs=0.02)
    assert parts[0][:2] == parts[1][:2]
    for name, value in one.items():
        assert torch.equal(parts[0][2][name], parts[1][2][name])
        torch.testing.assert_close(parts[0][2][name], value, rtol=1e-3, atol=1e-4)
    saved = [torch.load(tmp_path / f"{world}.ckpt", weights_only=False)["model"] for world in (1, 2)]
    assert saved[0].keys() == saved[1].keys()  # without the wrapper


def test_data_parallel_models_are_taken_as_the_model_inside(monkeypatch: pytest.MonkeyPatch) -> None:
    # As on a machine without devices: with one, the module would have to lie there.
    monkeypatch.setattr(sys.modules[torch.nn.DataParallel.__module__], "_get_available_device_type", lambda: None)
    torch.manual_seed(0)
    x, y = torch.rand(16, 8), torch.arange(16) % 4
    model = torch.nn.DataParallel(cimq.prepare(torch.nn.Sequential(torch.nn.Linear(8, 4)), cimq.Policy.uniform(4, 4)))
    cimq.calibrate(model, [x])
    assert len(cimq.finetune(model, [(x, y)], epochs=1, lr=0.1, progress=False)) == 1
    accuracy = cimq.evaluate(model, [(x, y)])
    assert accuracy == cimq.evaluate(model.module, [(x, y)])
    assert accuracy == cimq.evaluate(cimq.convert(model, sample_input=x), [(x, y)])
