"""On which devices the operators run."""

from __future__ import annotations

import functools

import torch

from cimq._load import build_record
from cimq.torch_tools.private_names import extension_device, has_dispatched_kernel


def has_kernels(device: torch.device) -> bool:
    """Whether cimq has kernels for a device: the CPU, CUDA in a build with it, and what registers some for its own.

    Example:
        >>> import torch
        >>> has_kernels(torch.device("cpu")), has_kernels(torch.device("meta"))
        (True, False)
    """
    return device.type == "cpu" or _has_kernels(device.type)


@functools.cache
def _has_kernels(kind: str) -> bool:
    if kind == "cuda":
        return bool(build_record()["with_cuda"] == "ON")
    # A device that another package brings: there are no tensors on it before it is there, kernels included.
    return kind == extension_device() and has_dispatched_kernel("cimq::fake_quantize", "PrivateUse1")
