"""Loads the compiled module after checking that it fits the torch that is installed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

_PACKAGE = Path(__file__).resolve().parent
_REBUILD = "pip install --no-build-isolation -e ."


def build_record() -> dict[str, Any]:
    """The facts that the build wrote beside the compiled module.

    Raises:
        ImportError: If cimq was never built here.
    """
    path = _PACKAGE / "_build_record.json"
    if not path.exists():
        raise ImportError(f"cimq's extension is not built: run `{_REBUILD}` in its source folder.")
    record: dict[str, Any] = json.loads(path.read_text())
    return record


def check_torch_version(built: str, running: str) -> None:
    """Refuses a torch other than the one built against: its C++ interface differs between releases.

    Raises:
        ImportError: With the rebuild command, if major.minor.patch or the CPU/CUDA kind differs.
    """
    if built != running:
        raise ImportError(
            f"cimq was built against torch {built}, but torch {running} is installed: rebuild with `{_REBUILD}`."
        )


def load() -> None:
    """Imports cimq._C, which registers torch.ops.cimq.

    Raises:
        ImportError: With one sentence and the rebuild command.
    """
    record = build_record()
    check_torch_version(record["torch_version"], torch.__version__)
    try:
        from cimq import _C  # noqa: F401
    except ImportError as error:
        raise ImportError(
            f"cimq's extension (built against torch {record['torch_version']} with Python {record['python']}) "
            f"does not load: {error}. Rebuild with `{_REBUILD}`."
        ) from error
