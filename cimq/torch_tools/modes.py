"""Training and evaluation modes of modules."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import nn

from cimq.torch_tools.private_names import buffers_of, is_traced_constant


@contextlib.contextmanager
def in_mode(model: nn.Module, training: bool) -> Iterator[None]:
    """The model is in training or in evaluation; every module gets its own mode back."""
    modes = [(module, module.training) for module in model.modules()]
    model.train(training)
    try:
        yield
    finally:
        for module, its_own in modes:
            module.training = its_own


def in_evaluation(model: nn.Module) -> contextlib.AbstractContextManager[None]:
    """All modules are in evaluation; each gets its own mode back, also where a part of the model was frozen."""
    return in_mode(model, False)


@contextlib.contextmanager
def unchanged(model: nn.Module) -> Iterator[None]:
    """Attributes and buffers of all modules become again what they were: a traced forward runs what it does to them.

    What torch.fx adds for its graphs (constants) stays.
    """
    with torch.no_grad():
        saved = [
            (module, dict(module.__dict__), dict(buffers_of(module)), [b.clone() for b in _tensors(module)])
            for module in model.modules()
            if not isinstance(module, torch.jit.ScriptModule)  # opaque to tracing
        ]
    try:
        yield
    finally:
        for module, attributes, buffers, values in saved:
            constants = {name: value for name, value in module.__dict__.items() if is_traced_constant(name)}
            module.__dict__.clear()
            module.__dict__.update(attributes | constants)
            buffers_of(module).clear()
            buffers_of(module).update(buffers)
            with torch.no_grad():
                for buffer, value in zip(_tensors(module), values, strict=True):
                    if not torch.equal(buffer, value):
                        buffer.copy_(value)


def _tensors(module: nn.Module) -> list[torch.Tensor]:
    return [b for b in buffers_of(module).values() if b is not None and not torch.nn.parameter.is_lazy(b)]
