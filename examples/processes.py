"""What examples need under torchrun: joining the processes, and scales that are the same in all of them."""

from __future__ import annotations

import gc
import os
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

import cimq


def start() -> tuple[int, int, torch.device]:
    """Joins the processes of torchrun: (rank, how many, device). Without torchrun there is this one."""
    if not dist.is_torchelastic_launched():
        return 0, 1, torch.device("cuda" if torch.cuda.is_available() else "cpu")
    device = torch.device("cpu")
    if torch.cuda.is_available():
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    return dist.get_rank(), dist.get_world_size(), device


def calibrate_once(model: nn.Module, loader: Any, rank: int, world: int) -> None:
    """Calibrates in the first process; the others get its weights and scales, which a state_dict carries."""
    state: list[Any] = [None]
    if rank == 0:
        cimq.calibrate(model, loader)
        state = [{name: value.cpu() for name, value in model.state_dict().items()}]
    if world > 1:
        dist.broadcast_object_list(state)
        model.load_state_dict(state[0])


def finish(world: int) -> None:
    """Leaves the processes of torchrun: nobody before another one that still needs it.

    Callers `del` their DistributedDataParallel before. What outlives the group ends it in its own destructor, which
    waits for gloo's threads with Python's lock held, while one of them may wait for that lock: a process that hangs.
    """
    if world > 1:
        gc.collect()  # wrappers in cycles
        dist.barrier()
        dist.destroy_process_group()
