"""How a model is run on a batch of a loader, unless `forward_fn` says how, and what of its output are scores."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor, nn

from cimq.torch_tools.batches import device_of, split_batch, to_device
from cimq.torch_tools.parallel import innermost


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


def run_sample(model: nn.Module, sample_input: Any) -> Any:
    """Calls a model with one input, a tuple of inputs, or a dict of keyword arguments, on the model's device."""
    sample_input = to_device(sample_input, device_of(model))
    if isinstance(sample_input, Mapping):
        return model(**sample_input)
    return model(*sample_input) if isinstance(sample_input, (tuple, list)) else model(sample_input)


@contextlib.contextmanager
def noting_batch(model: nn.Module) -> Iterator[list[int]]:
    """A list whose only entry is the first dimension of the first tensor that the model got last, 0 before."""
    noted = [0]

    def note(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        tensors = [value for value in (*args, *kwargs.values()) if isinstance(value, Tensor) and value.dim() > 0]
        noted[0] = tensors[0].shape[0] if tensors else 0

    hook = model.register_forward_pre_hook(note, with_kwargs=True)
    try:
        yield noted
    finally:
        hook.remove()


def logits_of(output: Any, remedy: str = "pass loss_fn / metric_fn") -> Tensor:
    """The scores in a model's output: the output itself, its `logits`, or the first of a tuple.

    Raises:
        TypeError: If there are none.
    """
    if isinstance(output, (tuple, list)) and output:
        output = output[0]
    elif isinstance(output, Mapping):
        output = output.get("logits", output.get("out", output))
    elif not isinstance(output, Tensor):
        output = getattr(output, "logits", output)
    if not isinstance(output, Tensor):
        raise TypeError(f"cannot find scores in an output of type {type(output).__name__}; {remedy}")
    return output
