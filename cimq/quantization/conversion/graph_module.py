"""The converted model as a graph module that can be copied and pickled."""

from __future__ import annotations

import copy
from typing import Any, NamedTuple

import torch.nn.functional as F
from torch import fx, nn

from cimq.quantization.exact import exact_mode
from cimq.torch_tools.private_names import buffers_of, parameters_of


class _Reference(NamedTuple):
    """Stands for a node among the arguments of a pickled one."""

    name: str


class _Functional(NamedTuple):
    """Stands for torch.nn.functional.<name>."""

    name: str


class ConvertedModel(fx.GraphModule):
    """A `torch.fx.GraphModule` that pickles its graph as it is; PyTorch's own would trace it again."""

    def recompile(self) -> Any:
        """As PyTorch's, whose modules would also print the lines of their graph around every error."""
        code = super().recompile()
        type(self).__call__ = nn.Module.__call__  # type: ignore[method-assign]
        return code

    def __deepcopy__(self, memo: Any) -> ConvertedModel:
        rebuild, (name, nodes, children, *rest) = self.__reduce__()
        result: ConvertedModel = rebuild(name, nodes, copy.deepcopy(children, memo), *rest)
        return result

    def __reduce__(self) -> Any:
        nodes = [
            (node.op, _named(node.target), _without_nodes(node.args), _without_nodes(node.kwargs), node.name)
            for node in self.graph.nodes
        ]
        # Children hold what the graph calls; loose parameters are reached by get_attr nodes.
        loose = {**parameters_of(self), **buffers_of(self)}
        is_exact = exact_mode.folded_pairs(self) is not None
        return _rebuild, (type(self).__name__, nodes, (dict(self.named_children()), loose), self.training, is_exact)


def _named(target: Any) -> Any:
    """Functions of torch.nn.functional as a reference: some of them (max_pool2d) cannot be pickled by themselves."""
    found = [name for name, value in vars(F).items() if value is target] if callable(target) else []
    return _Functional(found[0]) if found else target


def _without_nodes(value: Any) -> Any:
    return fx.node.map_arg(value, lambda node: _Reference(node.name))


def _with_nodes(value: Any, nodes: dict[str, fx.Node]) -> Any:
    if isinstance(value, _Reference):
        return nodes[value.name]
    if isinstance(value, dict):
        return {key: _with_nodes(inner, nodes) for key, inner in value.items()}
    if isinstance(value, (tuple, list)):
        return type(value)(_with_nodes(inner, nodes) for inner in value)
    if isinstance(value, slice):
        return slice(*(_with_nodes(part, nodes) for part in (value.start, value.stop, value.step)))
    return value


def _rebuild(
    name: str,
    records: list[Any],
    state: tuple[dict[str, nn.Module], dict[str, Any]],
    training: bool,
    is_exact: bool = False,
) -> Any:
    root = nn.Module()
    for key, child in state[0].items():
        root.add_module(key, child)
    for key, tensor in state[1].items():
        if isinstance(tensor, nn.Parameter):
            root.register_parameter(key, tensor)
        else:
            root.register_buffer(key, tensor)
    graph = fx.Graph()
    nodes: dict[str, fx.Node] = {}
    for op, target, args, kwargs, node_name in records:
        target = getattr(F, target.name) if isinstance(target, _Functional) else target
        nodes[node_name] = graph.create_node(
            op, target, _with_nodes(args, nodes), _with_nodes(kwargs, nodes), node_name
        )
    result = ConvertedModel(root, graph, name).train(training)
    if is_exact:
        exact_mode.attach(result, ())
    return result
