"""What keeps weights from jumping between two integers in training: a loss, or gradients that are scaled."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from cimq.mapping import weight_range
from cimq.quantization.layers.matmul import QuantMatmul
from cimq.quantization.layers.quant_layer import QuantLayer


def dampening_loss(model: nn.Module) -> Tensor:
    """Sum of squared distances of weights from their grid points, both inside the grid's range: add it to the loss.

    Nagel et al., 2022, "Overcoming oscillations in quantization-aware training", equation 6. Let its factor grow from
    zero over the training, to about 1e-3: late oscillations are the harmful ones.

    Args:
        model: A prepared and calibrated model; layers with trained weights count, each weight once.

    Example:
        >>> import torch, cimq
        >>> q = cimq.prepare(torch.nn.Linear(4, 2), cimq.Policy.uniform(2, 8), example_inputs=torch.rand(4, 4))
        >>> bool(dampening_loss(q) > 0)
        True
    """
    terms = []
    for layer, weight in _layers(model):
        if weight.requires_grad:
            target, low, high = _grid(layer, weight)
            terms.append(((target - weight.clamp(low, high)) ** 2).sum())
    return torch.stack(terms).sum() if terms else torch.zeros(())


@torch.no_grad()
def scale_weight_gradients(model: nn.Module, strength: float) -> None:
    """Multiplies the gradient g of every quantised weight w by 1 + strength * sign(g) * (w - its grid point) / scale.

    A step towards the grid point becomes larger, one away from it smaller: a weight leaves its integer only where the
    gradients agree on it, not where they are noise (element-wise gradient scaling: Lee et al., CVPR 2021, "Network
    quantization with element-wise gradient scaling", equation 5). Call it between backward and the optimiser's step;
    a gradient that is scaled by `GradScaler` or summed over processes may stay so.

    Args:
        model: A prepared and calibrated model. Weights that are computed from other parameters are left alone.
        strength: 0 leaves the gradients as they are; 0.1 to 0.3 is usual. At most 2, above which signs would change.

    Example:
        >>> import torch, cimq
        >>> q = cimq.prepare(torch.nn.Linear(2, 1), cimq.Policy.uniform(2, 8), example_inputs=torch.rand(4, 2))
        >>> q(torch.ones(1, 2)).sum().backward()
        >>> before = q.weight.grad.clone()
        >>> cimq.training.scale_weight_gradients(q, 0.1)
        >>> bool(((q.weight.grad - before).abs() <= 0.0501 * before.abs()).all())
        True
    """
    if not 0 <= strength <= 2:
        raise ValueError(f"scale_weight_gradients: strength must lie in 0..2, got {strength}")
    for layer, weight in _layers(model):
        gradient = weight.grad if isinstance(weight, nn.Parameter) else None
        if gradient is None:
            continue
        target, low, high = _grid(layer, weight)
        distance = (weight.clamp(low, high) - target) / high
        steps = weight_range(layer.weight_bits)[1]  # from zero to the edge of the range
        gradient.mul_(1 + strength * steps * gradient.sign() * distance)


def _layers(model: nn.Module) -> Iterator[tuple[QuantLayer, Tensor]]:
    """Quantised layers with the weight of their product, once per weight."""
    seen: dict[int, Tensor] = {}  # kept, as one that is computed would leave its identity to another
    for module in model.modules():
        if isinstance(module, QuantLayer) and not isinstance(module, QuantMatmul) and not module.left_fp32:
            weight = module.operands()[0]
            if id(weight) not in seen:
                seen[id(weight)] = weight
                yield module, weight


@torch.no_grad()
def _grid(layer: QuantLayer, weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The grid point of every weight, and the ends of the grid."""
    quantiser = layer.weight_quantiser()
    scale = quantiser.scale_for(weight)
    return quantiser.fake(weight.float()), quantiser.low * scale, quantiser.high * scale
