"""Reading the graph of a model with torch.fx: which batch normalisation follows which quantised layer."""

from __future__ import annotations

from typing import Any

import torch
from torch import fx, nn

from cimq.quantization.layers import QuantLayer


class LeafTracer(fx.Tracer):
    """Traces everything but quantised layers and PyTorch's own modules."""

    def __init__(self, leaves: tuple[type[nn.Module], ...] = (QuantLayer,)) -> None:
        super().__init__(param_shapes_constant=True)
        self.leaves = leaves

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """Quantised layers and torch.nn modules stay single nodes."""
        return isinstance(m, self.leaves) or super().is_leaf_module(m, module_qualified_name)


def trace(model: nn.Module, leaves: tuple[type[nn.Module], ...] = (QuantLayer,)) -> fx.Graph:
    """The graph of `model` in evaluation.

    Raises:
        Exception: Whatever the model's forward raises on symbolic values; such a model cannot be traced.
    """
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        return LeafTracer(leaves).trace(model)
    finally:
        for module, training in modes:
            module.training = training


def followers(model: nn.Module, graph: fx.Graph) -> list[tuple[str, str]]:
    """Names of (quantised layer, batch normalisation) where the second is all that happens to the first's output.

    Both must be called once: a layer or a normalisation that occurs twice keeps its own arithmetic.
    """
    modules = dict(model.named_modules(remove_duplicate=False))
    calls: dict[int, int] = {}
    for node in graph.nodes:
        if node.op == "call_module":
            key = id(modules[node.target])
            calls[key] = calls.get(key, 0) + 1
    pairs = []
    for node in graph.nodes:
        if node.op != "call_module" or not isinstance(modules[node.target], QuantLayer) or len(node.users) != 1:
            continue
        user: fx.Node = next(iter(node.users))
        if user.op != "call_module" or user.args[:1] != (node,) or len(user.args) != 1 or user.kwargs:
            continue
        layer, norm = modules[node.target], modules[str(user.target)]
        if calls[id(layer)] == 1 and calls[id(norm)] == 1 and is_foldable_norm(layer, norm):
            pairs.append((str(node.target), str(user.target)))
    return pairs


def is_foldable_norm(layer: nn.Module, norm: nn.Module) -> bool:
    """Whether `norm` is a batch normalisation with fixed statistics over the outputs of `layer`."""
    kinds: Any = (nn.BatchNorm2d, nn.SyncBatchNorm) if isinstance(layer, nn.Conv2d) else (nn.BatchNorm1d,)
    return (
        isinstance(norm, kinds)
        and type(norm).forward in (nn.BatchNorm2d.forward, nn.BatchNorm1d.forward, nn.SyncBatchNorm.forward)
        and isinstance(norm.running_mean, torch.Tensor)
    )
