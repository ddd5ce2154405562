"""Quantisation-aware training in several processes: torchrun, DistributedDataParallel, a loop of your own.

    torchrun --standalone --nproc-per-node 2 examples/ddp.py --out runs/ddp
    python examples/ddp.py --out runs/ddp                                      # one process

On scikit-learn's handwritten digits, in seconds; gloo on CPUs, nccl where there is CUDA. `--batch-size` counts the
images of all processes, so that the losses do not depend on how many there are (up to float32 rounding): the network
has no batch normalisation, whose statistics would be those of a process's own share of the batch. Networks that have
one train just as well; call `cimq.reestimate_bn(distributed, loader)` in every process at the end, which takes the mean
over all.

The order matters: prepare, calibrate (once, in the first process), hand its scales to the others (processes.py does
these two), and only then wrap. `cimq.finetune(distributed, loader, ...)` may stand in the place of this loop.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from digits import digit_sets
from processes import calibrate_once, finish, start
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, DistributedSampler

import cimq


def mean(loss: torch.Tensor, world: int) -> float:
    """Over the processes, whose batches are equally large."""
    if world > 1:
        dist.all_reduce(loss)
    return float(loss) / world


def network() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(128, 10),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("runs/ddp"))
    parser.add_argument("--bits", type=int, default=4)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--batch-size", type=int, default=64, help="images of all processes together")
    parser.add_argument("--lr", type=float, default=0.2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--resume", action="store_true", help="goes on from the checkpoint in --out")
    options = parser.parse_args()
    rank, world, device = start()
    if options.batch_size % world:
        raise SystemExit(f"--batch-size must be a multiple of the {world} processes, got {options.batch_size}")

    sets = digit_sets(options.seed)
    sampler: DistributedSampler = DistributedSampler(sets["train"], world, rank, seed=options.seed)
    loader = DataLoader(sets["train"], batch_size=options.batch_size // world, sampler=sampler, drop_last=True)
    torch.manual_seed(options.seed)
    model = cimq.prepare(network(), cimq.Policy.uniform(options.bits, options.bits)).to(device)
    calibrate_once(model, loader, rank, world)
    distributed: nn.Module = model
    if world > 1:
        distributed = DistributedDataParallel(model, device_ids=[device.index] if device.type == "cuda" else None)
    optimizer = torch.optim.SGD(cimq.param_groups(model, options.lr, weight_decay=1e-4), momentum=0.9)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, options.epochs)

    losses: list[float] = []
    checkpoint = options.out / "checkpoint.pt"
    if options.resume and checkpoint.exists():
        saved = torch.load(checkpoint, map_location=device, weights_only=True)
        model.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        schedule.load_state_dict(saved["schedule"])
        losses = saved["losses"]
    for epoch in range(len(losses), options.epochs):
        sampler.set_epoch(epoch)  # another order in every epoch, the same in all processes
        total = torch.zeros((), device=device)
        distributed.train()
        for x, y in loader:
            optimizer.zero_grad()
            loss = F.cross_entropy(distributed(x.to(device)), y.to(device))
            loss.backward()
            optimizer.step()
            total += loss.detach() / len(loader)
        schedule.step()
        losses.append(mean(total, world))
        if rank == 0:
            print(f"epoch {epoch + 1}: loss {losses[-1]:.4f}", flush=True)
            options.out.mkdir(parents=True, exist_ok=True)
            # The state of `model`, not of its wrapper: it loads into one process, or another number of them.
            content = {"model": model, "optimizer": optimizer, "schedule": schedule}
            state: dict[str, Any] = {name: part.state_dict() for name, part in content.items()}  # type: ignore[attr-defined]
            torch.save({**state, "losses": losses}, checkpoint.with_suffix(".partial"))
            os.replace(checkpoint.with_suffix(".partial"), checkpoint)
    if rank == 0:  # the others have nothing to add: the weights are the same everywhere
        accuracy = cimq.evaluate(model, DataLoader(sets["test"], batch_size=512))
        result = {"processes": world, "losses": losses, "test_accuracy": accuracy}
        (options.out / "result.json").write_text(json.dumps(result, indent=1) + "\n")
        print(f"{accuracy:.2%} of the test images with {options.bits} bits, {world} process(es); {checkpoint}")
    del distributed
    finish(world)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
