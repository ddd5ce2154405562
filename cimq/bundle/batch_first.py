"""Permutations that move the batch, before a part of the result is taken: in another order, the batch stays first.

Attention often makes queries, keys and values as `qkv.permute(2, 0, 3, 1, 4).unbind(0)`. Taking the parts first and
permuting them afterwards gives the same values, and no value in between has another first dimension than the batch.
"""

from __future__ import annotations

import copy
import operator
from typing import Any

import torch
from torch import fx

from cimq.bundle.fx_graphs import erase_unused, unused_nodes


def batch_kept_first(model: fx.GraphModule) -> fx.GraphModule:
    """The same model with such permutations behind the parts that are taken; `model` itself where there are none.

    Args:
        model: A converted model, in the forms of quantization/graph/normal_form.py.
    """
    if not any(_moves_batch(node) for node in model.graph.nodes):
        return model
    graph = copy.deepcopy(model.graph)
    unused = unused_nodes(graph)
    for node in list(graph.nodes):
        if _moves_batch(node):
            _swap(graph, node)
    erase_unused(graph, unused)
    return fx.GraphModule(model, graph, type(model).__name__).eval()


def _order(node: fx.Node) -> list[int]:
    """Where each dimension of a permutation comes from."""
    dims: Any = node.args[1]
    return [dim % len(dims) for dim in dims]


def _moves_batch(node: fx.Node) -> bool:
    if node.target is not torch.permute:
        return False
    dims: Any = node.args[1]
    plain = isinstance(dims, (tuple, list)) and all(isinstance(dim, int) for dim in dims)
    return plain and len(dims) > 0 and _order(node)[0] != 0


def _swap(graph: fx.Graph, node: fx.Node) -> None:
    for user in list(node.users):
        if user.target is torch.unbind:
            dim = int(user.args[1])  # type: ignore[arg-type]
            for part in list(user.users):
                _take(graph, node, part, dim, part.args[1])
        elif user.target is torch.select:
            _take(graph, node, user, int(user.args[1]), user.args[2])  # type: ignore[arg-type]
        elif user.target is operator.getitem:
            _take(graph, node, user, 0, user.args[1])


def _take(graph: fx.Graph, node: fx.Node, part: fx.Node, dim: int, index: object) -> None:
    """Replaces `part`, which is `index` along `dim` of the permuted value."""
    order = _order(node)
    source = order[dim % len(order)]
    if not isinstance(index, int) or source == 0:
        return
    rest = [place - (place > source) for place in order if place != source]
    with graph.inserting_before(part):
        taken = graph.call_function(torch.select, (node.args[0], source, index))
        if rest != sorted(rest):
            taken = graph.call_function(torch.permute, (taken, tuple(rest)))
    part.replace_all_uses_with(taken)
    graph.erase_node(part)
