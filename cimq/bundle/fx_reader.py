"""Network from a converted model: reads the torch.fx graph that `cimq.convert` leaves, one operation after the other
(`operations`). What is outside of the set is refused by name.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from itertools import zip_longest
from typing import Any

import torch
from torch import Tensor, fx, nn

from cimq.bundle.network import Network, Node
from cimq.bundle.operations import HANDLERS, OF_CONSTANTS, TAKING_CONSTANTS
from cimq.bundle.operations.registry import Call, RefusedError
from cimq.bundle.operations.shape import TAKING_APART, Parts, part_of
from cimq.quantization.conversion.converted import CrossbarLayer
from cimq.quantization.graph.arithmetic_forms import constant_nodes


def read_network(model: nn.Module, sample_input: Tensor) -> Network:
    """The network of a converted model.

    Args:
        model: What `cimq.convert` returned.
        sample_input: float32 [B, ...], B >= 1; only its first sample is used.

    Raises:
        ValueError: For an operation outside of the set, a layer used twice, several inputs or outputs, or results whose
            first dimension is not the batch; names the operation.
    """
    if not isinstance(model, fx.GraphModule):
        raise ValueError(f"export: {type(model).__name__} has no torch.fx graph, so its operations cannot be exported")
    one = sample_input[:1]
    network = _Reader(model, 1).read(one)
    twice = _Reader(model, 2).read(torch.cat([one, one]))
    for a, b in zip_longest(network.nodes, twice.nodes):
        if a is None or b is None or (a.name, a.op) != (b.name, b.op):
            raise ValueError(f"export: the operations depend on the batch size from node {(a or b).name!r} on")
        if a.shape != b.shape:
            raise ValueError(f"export: the shape of node {a.name!r} depends on the batch size")
        if a.attrs != b.attrs or not _same_tensors(a, b):
            raise ValueError(f"export: a number in node {a.name!r} depends on the batch size")
    return network


def _same_tensors(a: Node, b: Node) -> bool:
    return a.tensors.keys() == b.tensors.keys() and all(
        torch.equal(value, b.tensors[role]) for role, value in a.tensors.items()
    )


# What tells a size or a type of a tensor; numbers of any other kind depend on its values.
_SIZE_METHODS = {"size", "dim", "ndimension", "numel", "nelement", "is_floating_point", "is_complex", "is_contiguous"}
_SIZE_ATTRIBUTES = {"shape", "ndim", "dtype", "device", "is_cuda", "layout"}


class _Reader(fx.Interpreter):
    """Runs the graph on a sample and writes down what every tensor operation was."""

    def __init__(self, module: fx.GraphModule, batch: int) -> None:
        super().__init__(module)
        self.extra_traceback = False  # errors are one sentence, without lines about the graph
        self.graph_nodes = list(module.graph.nodes)
        self.batch = batch
        self.nodes: list[Node] = []
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.names: dict[fx.Node, str] = {}  # tensor-valued graph nodes -> value name
        self.constants = constant_nodes(module.graph)
        self.layers: dict[str, CrossbarLayer] = {}
        self.taken_apart: dict[fx.Node, Parts] = {}  # nodes with several results

    def read(self, x: Tensor) -> Network:
        inputs = [node for node in self.graph_nodes if node.op == "placeholder"]
        used = [node for node in inputs if node.users]
        if len(used) != 1 or used[0] is not inputs[0]:
            raise ValueError(f"export: the model must have one tensor input, it has {[node.name for node in used]}")
        with torch.no_grad():
            self.run(x)
        seeds = {layer.chip_seed for layer in self.layers.values()}
        if len(seeds) > 1:
            raise ValueError(f"export: all layers must be on one chip, their seeds are {sorted(seeds)}")
        (output,) = (node for node in self.graph_nodes if node.op == "output")
        result = output.args[0]
        if not isinstance(result, fx.Node) or self.names.get(result) is None:
            raise ValueError("export: the model must return one tensor")
        name = self.names[result]
        if name == used[0].name:
            raise ValueError("export: the model returns its input")
        return Network(used[0].name, self.shapes[used[0].name], name, tuple(self.nodes), max(seeds, default=0))

    def run_node(self, n: fx.Node) -> Any:
        result = super().run_node(n)
        if n.op == "call_module" and not isinstance(result, Tensor):
            what = type(self.fetch_attr(str(n.target))).__name__
            raise ValueError(f"export: the operation {what} (node {n.name!r}) has no form in a bundle")
        if n.op == "output" or not isinstance(result, Tensor):
            if n.target in TAKING_APART and n not in self.constants:
                self._take_apart(n, result)
            self._check_number(n, result)
            return result
        if n in self.constants:  # an operand of what follows
            return result
        if n.op != "placeholder":
            self._add(n, result)
        else:
            self.names[n] = n.name
            self.shapes[n.name] = self._shape(n, result)
        return result

    def _check_number(self, n: fx.Node, result: Any) -> None:
        """Refuses numbers that are computed from values, not from sizes: another input has others."""
        if n.op not in ("call_method", "call_function") or result is None:
            return
        if isinstance(result, (tuple, list)) and all(isinstance(part, Tensor) for part in result):
            return
        query = n.target in _SIZE_METHODS or (n.target is getattr and n.args[1] in _SIZE_ATTRIBUTES)
        if not query and any(source in self.names for source in n.all_input_nodes):
            what = getattr(n.target, "__name__", str(n.target))
            raise ValueError(
                f"export: the operation {what} (node {n.name!r}) makes a number of values, which a bundle cannot hold"
            )

    def _shape(self, n: fx.Node, value: Tensor) -> tuple[int, ...]:
        if value.dim() == 0 or value.shape[0] != self.batch:
            raise ValueError(f"export: the first dimension of node {n.name!r} must be the batch, got {[*value.shape]}")
        if value.dtype != torch.float32:
            raise ValueError(f"export: node {n.name!r} must be float32, got {value.dtype}")
        return tuple(int(size) for size in value.shape[1:])

    def _add(self, n: fx.Node, result: Tensor) -> None:
        args, kwargs = self.fetch_args_kwargs_from_env(n)
        sources: list[str] = []  # all_input_nodes drops a repeated operand (x + x)

        def note(source: fx.Node) -> None:
            if source in self.names:
                sources.append(self.names[source])

        fx.node.map_arg(n.args, note)
        if n.op == "call_method" and n.target == "contiguous":
            self.names[n] = sources[0]
            return
        if n.target is operator.getitem and n.args[0] in self.taken_apart:
            self._add_part(n, result)
            return
        module = self.fetch_attr(str(n.target)) if n.op == "call_module" else None
        key = type(module) if module is not None else n.target
        handler = HANDLERS.get(key)
        what = type(module).__name__ if module is not None else getattr(n.target, "__name__", str(n.target))
        if handler is None or kwargs or not (sources or key in OF_CONSTANTS):
            raise ValueError(f"export: the operation {what} (node {n.name!r}) has no form in a bundle")
        read = [source for source in n.all_input_nodes if source in self.constants]
        if read and key not in TAKING_CONSTANTS:
            raise ValueError(
                f"export: the operation {what} (node {n.name!r}) reads {_described(read[0])}, which a bundle "
                "cannot hold"
            )
        if isinstance(module, CrossbarLayer):
            if module.layer_name in self.layers:
                raise ValueError(f"export: layer {module.layer_name!r} is used twice; give each use its own layer")
            self.layers[module.layer_name] = module
        shape = tuple(int(size) for size in result.shape[1:])
        call = Call(
            name=n.name,
            inputs=tuple(sources),
            in_shape=self.shapes[sources[0]] if sources else tuple(int(size) for size in args[0].shape[1:]),
            shape=shape,
            module=module,
            rest=args[1:],
            args=args,
            operands=tuple(self.names.get(arg) if isinstance(arg, fx.Node) else None for arg in n.args),
            shapes=tuple(self.shapes[source] for source in sources),
        )
        self._keep(n, result, call, handler)

    def _take_apart(self, n: fx.Node, results: Sequence[Tensor]) -> None:
        (tensor, *rest), _ = self.fetch_args_kwargs_from_env(n)
        source = self.names.get(n.args[0]) if isinstance(n.args[0], fx.Node) else None
        if source is None:
            raise ValueError(f"export: node {n.name!r} takes apart what a bundle does not hold")
        dim = int(rest[TAKING_APART[n.target]]) % tensor.dim()
        gone = n.target is torch.unbind
        self.taken_apart[n] = Parts(source, dim, tuple(1 if gone else int(part.shape[dim]) for part in results))

    def _add_part(self, n: fx.Node, result: Tensor) -> None:
        """One of several results of a function, e.g. of chunk."""
        whole, index = n.args
        parts = self.taken_apart[whole]  # type: ignore[index]
        shape = tuple(int(size) for size in result.shape[1:])
        whole_shape = self.shapes[parts.source]
        call = Call(n.name, (parts.source,), whole_shape, shape, None, (index,), (), (parts.source,), (whole_shape,))
        self._keep(n, result, call, lambda call: part_of(call, parts))

    def _keep(self, n: fx.Node, result: Tensor, call: Call, handler: Callable[[Call], list[Node]]) -> None:
        try:
            made = handler(call)
        except RefusedError as error:
            raise ValueError(f"export: node {n.name!r}: {error}") from None
        self._shape(n, result)
        self.nodes.extend(made)
        self.names[n] = n.name
        self.shapes[n.name] = call.shape


def _described(constant: fx.Node) -> str:
    return f"the tensor {constant.target!r}" if constant.op == "get_attr" else f"the constant {constant.name!r}"
