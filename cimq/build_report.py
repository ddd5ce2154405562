"""What this installation of cimq was built with and runs on."""

from __future__ import annotations

import platform
from typing import Any

import torch

from cimq import _C
from cimq._load import build_record


def build_info() -> dict[str, Any]:
    """Facts about the build and the machine; shown by `cimq info`, good to paste into a bug report.

    Returns:
        Plain values: `version`; `torch_built`, `torch_running`; `python`; `compiler`, `build_type`; `cuda` (what the
        build has, as text), `cuda_available` (a device and CUDA code for it); `cpu_features`, `isa_available`
        (kernels that run here, best first), `isa_chosen`; `threads` (of torch, which the ops follow).

    Raises:
        ValueError: If the environment variable CIMQ_CPU_ISA names an instruction set that is not available.

    Example:
        >>> info = build_info()
        >>> info["isa_chosen"] in info["isa_available"]
        True
    """
    record = build_record()
    with_cuda = record["with_cuda"] == "ON"
    return {
        "version": record["version"],
        "torch_built": record["torch_version"],
        "torch_running": str(torch.__version__),
        "python": platform.python_version(),
        "compiler": record["compiler"],
        "build_type": record["build_type"],
        "cuda": record["cuda_summary"],
        "cuda_available": with_cuda and torch.cuda.is_available(),
        "cpu_features": _C.cpu_features(),
        "isa_available": _C.isa_available(),
        "isa_chosen": _C.isa_chosen(),
        "threads": torch.get_num_threads(),
    }
