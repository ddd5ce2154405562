"""How a model is run on a batch of a loader, unless `forward_fn` says how."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from torch import nn

from cimq.quantization.batches import device_of, split_batch, to_device
from cimq.quantization.parallel import innermost


def default_forward(model: nn.Module, batch: Any) -> Any:
    """Runs the model on the inputs of a batch: one tensor, several, or keyword arguments from a dict.

    Raises:
        TypeError: If the model's forward does not take these inputs; says how the batch was understood.
    """
    inputs = to_device(split_batch(batch)[0], device_of(model))
    args = () if isinstance(inputs, Mapping) else inputs if isinstance(inputs, tuple) else (inputs,)
    kwargs = inputs if isinstance(inputs, Mapping) else {}
    try:
        return model(*args, **kwargs)
    except TypeError as error:
        if _takes(model, args, kwargs):
            raise
        name = type(innermost(model)).__name__
        if kwargs or isinstance(batch, Mapping):
            seen = f"the inputs of a batch are {', '.join(map(str, kwargs)) or 'none'} (all but its target)"
        else:
            target = "" if split_batch(batch)[1] is None else " and, last, the target"
            seen = f"a batch of {len(batch)} items is taken as {len(args)} input{'s' * (len(args) > 1)}{target}"
        raise TypeError(
            f"{seen}, which the forward of {name} does not take: yield batches (x, target), or pass "
            "forward_fn(model, batch) if only the inputs are others"
        ) from error


def _takes(model: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
    """Whether the forward's signature allows a call; True where it has none that can be read."""
    try:
        signature = inspect.signature(innermost(model).forward)
    except (TypeError, ValueError):
        return True
    try:
        signature.bind(*args, **kwargs)
    except TypeError:
        return False
    return True
