"""Forwards that were set on an object (`module.forward = ...`): they are not those of its class."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from torch import nn


def has_replaced_forward(module: nn.Module) -> bool:
    """Whether its forward was set on the object."""
    return "forward" in vars(module)


@contextlib.contextmanager
def forward_in_class(model: nn.Module) -> Iterator[None]:
    """Inside, a forward that was set on the object is that of its class: this is the one that torch.fx traces.

    Raises:
        ValueError: If it is no method of the object.
    """
    own: Any = vars(model).get("forward")
    if own is None:
        yield
        return
    function = getattr(own, "__func__", None)
    if function is None or own.__self__ is not model:
        raise ValueError("its forward was set on the object, and is no method of it")
    cls = type(model)
    model.__class__ = type(cls.__name__, (cls,), {"__module__": cls.__module__, "forward": function})
    del model.__dict__["forward"]
    try:
        yield
    finally:
        model.__class__ = cls
        model.__dict__["forward"] = own
