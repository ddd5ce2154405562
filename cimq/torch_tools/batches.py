"""What a loader may yield: (x, target), a list, or a mapping."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from cimq.torch_tools.devices import rng_state, seed_device, set_rng_state
from cimq.torch_tools.generators import kept_generators, seed_generators

ForwardFn = Callable[[nn.Module, Any], Any]
_TARGET_KEYS = ("labels", "label", "targets", "target", "y")


def split_batch(batch: Any) -> tuple[Any, Any]:
    """(input, target) of a batch; the target is None where there is none.

    A tensor is an input alone. A sequence of one is an input, of more: the last is the target, the rest the inputs. Of
    a dict (or any other mapping), the first of labels, label, targets, target, y is the target, the rest the inputs.

    Raises:
        TypeError: For anything else.
    """
    if isinstance(batch, Tensor):
        return batch, None
    if isinstance(batch, Mapping):
        key = next((key for key in _TARGET_KEYS if key in batch), None)
        return {k: v for k, v in batch.items() if k != key}, None if key is None else batch[key]
    if isinstance(batch, Sequence) and not isinstance(batch, (str, bytes)) and len(batch) > 0:
        if len(batch) == 1:
            return batch[0], None
        inputs = batch[:-1]
        return (inputs[0] if len(inputs) == 1 else tuple(inputs)), batch[-1]
    raise TypeError(
        f"a loader must yield (x, target), a list or a mapping, got {type(batch).__name__}; forward_fn(model, batch) "
        "takes inputs of other kinds, and the target must be the last of a sequence or under a key like labels"
    )


def device_of(model: nn.Module) -> torch.device:
    """Device of the first parameter or buffer."""
    for tensor in itertools.chain(model.parameters(), model.buffers()):
        return tensor.device
    return torch.device("cpu")


def to_device(value: Any, device: torch.device) -> Any:
    """Moves tensors inside tuples, lists and mappings; without waiting for a device where the memory is pinned."""
    if isinstance(value, nn.utils.rnn.PackedSequence):  # a named tuple, of which not all moves
        packed: Any = value
        return packed.to(device)
    if isinstance(value, Tensor):
        # On the way to the CPU torch would return before the values are there.
        return value.to(device, non_blocking=device.type != "cpu")
    if isinstance(value, Mapping):
        return {key: to_device(inner, device) for key, inner in value.items()}
    if isinstance(value, (tuple, list)):
        moved = [to_device(inner, device) for inner in value]
        if hasattr(value, "_fields"):  # a named tuple
            return type(value)(*moved)
        return moved if isinstance(value, list) else tuple(moved)
    return value


def batch_size(batch: Any) -> int:
    """Number of samples: the first dimension of the first tensor that has one, of the inputs before the target's."""
    tensors = (tensor for part in split_batch(batch) for tensor in tensors_of(part))
    return next((len(tensor) for tensor in tensors if tensor.dim()), 1)


def first_samples(batch: Any, count: int) -> Any:
    """The first samples of a batch whose tensors all have one row per sample; see `samples_between`.

    Example:
        >>> first_samples((torch.zeros(5, 2), torch.arange(5)), 2)[1]
        tensor([0, 1])
    """
    return samples_between(batch, 0, count)


def samples_between(batch: Any, begin: int, end: int) -> Any:
    """Some samples of a batch whose tensors all have one row per sample.

    A batch that holds anything else (texts, tensors of another first dimension) stays whole: what belongs to which
    sample is not known there.

    Args:
        batch: Any.
        begin: The first sample.
        end: The one after the last.

    Example:
        >>> samples_between((torch.zeros(5, 2), torch.arange(5)), 2, 4)[1]
        tensor([2, 3])
    """
    size = batch_size(batch)
    whole = begin <= 0 and end >= size
    return batch if whole or not _has_rows(batch, size) else _rows(batch, slice(begin, end))


def _has_rows(value: Any, size: int) -> bool:
    if isinstance(value, Tensor):
        return value.layout == torch.strided and value.dim() > 0 and len(value) == size
    if isinstance(value, Mapping):
        return all(_has_rows(inner, size) for inner in value.values())
    plain = isinstance(value, (tuple, list)) and not isinstance(value, nn.utils.rnn.PackedSequence)
    return plain and all(_has_rows(inner, size) for inner in value)


def _rows(value: Any, rows: slice) -> Any:
    if isinstance(value, Tensor):
        return value[rows]
    if isinstance(value, Mapping):
        return {key: _rows(inner, rows) for key, inner in value.items()}
    cut = [_rows(inner, rows) for inner in value]
    if hasattr(value, "_fields"):  # a named tuple
        return type(value)(*cut)
    return cut if isinstance(value, list) else tuple(cut)


def tensors_of(value: Any) -> Iterator[Tensor]:
    """Tensors inside tuples, lists, mappings and data classes, in their order."""
    if dataclasses.is_dataclass(value) and not isinstance(value, (Mapping, type)):
        value = {field.name: getattr(value, field.name, None) for field in dataclasses.fields(value)}
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from tensors_of(inner)
    elif isinstance(value, (tuple, list)):
        for inner in value:
            yield from tensors_of(inner)


@contextlib.contextmanager
def kept_random_state(model: nn.Module, seed: int | None = None, loaders: Iterable[Any] = ()) -> Iterator[None]:
    """Leaves the random state of Python, NumPy and torch as it was, and that of generators of the loaders' own.

    Args:
        model: Whose device is meant, beside the CPU; those of other devices are neither seeded nor changed.
        seed: All of them are seeded with it inside; None leaves them at what they are.
        loaders: What is gone through inside: a generator of a loader, its samplers or its data set counts as state.
    """
    device = device_of(model)
    loaders = list(loaders)
    python_state, numpy_state, restore = random.getstate(), np.random.get_state(), kept_generators(loaders)
    torch_state, device_state = torch.get_rng_state(), rng_state(device)
    try:
        if seed is not None:
            random.seed(seed)
            np.random.seed(seed % 2**32)
            torch.default_generator.manual_seed(seed)
            seed_device(device, seed)
            seed_generators(loaders, seed)
        yield
    finally:
        torch.set_rng_state(torch_state)
        set_rng_state(device, device_state)
        random.setstate(python_state)
        np.random.set_state(numpy_state)
        restore()


def random_state() -> tuple[Any, ...]:
    """The random state of Python, NumPy and torch on the CPU, to be compared with a later one."""
    numpy_state: Any = np.random.get_state()
    return random.getstate(), numpy_state[1].tobytes(), numpy_state[2:], torch.get_rng_state().numpy().tobytes()
