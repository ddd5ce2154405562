"""Hooks of users: between a layer and the batch normalisation that it computes in evaluation, and in conversion."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

from torch import nn

from cimq.errors import CimqWarning
from cimq.torch_tools.private_names import forward_hooks, forward_pre_hooks


def warn_of_hooks(layer: nn.Module, layer_name: str, norm: nn.Module, norm_name: str) -> None:
    """Says once that a hook on the layer's output, or before the normalisation, sees normalised values."""
    users = any(map(_is_of_user, (*forward_hooks(layer), *forward_pre_hooks(norm))))
    if users and not layer.__dict__.get("_cimq_said_hooks"):
        layer.__dict__["_cimq_said_hooks"] = True
        warnings.warn(
            f"a hook on the output of {layer_name!r} sees normalised values in evaluation: the batch normalisation "
            f"{norm_name!r} is part of the layer's multiplier and bias there, and passes them on; in training it sees "
            f"the layer alone. For the same values in both, hook the output of {norm_name!r}",
            CimqWarning,
            stacklevel=2,
        )


def hooked(model: nn.Module, is_called: Callable[[nn.Module, str], bool]) -> list[str]:
    """Names of modules with forward hooks of the user's own that a converted model does not call.

    Args:
        model: A prepared model.
        is_called: `is_called(module, name)`: whether the forward of a module, and so its hooks, is traced.
    """
    return [
        repr(name) if name else "the model itself"
        for name, module in model.named_modules()
        if any(map(_is_of_user, (*forward_hooks(module), *forward_pre_hooks(module))))
        and (not name or not is_called(module, name))
    ]


def _is_of_user(hook: Any) -> bool:
    """Not cimq's, nor one of PyTorch's that computes a weight (pruning, weight_norm, spectral_norm of old)."""
    return not (getattr(hook, "__module__", None) or "").startswith(("cimq.", "torch.nn."))
