"""The quantised layers of a model with their names and numbers, also of layers that were prepared one by one."""

from __future__ import annotations

import warnings
from collections import Counter

from torch import nn

from cimq.errors import CimqWarning
from cimq.quantization.exact import exact_mode
from cimq.quantization.layers.quant_layer import QuantLayer

ROOT = "model"  # name in the policy of a layer that is the whole model


def tell_apart(model: nn.Module, stacklevel: int) -> None:
    """Gives every quantised layer of `model` a name and a number of its own, and says so if that changes any.

    `m[i] = cimq.prepare(m[i])` prepares models of one layer, each named "model" and numbered 0: a policy cannot name
    them, and one number is one and the same noise. Layers of one `prepare` keep what they have.
    """
    layers = [module for module in model.modules() if isinstance(module, QuantLayer)]
    names = Counter(layer.layer_name for layer in layers)
    numbers = Counter(layer.layer_index for layer in layers)
    if len(names) == len(numbers) == len(layers):
        return
    shared = sorted(name for name, count in names.items() if count > 1)
    if shared:
        places: dict[int, str] = {}
        for path, part in model.named_modules():
            if exact_mode.folded_pairs(part) is not None:  # what prepare returned; the innermost part counts
                places.update((id(inner), path) for inner in part.modules())
        for layer in layers:
            place = places.get(id(layer), "")
            if place:
                layer.layer_name = place if layer.layer_name == ROOT else f"{place}.{layer.layer_name}"
    for index, layer in enumerate(layers):
        layer.layer_index = index
    what = f"the name {', '.join(map(repr, shared[:4]))} and noise" if shared else "noise"
    now = ", ".join(layer.layer_name for layer in layers[:8]) + (", ..." if len(layers) > 8 else "")
    warnings.warn(
        f"layers of {type(model).__name__} were prepared one by one and shared {what}; from now on they are numbered, "
        f"and named {now}: policies and noise from before do not apply. cimq.prepare on the whole model does so at "
        "once",
        CimqWarning,
        stacklevel=stacklevel + 1,
    )


def quant_layers(model: nn.Module) -> list[tuple[str, QuantLayer]]:
    """The quantised layers as (name, module), in module order: the order of a policy. A shared layer counts once.

    Layers that `calibrate` left in fp32 are not among them. Layers that were prepared one by one and share a name or a
    number get their own, with a `CimqWarning`.

    Raises:
        ValueError: If there are none (the model was not prepared).
    """
    tell_apart(model, stacklevel=3)
    layers = [(name, layer) for name, layer in all_quant_layers(model) if not layer.left_fp32]
    if not layers:
        raise ValueError(f"{type(model).__name__} has no quantised layers; call cimq.prepare(model) first")
    return layers


def all_quant_layers(model: nn.Module) -> list[tuple[str, QuantLayer]]:
    """`quant_layers` together with those that are left in fp32; empty for a model that was not prepared."""
    return [(module.layer_name, module) for module in model.modules() if isinstance(module, QuantLayer)]
