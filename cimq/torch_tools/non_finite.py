"""Finding where numbers stop being finite."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from cimq.torch_tools.batches import ForwardFn, split_batch


def first_non_finite(model: nn.Module, batch: Any, forward_fn: ForwardFn) -> str:
    """Says in words which parameter, input or module output is the first that is not finite."""
    if not _finite(split_batch(batch)[0]):
        return "the input batch holds NaN or infinite values"
    for name, parameter in model.named_parameters():
        if not _finite(parameter):
            return f"parameter {name!r} holds NaN or infinite values"
    found: list[str] = []

    def look(name: str) -> Any:
        def hook(module: nn.Module, args: Any, output: Any) -> None:
            if not found and not _finite(output):
                found.append(f"the first layer whose output is not finite is {name!r} ({type(module).__name__})")

        return hook

    handles = [
        module.register_forward_hook(look(name))
        for name, module in model.named_modules()
        if not any(True for _ in module.children())
    ]
    # Buffers (batch statistics) are already damaged; this run only looks.
    try:
        with torch.no_grad():
            forward_fn(model, batch)
    except (ValueError, RuntimeError) as error:
        found.append(str(error))
    finally:
        for handle in handles:
            handle.remove()
    return found[0] if found else "all layer outputs are finite, so the loss itself overflows"


def _finite(value: Any) -> bool:
    if isinstance(value, Tensor):
        return not value.is_floating_point() or bool(torch.isfinite(value).all())
    if isinstance(value, Mapping):
        return all(_finite(inner) for inner in value.values())
    return all(_finite(inner) for inner in value) if isinstance(value, (tuple, list)) else True
