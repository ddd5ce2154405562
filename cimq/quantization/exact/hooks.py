"""Hooks of users between a layer and the batch normalisation that it computes in evaluation."""

from __future__ import annotations

import warnings

from torch import nn

from cimq.errors import CimqWarning
from cimq.torch_tools.private_names import forward_hooks, forward_pre_hooks


def warn_of_hooks(layer: nn.Module, layer_name: str, norm: nn.Module, norm_name: str) -> None:
    """Says once that a hook on the layer's output, or before the normalisation, sees normalised values."""
    hooks = (*forward_hooks(layer), *forward_pre_hooks(norm))
    users = [hook for hook in hooks if not (getattr(hook, "__module__", None) or "").startswith("cimq.")]
    if users and not layer.__dict__.get("_cimq_said_hooks"):
        layer.__dict__["_cimq_said_hooks"] = True
        warnings.warn(
            f"a hook on the output of {layer_name!r} sees normalised values in evaluation: the batch normalisation "
            f"{norm_name!r} is part of the layer's multiplier and bias there, and passes them on; in training it sees "
            f"the layer alone. For the same values in both, hook the output of {norm_name!r}",
            CimqWarning,
            stacklevel=2,
        )
