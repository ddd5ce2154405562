"""Training and evaluation modes of modules."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from torch import nn


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
