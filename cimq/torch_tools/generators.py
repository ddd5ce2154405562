"""Random generators that belong to a loader: those of its samplers and data set, besides the global ones."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader

from cimq.torch_tools.private_names import drop_workers

# Attributes of a loader (and of what is in them) whose objects may hold generators.
_PARTS = ("sampler", "batch_sampler", "dataset", "datasets", "source", "loader")
_KINDS = (torch.Generator, np.random.Generator, np.random.RandomState, random.Random)


def seed_generators(loaders: Iterable[Any], seed: int) -> None:
    """Seeds every generator that loaders hold; their workers that persist start anew, as theirs cannot be reached."""
    for loader in loaders:
        for generator in _generators(loader):
            if isinstance(generator, torch.Generator):
                generator.manual_seed(seed % 2**63)
            elif isinstance(generator, np.random.Generator):
                bits: Any = generator.bit_generator
                bits.state = type(bits)(seed % 2**63).state
            else:
                generator.seed(seed % 2**32)
        for part in _parts(loader):
            if isinstance(part, DataLoader) and part.persistent_workers:
                drop_workers(part)


def start_epoch(loaders: Iterable[Any], seed: int, epoch: int) -> None:
    """What loaders yield in an epoch depends on seed and epoch alone, not on the epochs that this process has seen.

    Samplers and data sets with a `set_epoch` (`DistributedSampler`) are told the epoch; generators are seeded.
    """
    loaders = list(loaders)
    for loader in loaders:
        for part in _parts(loader):
            if callable(getattr(part, "set_epoch", None)):
                part.set_epoch(epoch)
    seed_generators(loaders, seed + 1_000_003 * epoch)


def kept_generators(loaders: Iterable[Any]) -> Callable[[], None]:
    """Notes the state of every generator that loaders hold; the function that is returned gives it back to them."""
    states = [(generator, _state(generator)) for loader in loaders for generator in _generators(loader)]

    def restore() -> None:
        for generator, state in states:
            if isinstance(generator, torch.Generator):
                generator.set_state(state)
            elif isinstance(generator, np.random.Generator):
                generator.bit_generator.state = state
            elif isinstance(generator, np.random.RandomState):
                generator.set_state(state)
            else:
                generator.setstate(state)

    return restore


def _state(generator: Any) -> Any:
    if isinstance(generator, np.random.Generator):
        return generator.bit_generator.state
    if isinstance(generator, (torch.Generator, np.random.RandomState)):
        return generator.get_state()
    return generator.getstate()


def _parts(loader: Any) -> list[Any]:
    """The loader, its samplers, its data sets and the data sets in those; each once."""
    parts: dict[int, Any] = {}
    waiting = [loader]
    while waiting:
        part = waiting.pop()
        if part is None or id(part) in parts:
            continue
        if isinstance(part, (list, tuple)):
            # Of data sets that are joined; a list of batches is one of tensors, which hold nothing.
            waiting += [item for item in reversed(part) if isinstance(getattr(item, "__dict__", None), dict)]
            if type(part) in (list, tuple):
                continue
        parts[id(part)] = part
        attributes = _attributes(part)
        waiting += [attributes[name] for name in reversed(_PARTS) if name in attributes]
    return list(parts.values())


def _generators(loader: Any) -> list[Any]:
    found: dict[int, Any] = {}
    for part in _parts(loader):
        for value in _attributes(part).values():
            # SystemRandom has no state; torch's global generator is kept with the rest of the global state.
            if isinstance(value, _KINDS) and not isinstance(value, random.SystemRandom):
                found.setdefault(id(value), value)
    found.pop(id(torch.default_generator), None)
    return list(found.values())


def _attributes(part: Any) -> dict[str, Any]:
    attributes = getattr(part, "__dict__", None)
    return attributes if isinstance(attributes, dict) else {}
