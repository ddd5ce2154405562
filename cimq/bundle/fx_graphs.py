"""Graphs of converted models: what their nodes compute for an input, and what nobody needs after a rewriting."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx


def recorded_values(model: fx.GraphModule, x: Tensor) -> dict[fx.Node, Any]:
    """The result of every node, also of those that make no tensor."""
    recorder = _Recorder(model)
    with torch.no_grad():
        recorder.run(x)
    return recorder.values


def values_of(model: fx.GraphModule, x: Tensor) -> dict[str, Tensor]:
    """Every tensor that a converted model computes, by node name; the input under its own name."""
    values = recorded_values(model, x)
    return {n.name: value for n, value in values.items() if isinstance(value, Tensor) and n.op != "output"}


def unused_nodes(graph: fx.Graph) -> set[fx.Node]:
    """Nodes whose result nobody reads: checks, and what is left of a rewriting."""
    return {node for node in graph.nodes if not node.users and node.op not in ("placeholder", "output")}


def erase_unused(graph: fx.Graph, staying: set[fx.Node]) -> None:
    """Erases nodes whose result nobody reads, and what only they read; not those that are `staying`."""
    for node in reversed(list(graph.nodes)):
        if not node.users and node.op not in ("placeholder", "output") and node not in staying:
            graph.erase_node(node)


class _Recorder(fx.Interpreter):
    def __init__(self, module: fx.GraphModule) -> None:
        super().__init__(module)
        self.extra_traceback = False
        self.values: dict[fx.Node, Any] = {}

    def run_node(self, n: fx.Node) -> Any:
        result = super().run_node(n)
        self.values[n] = result
        return result
