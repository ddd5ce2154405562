"""What a training needs to go on: model, optimiser, history, and the state of every random generator."""

from __future__ import annotations

import random
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import nn

from cimq.atomic_files import atomic_file
from cimq.errors import CimqWarning
from cimq.policy_rows import LayerBits, checked_row, short_row
from cimq.quantization.layers.quant_layer import QuantLayer
from cimq.torch_tools.batches import device_of
from cimq.torch_tools.devices import rng_state, set_rng_state


def save_state(
    path: Path,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler,
    history: Sequence[tuple[Any, ...]],
    options: dict[str, Any],
) -> None:
    """Writes the state of a training and its options to a file, which is replaced as a whole.

    Raises:
        OSError: If it cannot be written; names it.
    """
    name, keys, position, has_gauss, cached = cast("tuple[str, Any, int, int, float]", np.random.get_state())
    content = {
        "model": model.state_dict(),
        "bits": _bits(model),
        "optimizer": optimizer.state_dict(),
        "scaler": scaler.state_dict(),
        "history": list(history),
        "options": options,
        "random": {
            "torch": torch.get_rng_state(),
            "device": (device_of(model).type, rng_state(device_of(model))),
            "python": random.getstate(),
            "numpy": (name, torch.from_numpy(keys.astype(np.int64)), position, has_gauss, cached),
        },
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with atomic_file(path) as file:
            torch.save(content, file)
    except OSError as error:
        raise OSError(
            error.errno,
            f"finetune: checkpoint cannot be written ({error.strerror}); the model is trained up to epoch "
            f"{len(history)}, and an older checkpoint is kept",
            str(path),
        ) from error


def _bits(model: nn.Module) -> dict[str, tuple[Any, ...]]:
    return {
        module.layer_name: short_row(LayerBits(module.weight_bits, module.act_bits), module.layer_machine)
        for module in model.modules()
        if isinstance(module, QuantLayer) and not module.left_fp32
    }


def _title(row: tuple[Any, ...]) -> str:
    (w, a), machine = checked_row(row, "checkpoint")
    return f"W{w}A{a}" + (f" ({machine})" if machine.given() else "")


def load_state(
    path: Path, model: nn.Module, optimizer: torch.optim.Optimizer, scaler: torch.amp.GradScaler
) -> tuple[list[tuple[Any, ...]], dict[str, Any]]:
    """Takes up what `save_state` wrote; returns the history and the options. Rates stay those of `optimizer`.

    Raises:
        ValueError: If the file is another one, or of a model with other layers, other bits or another kind of machine.
    """
    content = _read(path)
    bits = _bits(model)
    changed = [name for name, was in content["bits"].items() if bits.get(name, was) != was]
    if changed:
        first = changed[0]
        was, now = (_title(row) for row in (content["bits"][first], bits[first]))
        raise ValueError(
            f"finetune: checkpoint {path} is of another policy: {len(changed)} layers had other bits, {first!r} {was} "
            f"and now {now}; set the policy that it was trained with, or start without resume"
        )
    _load_model(path, content, model)
    present = [{key: value for key, value in group.items() if key != "params"} for group in optimizer.param_groups]
    optimizer.load_state_dict(content["optimizer"])
    for group, values in zip(optimizer.param_groups, present, strict=True):
        group.update(values, initial_lr=values["lr"])
    if content["scaler"]:  # empty without fp16
        scaler.load_state_dict(content["scaler"])
    states = content["random"]
    torch.set_rng_state(states["torch"].cpu())
    before = ("cpu", None) if states.get("cuda") is None else ("cuda", states["cuda"])  # of earlier versions
    kind, device_state = states.get("device", before)
    if kind == device_of(model).type:
        set_rng_state(device_of(model), device_state)
    else:
        warnings.warn(
            f"finetune: checkpoint {path} was made on {kind}, and the model is on {device_of(model).type}: training "
            "goes on, and not to what an uninterrupted run gives (floats are added in another order, and the device "
            "has random numbers of its own)",
            CimqWarning,
            stacklevel=3,
        )
    version, internal, gauss = states["python"]
    random.setstate((version, tuple(internal), gauss))
    name, keys, position, has_gauss, cached = states["numpy"]
    np.random.set_state((name, keys.cpu().numpy().astype(np.uint32), position, has_gauss, cached))
    return list(content["history"]), dict(content["options"])


def load_weights(path: Path, model: nn.Module) -> None:
    """Takes the weights and scales that `save_state` wrote, and nothing else.

    Raises:
        ValueError: If the file is another one, or of a model with other layers or another kind of machine.
    """
    _load_model(path, _read(path), model)


def _read(path: Path) -> dict[str, Any]:
    """On the CPU, from where model and optimiser take it to their device: the device holds no second copy."""
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        missing = {"model", "bits", "optimizer", "scaler", "history", "options", "random"} - set(content)
    except Exception as error:  # of many types: whatever a file that is none makes the unpickler do
        raise ValueError(f"finetune: {path} cannot be read as a checkpoint ({type(error).__name__})") from error
    if missing:
        raise ValueError(f"finetune: {path} is no checkpoint of finetune: it lacks {', '.join(sorted(missing))}")
    return dict(content)


def _load_model(path: Path, content: dict[str, Any], model: nn.Module) -> None:
    try:
        model.load_state_dict(content["model"])
    except RuntimeError as error:
        raise ValueError(f"finetune: checkpoint {path} is of another model or kind of machine: {error}") from None
