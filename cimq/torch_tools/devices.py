"""The device that a model lies on: which one, its random state, its clock, and autocast on it.

Devices are told by their name alone, so that one which torch does not know by itself (a backend of the tests, of
another package) is handled in the same way: what its module `torch.NAME` does not have is left out.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn


def named_tensors(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Parameters and buffers by name, parameters first."""
    named = itertools.chain(model.named_parameters(), model.named_buffers())
    return ((name, tensor) for name, tensor in named if isinstance(tensor, Tensor))


def devices_of(model: nn.Module) -> dict[torch.device, str]:
    """The devices of parameters and buffers, each with the name of the first tensor on it."""
    found: dict[torch.device, str] = {}
    for name, tensor in named_tensors(model):
        found.setdefault(tensor.device, name)
    return found


def synchronize(device: torch.device) -> None:
    """Waits until a device has done what it was asked for: only then does a clock tell how long it took."""
    wait = _of_module(device, "synchronize")
    if wait is not None:
        wait(device)


def rng_state(device: torch.device) -> Tensor | None:
    """State of the device's own random generator; None for the CPU, and for a device that has none."""
    state = _of_module(device, "get_rng_state")
    return None if state is None else state(device)


def set_rng_state(device: torch.device, state: Tensor | None) -> None:
    """Gives a device the state that `rng_state` found."""
    if state is not None:
        torch.get_device_module(device).set_rng_state(state.cpu(), device)


def seed_device(device: torch.device, seed: int) -> None:
    """Seeds the random generator of one device. `torch.manual_seed` would seed those of all, also of other users."""
    manual_seed = _of_module(device, "manual_seed")
    if manual_seed is not None:
        with torch.get_device_module(device).device(device):
            manual_seed(seed)


def autocast(device: torch.device, dtype: torch.dtype | None) -> contextlib.AbstractContextManager[Any]:
    """Autocast to a type on a device; with None nothing."""
    return contextlib.nullcontext() if dtype is None else torch.autocast(device.type, dtype)


def without_autocast(device: torch.device) -> contextlib.AbstractContextManager[Any]:
    """Inside, operations on a device have the types of their operands."""
    enabled = torch.is_autocast_enabled(device.type)
    return torch.autocast(device.type, enabled=False) if enabled else contextlib.nullcontext()


def _of_module(device: torch.device, name: str) -> Any:
    """An attribute of the module of a device; None where there is none, and for the CPU, which needs none."""
    return None if device.type == "cpu" else getattr(getattr(torch, device.type, None), name, None)
