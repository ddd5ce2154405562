"""From what a user asks for to a pool of workers."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from torch import nn

from cimq.policy_search.workers.local import LocalProcesses
from cimq.policy_search.workers.pool import InProcess, Pool
from cimq.policy_search.workers.ray_cluster import RayActors
from cimq.policy_search.workers.sending import check_sendable
from cimq.torch_tools.batches import device_of


def check_workers(workers: Any, threads: Any) -> None:
    """Refuses what asks for no workers and no threads.

    Raises:
        ValueError: If it does.
    """
    whole = isinstance(workers, int) and not isinstance(workers, bool) and workers >= 1
    if not (workers is None or whole or (isinstance(workers, str) and workers)):
        raise ValueError(
            "search: workers must be None (this process), a number of local processes of at least 1, or the address of "
            f'a Ray cluster ("auto", "HOST:PORT", "ray://HOST:PORT"), got {workers!r}'
        )
    if threads is not None and (isinstance(threads, bool) or not isinstance(threads, int) or threads < 1):
        raise ValueError(f"search: threads must be None or at least 1, got {threads!r}")


def open_pool(workers: int | str | None, threads: int, model: nn.Module, arguments: Mapping[str, Any]) -> Pool:
    """Starts workers.

    Args:
        workers: None: no workers, all in this process; a number of local processes; or an address of Ray.
        threads: Of PyTorch in each.
        model: The fp32 model.
        arguments: What workers will need, by its names in `cimq.search`.

    Raises:
        TypeError: If something of it cannot be sent to another process.
        ImportError, ConnectionError: See `RayActors`.
    """
    if workers is None:
        return InProcess(threads)
    arguments = {"model": model, **arguments}
    if isinstance(workers, int):
        check_sendable(workers, arguments)
        return LocalProcesses(workers, threads)
    pool = RayActors(workers, threads, device_of(model).type == "cuda")
    try:
        check_sendable(workers, arguments, pool.pickler)
    except TypeError:
        pool.close()
        raise
    return pool


def places(pool: Pool, workers: int | str | None, threads: int) -> int:
    """How many calls are really answered at a time: local workers share the cores of this machine."""
    if not isinstance(workers, int):
        return pool.width
    affinity = getattr(os, "sched_getaffinity", None)
    cores = len(affinity(0)) if affinity is not None else os.cpu_count() or 1
    return max(1, min(workers, cores // threads))
