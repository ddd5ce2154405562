"""Calls of F.batch_norm in a traced graph, as modules with a batch normalisation and more in one forward make them."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor, fx, nn

from cimq.quantization.conversion.fp32_layers import Affine

_NAMES = ("input", "running_mean", "running_var", "weight", "bias", "training", "momentum", "eps")


def replace_functional_norms(root: nn.Module, graph: fx.Graph) -> None:
    """Calls with fixed statistics become `Affine` modules, children of the modules that hold the statistics."""
    for node in list(graph.nodes):
        if node.op != "call_function" or node.target is not F.batch_norm:
            continue
        given: dict[str, Any] = dict(zip(_NAMES, node.args, strict=False)) | dict(node.kwargs)
        mean, var, weight, bias = (_tensor(root, given.get(name)) for name in _NAMES[1:5])
        wanted = sum(given.get(name) is not None for name in ("weight", "bias"))
        if given.get("training", False) or mean is None or var is None:
            continue
        if sum(value is not None for value in (weight, bias)) != wanted:  # one of them is computed
            continue
        norm: Any = nn.BatchNorm1d(len(mean), eps=given.get("eps", 1e-5), affine=False)
        norm.running_mean, norm.running_var = mean, var
        norm.weight = None if weight is None else nn.Parameter(weight, requires_grad=False)
        norm.bias = None if bias is None else nn.Parameter(bias, requires_grad=False)
        holder = str(given["running_mean"].target).rpartition(".")[0]
        name = f"{holder}.affine_of_call".lstrip(".")
        while name in dict(root.named_modules()):
            name += "_"
        root.get_submodule(holder).add_module(name.rpartition(".")[2], Affine(norm))
        with graph.inserting_before(node):
            new = graph.call_module(name, (given["input"],))
        new.meta.update(node.meta)
        node.replace_all_uses_with(new)
        graph.erase_node(node)


def _tensor(root: nn.Module, value: Any) -> Tensor | None:
    """The parameter or buffer that a node reads."""
    if not isinstance(value, fx.Node) or value.op != "get_attr":
        return None
    path, _, leaf = str(value.target).rpartition(".")
    found = getattr(root.get_submodule(path), leaf, None)
    return found.detach() if isinstance(found, Tensor) else None
