"""Layers of a class with a forward of its own: which weight and bias their product gets.

Weight standardisation (StdConv2d of BiT and NFNet), gains and scales are computed in the forward from the layer's
parameters. What the product gets is what goes on crossbars, so it is found where it is used: the forward runs up to its
product, on a small input.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from cimq.errors import first_line
from cimq.quantization.exact import exact_mode
from cimq.torch_tools.batches import kept_random_state
from cimq.torch_tools.modes import in_evaluation, unchanged


class _ReachedError(Exception):
    """The product was called."""


class _Spy(TorchFunctionMode):
    """Notes the (weight, bias) of every product that a forward makes; `stop`: and ends it there."""

    def __init__(self, target: Any, stop: bool = False) -> None:
        super().__init__()
        self.target = target
        self.stop = stop
        self.operands: list[tuple[Tensor, Tensor | None]] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is self.target:
            weight = args[1] if len(args) > 1 else kwargs["weight"]
            self.operands.append((weight, args[2] if len(args) > 2 else kwargs.get("bias")))
            if self.stop:
                raise _ReachedError
        return func(*args, **kwargs)


def product_of(layer: nn.Module) -> Any:
    """The function of PyTorch that a layer of this kind calls."""
    if isinstance(layer, nn.Linear):
        return F.linear
    return F.conv2d if isinstance(layer, nn.Conv2d) else F.conv1d


def used_operands(layer: Any, forward: Any) -> tuple[Tensor, Tensor | None]:
    """Weight and bias that `forward` of a layer gives to its product in evaluation, with their gradients.

    Raises:
        ValueError: If the forward does not come to its product.
    """
    spy = _Spy(product_of(layer), stop=True)
    inside = kept_random_state(layer), unchanged(layer), in_evaluation(layer), exact_mode.defined_operations()
    with inside[0], inside[1], inside[2], inside[3], spy:
        try:
            forward(_plain_input(layer))
        except _ReachedError:
            return spy.operands[0]
    raise ValueError(f"layer {layer.layer_name!r}: its own forward does not call {product_of(layer).__name__}")


def check_own_forward(module: nn.Conv2d | nn.Conv1d | nn.Linear) -> str | None:
    """Why a layer with a forward of its own cannot be quantised: it must make one product, with a weight of its own.

    That is its parameter, or a weight of the same shape that is computed from parameters and not from the input.
    """
    trial = copy.deepcopy(module).eval()
    name = product_of(trial).__name__
    found: list[tuple[Tensor, Tensor | None]] = []
    for values, size in ((0.0, 1), (1.0, 1), (-2.0, 2)):
        spy = _Spy(product_of(trial))
        x = _plain_input(trial, size)
        noise = torch.randn(x.shape, generator=torch.Generator("cpu").manual_seed(size), device="cpu").to(x.device)
        try:
            with torch.no_grad(), kept_random_state(trial), spy:
                torch.manual_seed(len(found))  # a weight that is drawn differs
                trial(x + values * noise)
        except Exception as error:
            return f"its own forward fails on a plain input ({first_line(error)})"
        if len(spy.operands) != 1:
            return f"its own forward calls torch's {name} {len(spy.operands)} times, not once"
        found += spy.operands
    (weight, bias), *others = found
    if weight.shape != module.weight.shape or weight.dtype != torch.float32:
        return (
            f"its own forward calls {name} with a weight {[*weight.shape]} of {weight.dtype}, "
            f"and has one {[*module.weight.shape]} of {module.weight.dtype}"
        )
    if any(not torch.equal(weight, other) or not _same(bias, other_bias) for other, other_bias in others):
        return f"its own forward calls {name} with a weight or bias that is not the same for every input"
    if not bool(torch.isfinite(weight).all()):
        return f"its own forward calls {name} with a weight that holds NaN or infinite values"
    return None


def _same(a: Tensor | None, b: Tensor | None) -> bool:
    return a is b if a is None or b is None else torch.equal(a, b)


def _plain_input(layer: Any, larger: int = 1) -> Tensor:
    """Zeros of a size that the layer takes."""
    device = next((p.device for p in layer.parameters()), torch.device("cpu"))
    if isinstance(layer, nn.Linear):
        return torch.zeros(larger, layer.in_features, device=device)
    size = [larger * max(16, 2 * d * k) for d, k in zip(layer.dilation, layer.kernel_size, strict=True)]
    return torch.zeros(1, layer.in_channels, *size, device=device)
