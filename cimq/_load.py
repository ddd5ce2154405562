"""Loads the compiled module after checking that it fits the torch that is installed."""

from __future__ import annotations

import json
import platform
from importlib import import_module
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any

import torch

_PACKAGE = Path(__file__).resolve().parent
_REBUILD = "pip install --no-build-isolation -e ."
_RECORDED = ("version", "torch_version", "python", "compiler", "build_type", "with_cuda", "cuda_summary")


def build_record() -> dict[str, Any]:
    """The facts that the build wrote beside the compiled module.

    Raises:
        ImportError: If cimq was never built here, or the record is damaged.
    """
    path = _PACKAGE / "_build_record.json"
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ImportError(f"cimq's extension is not built: run `{_REBUILD}` in its source folder.") from None
    except ValueError:
        record = None
    if not isinstance(record, dict) or any(not isinstance(record.get(key), str) for key in _RECORDED):
        raise ImportError(f"cimq's build record {path} is damaged: rebuild with `{_REBUILD}`.")
    return record


def check_torch_version(built: str, running: str) -> None:
    """Refuses a torch other than the one built against: its C++ interface differs between releases.

    Raises:
        ImportError: With the rebuild command, if version or kind (CPU, CUDA) differs.
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
    check_torch_version(record["torch_version"], str(torch.__version__))
    built = f"built against torch {record['torch_version']} with Python {record['python']}"
    # The file's name carries the Python version, so another Python does not even see it. Looked for in this folder
    # alone: the hook of an editable install elsewhere would offer the module of that other source tree.
    if PathFinder.find_spec("cimq._C", [str(_PACKAGE)]) is None:
        raise ImportError(
            f"cimq's extension ({built}) is missing for this Python {platform.python_version()}: "
            f"rebuild with `{_REBUILD}`."
        )
    try:
        import_module("cimq._C")
    except ImportError as error:
        raise ImportError(f"cimq's extension ({built}) does not load: {error}. Rebuild with `{_REBUILD}`.") from error
