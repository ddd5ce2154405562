"""Weights that a hook computes before every forward: pruning masks, and weight_norm and spectral_norm of old.

The module's `weight` is then an attribute, not a parameter: the result of the last forward, which may lie before the
last optimiser step and which PyTorch refuses to copy.
"""

from __future__ import annotations

import copy
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn.utils.prune import BasePruningMethod
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

from cimq.torch_tools.private_names import forward_pre_hooks

_Model = TypeVar("_Model", bound=nn.Module)


def recompute(module: nn.Module) -> None:
    """Brings the weight of one module up to date."""
    for hook in forward_pre_hooks(module):
        if isinstance(hook, (BasePruningMethod, WeightNorm, SpectralNorm)):
            training, module.training = module.training, False  # spectral_norm would take a step of its iteration
            with torch.enable_grad():
                hook(module, ())
            module.training = training


def copied(model: _Model) -> _Model:
    """A deep copy, with the weights of such modules up to date."""
    memo: dict[int, Tensor] = {}
    for module in model.modules():
        recompute(module)
        for value in vars(module).values():
            if isinstance(value, Tensor) and not value.is_leaf:
                memo[id(value)] = value.detach().clone().requires_grad_()
    return copy.deepcopy(model, memo)
