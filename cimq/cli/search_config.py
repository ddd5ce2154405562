"""The YAML or JSON file that `cimq search` takes."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cimq import _C
from cimq.cli.placing import placed
from cimq.hardware import Hardware, resolve
from cimq.structured_files import read_structured

_REQUIRED = ("model", "data", "out")
_GOALS = ("max_accuracy_drop", "min_speedup")  # one of them
_FACTORIES = ("model", "data", "val_data")
_FUNCTIONS = ("loss", "metric", "forward")
_TYPES: dict[str, tuple[type, ...]] = {
    "max_accuracy_drop": (int, float, type(None)),
    "min_speedup": (int, float, type(None)),
    "strategy": (str,),
    "evaluations": (int, type(None)),
    "time_budget": (int, float, str, type(None)),
    "seed": (int,),
    "out": (str,),
    "resume": (bool,),
    "objective": (str,),
    "pipeline": (str,),
    "duplication": (str, type(None)),
    "device": (str, type(None)),
    "shared_epochs": (int, type(None)),
    "shared_weights": (str, type(None)),
    "workers": (int, str, type(None)),
    "threads": (int, type(None)),
    "train_batches": (int, type(None)),
    "finetune_epochs": (int,),
    "finetune_batches": (int, type(None)),
    "finetune_lr": (int, float),
    "finalists": (int, type(None)),
    "batch": (int,),
    "bits": (list,),
    "adc_bits": (list, type(None)),
    "mappings": (list, type(None)),
    "first_last_bits": (int, type(None)),
    "weight_multiple_of_cell": (bool,),
    "groups": (list,),
    "exclude": (list,),
    "calibration_batches": (int,),
    "bn_batches": (int,),
    "search_samples": (int,),
    "rung_policies": (int,),
    "pareto": (int,),
}
_PATHS = ("out", "shared_weights")
_KEYS = (*_FACTORIES, *_FUNCTIONS, *_TYPES, "hardware")


def read_search_config(path: str | Path) -> dict[str, Any]:
    """Arguments for `cimq.search`, the model and the loader included.

    Args:
        path: File with `model`, `data` and optionally `val_data` ("package.module:factory", called without arguments:
            an nn.Module, an iterable of batches), `loss`, `metric` and `forward` ("package.module:function"),
            `hardware` (preset, file, or fields of cimq.Hardware), `device` (where the model is put: "cuda"), `out`, and
            others of `cimq.search` by name.
            Modules are looked up in the file's folder first; relative paths start there too.

    Returns:
        Keyword arguments of `cimq.search`.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: For an unknown or missing key, a wrong type, or a factory that is not found.
    """
    path = Path(path)
    content = read_structured(path, "search configuration")
    try:
        _check_keys(content)
        folder = path.resolve().parent
        arguments: dict[str, Any] = {key: content[key] for key in _TYPES if key in content}
        for key in ("bits", "adc_bits"):
            if arguments.get(key) is not None:
                arguments[key] = tuple(arguments[key])
        for key in _PATHS:
            if arguments.get(key) is not None:
                arguments[key] = folder / arguments[key]
        if "hardware" in content:
            arguments["hardware"] = _hardware(content["hardware"], folder)
        names = {"data": "loader", "val_data": "val_loader", "loss": "loss_fn", "metric": "metric_fn"}
        names["forward"] = "forward_fn"
        for key in (*_FACTORIES, *_FUNCTIONS):
            if key in content:
                function = named_function(content[key], key, folder)
                arguments[names.get(key, key)] = function() if key in _FACTORIES else function
        arguments["model"] = placed(arguments["model"], arguments.pop("device", None), "device")
        return arguments
    except ValueError as error:
        raise ValueError(f"search configuration {path}: {error}") from None


def _check_keys(content: Any) -> None:
    if not isinstance(content, dict):
        raise ValueError(f"it must hold keys with values, got {type(content).__name__}")
    for key in content:
        if key not in _KEYS:
            near = _C.nearest_word(str(key), list(_KEYS))
            hint = f" (did you mean {near!r}?)" if near else ""
            raise ValueError(f"unknown key {key!r}{hint}; allowed: {', '.join(_KEYS)}")
    missing = [key for key in _REQUIRED if key not in content]
    if all(content.get(key) is None for key in _GOALS):
        missing.append(" or ".join(_GOALS))
    if missing:
        raise ValueError(f"it lacks {', '.join(missing)}")
    for key, types in _TYPES.items():
        value = content.get(key)
        if key in content and (not isinstance(value, types) or (isinstance(value, bool) and bool not in types)):
            wanted = " or ".join("null" if kind is type(None) else kind.__name__ for kind in types)
            raise ValueError(f"{key} must be of type {wanted}, got {json.dumps(value, default=str)}")


def _hardware(content: Any, folder: Path) -> Hardware:
    if isinstance(content, dict):
        return Hardware.from_dict(content)
    if isinstance(content, str) and (folder / content).is_file():
        return Hardware.from_file(folder / content)
    if isinstance(content, str):
        return resolve(content)
    raise ValueError(
        f"hardware must be a preset, a file or an object with fields, got {json.dumps(content, default=str)}"
    )


def named_function(text: Any, key: str, folder: Path) -> Callable[..., Any]:
    """The function that "package.module:function" names; modules are looked for in `folder` too.

    Raises:
        ValueError: If the text has another form, or there is no such module or function; names `key`.
    """
    parts = text.split(":") if isinstance(text, str) else []
    if len(parts) != 2 or not all(parts):
        raise ValueError(f'{key} must have the form "package.module:function", got {json.dumps(text, default=str)}')
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
    try:
        module = importlib.import_module(parts[0])
    except ModuleNotFoundError as error:
        raise ValueError(f"{key}: there is no module {error.name!r} (looked in {folder} and the Python path)") from None
    function: Callable[..., Any] | None = getattr(module, parts[1], None)
    if function is None or not callable(function):
        raise ValueError(f"{key}: module {parts[0]!r} has no function {parts[1]!r}")
    return function
