"""What a loader may yield: (x, target), a list, or a dict."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

ForwardFn = Callable[[nn.Module, Any], Any]
_TARGET_KEYS = ("labels", "label", "targets", "target", "y")


def split_batch(batch: Any) -> tuple[Any, Any]:
    """(input, target) of a batch; the target is None where there is none.

    A tensor is an input alone. A sequence of one is an input, of more: the last is the target, the rest the inputs. Of
    a dict, the first of labels, label, targets, target, y is the target, the rest the inputs.

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
        f"a loader must yield (x, target), a list or a dict, got {type(batch).__name__}; "
        "or pass forward_fn(model, batch)"
    )


def device_of(model: nn.Module) -> torch.device:
    """Device of the first parameter or buffer."""
    for tensor in (*model.parameters(), *model.buffers()):
        return tensor.device
    return torch.device("cpu")


def to_device(value: Any, device: torch.device) -> Any:
    """Moves tensors inside tuples, lists and dicts."""
    if isinstance(value, Tensor):
        return value.to(device, non_blocking=True)
    if isinstance(value, Mapping):
        return {key: to_device(inner, device) for key, inner in value.items()}
    if isinstance(value, (tuple, list)):
        return type(value)(to_device(inner, device) for inner in value) if type(value) in (tuple, list) else value
    return value


def default_forward(model: nn.Module, batch: Any) -> Any:
    """Runs the model on the inputs of a batch: one tensor, several, or keyword arguments from a dict."""
    inputs = to_device(split_batch(batch)[0], device_of(model))
    if isinstance(inputs, dict):
        return model(**inputs)
    return model(*inputs) if isinstance(inputs, tuple) else model(inputs)


@contextlib.contextmanager
def kept_random_state(model: nn.Module, seed: int | None = None) -> Iterator[None]:
    """Leaves the random state of Python, NumPy and torch as it was; inside, it is seeded if `seed` is given."""
    device = device_of(model)
    devices = [device] if device.type == "cuda" else []
    python_state, numpy_state = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng(devices=devices):
            if seed is not None:
                random.seed(seed)
                np.random.seed(seed % 2**32)
                torch.manual_seed(seed)
            yield
    finally:
        random.setstate(python_state)
        np.random.set_state(numpy_state)


def random_state() -> tuple[Any, ...]:
    """The random state of Python, NumPy and torch on the CPU, to be compared with a later one."""
    numpy_state: Any = np.random.get_state()
    return random.getstate(), numpy_state[1].tobytes(), numpy_state[2:], torch.get_rng_state().numpy().tobytes()
