"""Attention of a converted model written out: its products, softmax and rearrangements as operations of their own.

A converted graph calls attention as one module. `written_out` gives the graph in which the operations stand that the
module performs (quantization/layers/attention.py), in the forms of quantization/graph/normal_form.py, so that a bundle
holds what it holds of every other model. Masks must be the same for every sample: they become constants.
"""

from __future__ import annotations

import inspect
import math
import operator
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx

from cimq.bundle.fx_graphs import erase_unused, recorded_values, unused_nodes
from cimq.quantization.conversion.converted_attention import CrossbarAttention, CrossbarMultiheadAttention
from cimq.quantization.exact.functions import softmax
from cimq.quantization.exact.windows import mean
from cimq.quantization.graph.arithmetic_forms import constant_nodes
from cimq.quantization.layers.attention import additive_mask
from cimq.torch_tools.node_values import is_size

_LOWEST = torch.finfo(torch.float32).min  # exp of it less anything is 0, as that of -inf; and it is a number


def written_out(model: fx.GraphModule, x: Tensor) -> fx.GraphModule:
    """The same model without attention modules; `model` itself where it has none.

    Args:
        model: What `cimq.convert` returned.
        x: A sample input [B, ...]; shapes and masks are those that it leads to.

    Raises:
        ValueError: For attention that has no form in a bundle; names the node and what it uses.
    """
    kinds = (CrossbarMultiheadAttention, CrossbarAttention)
    calls = [node for node in model.graph.nodes if node.op == "call_module"]
    if not any(isinstance(model.get_submodule(str(node.target)), kinds) for node in calls):
        return model
    values = recorded_values(model, torch.cat([x[:1], x[:1]]))  # two samples: what has one per sample shows
    graph = fx.Graph()
    copies: dict[fx.Node, fx.Node] = {}
    result = graph.graph_copy(model.graph, copies)
    graph.output(result)
    # From here on nodes of the copy.
    values = {copies[node]: value for node, value in values.items() if node in copies}
    buffers: dict[str, Tensor] = {}
    static, unused = _static_nodes(graph), unused_nodes(graph)
    for node in list(graph.nodes):
        module = model.get_submodule(str(node.target)) if node.op == "call_module" else None
        if isinstance(module, kinds):
            with graph.inserting_before(node):
                writer = _Writer(graph, node, values, static, buffers)
                if isinstance(module, CrossbarMultiheadAttention):
                    _write_multihead(writer, module)
                else:
                    _write_core(writer, module)
    erase_unused(graph, unused)
    graph.lint()
    root: dict[str, Any] = dict(buffers)
    for node in graph.nodes:
        if node.op == "call_module":
            root[str(node.target)] = model.get_submodule(str(node.target))
        elif node.op == "get_attr" and node.target not in root:
            root[str(node.target)] = operator.attrgetter(str(node.target))(model)
    return fx.GraphModule(root, graph, type(model).__name__).eval()


def _static_nodes(graph: fx.Graph) -> set[fx.Node]:
    """Nodes that do not depend on the values of an input: constants, sizes, and what is computed from these."""
    static = constant_nodes(graph)
    for node in graph.nodes:
        computed = node.op in ("call_function", "call_method")
        if is_size(node) or (computed and all(source in static for source in node.all_input_nodes)):
            static.add(node)
    return static


class _Writer:
    """Writes operations in the place of one call."""

    def __init__(
        self,
        graph: fx.Graph,
        call: fx.Node,
        values: dict[fx.Node, Any],
        static: set[fx.Node],
        buffers: dict[str, Tensor],
    ) -> None:
        self.graph = graph
        self.call = call
        self.path = str(call.target)
        self.values = values
        self.static = static
        self.buffers = buffers

    def refuse(self, what: str) -> ValueError:
        """The error for what has no form."""
        return ValueError(f"export: node {self.call.name!r} (attention): {what}")

    def arguments(self, forward: Callable[..., Any]) -> dict[str, Any]:
        """The arguments of the call by their names; those left out have their defaults."""
        bound = inspect.signature(forward).bind(*self.call.args, **self.call.kwargs)
        bound.apply_defaults()
        return dict(bound.arguments)

    def number(self, value: Any) -> Any:
        """An argument that is no tensor: what it was with the sample."""
        return self.values[value] if isinstance(value, fx.Node) else value

    def shape(self, node: fx.Node) -> tuple[int, ...]:
        """Of an argument, with two samples."""
        return tuple(self.values[node].shape)

    def mask(self, value: Any, what: str) -> Tensor | None:
        """An argument that must be the same for every sample."""
        if value is None:
            return None
        if not isinstance(value, fx.Node) or value not in self.static:
            raise self.refuse(f"its {what} is computed from the input, and a bundle holds masks that are constant")
        found: Tensor = self.values[value]
        return found

    def function(self, target: Callable[..., Any], *args: Any) -> fx.Node:
        """A call of a function."""
        return self.graph.call_function(target, args)

    def layer(self, path: str, *args: Any) -> fx.Node:
        """A call of a layer inside of the module."""
        return self.graph.call_module(f"{self.path}.{path}", args)

    def constant(self, name: str, value: Tensor) -> fx.Node:
        """A buffer of the new model."""
        target = f"{self.call.name}_{name}"
        self.buffers[target] = value
        return self.graph.get_attr(target)

    def replace(self, node: fx.Node, by: fx.Node) -> None:
        """Puts what was written in the place of a node of the call."""
        self.values[by] = self.values[node]
        node.replace_all_uses_with(by)
        self.graph.erase_node(node)

    def attend(
        self,
        core: str,
        query: fx.Node,
        key: fx.Node,
        value: fx.Node,
        lead: tuple[int, ...],
        mask: Tensor | None,
        factor: float,
    ) -> tuple[fx.Node, fx.Node]:
        """As `AttentionCore.attend`: the result and the attention weights; `lead` are the dimensions of the heads."""
        q, k, v = (self._four_dimensions(x, lead) for x in (query, key, value))
        scores = self._led(self.layer(f"{core}qk", q, k, factor), lead)
        if mask is None:
            weights = self.function(softmax, scores, -1, False)
        else:
            nothing = (mask == -math.inf).all(-1, keepdim=True)
            added = self.constant("mask", mask.clamp(min=_LOWEST))
            weights = self.function(softmax, self.function(operator.add, scores, added), -1, False)
            if bool(nothing.any()):  # a query that may attend to nothing gets zeros
                weights = self.function(operator.mul, weights, self.constant("seen", (~nothing).float()))
        out = self.layer(f"{core}av", self._four_dimensions(weights, lead), self.function(torch.transpose, v, -1, -2))
        return self._led(out, lead), weights

    def _four_dimensions(self, x: fx.Node, lead: tuple[int, ...]) -> fx.Node:
        """[samples, heads, rows, columns]."""
        if len(lead) == 1:
            return x
        return self.function(torch.flatten, x, 1, -3) if lead else self.function(torch.unsqueeze, x, 1)

    def _led(self, x: fx.Node, lead: tuple[int, ...]) -> fx.Node:
        """Back from four dimensions."""
        if len(lead) == 1:
            return x
        return self.function(torch.unflatten, x, 1, lead) if lead else self.function(torch.squeeze, x, 1)


def _write_core(w: _Writer, module: CrossbarAttention) -> None:
    """F.scaled_dot_product_attention."""
    given = w.arguments(module.forward)
    query, key, value = (given[name] for name in ("query", "key", "value"))
    shapes = [w.shape(x) for x in (query, key, value)]
    if len(shapes[0]) < 3:
        raise w.refuse(f"queries must be [B, ..., tokens, width], got {[*shapes[0]]}")
    if w.number(given["enable_gqa"]):
        groups = [shapes[0][-3] // shape[-3] for shape in shapes[1:]]
        key, value = (w.function(torch.repeat_interleave, x, g, -3) for x, g in zip((key, value), groups, strict=True))
        shapes[1:] = [(*shape[:-3], shapes[0][-3], *shape[-2:]) for shape in shapes[1:]]
    if any(len(shape) != len(shapes[0]) or shape[0] != shapes[0][0] for shape in shapes[1:]):
        raise w.refuse("its queries, keys and values must have the batch first and as many dimensions")
    lead = shapes[0][1:-2]
    key, value = (
        x if shape[1:-2] == lead else w.function(torch.broadcast_to, x, (-1, *lead, *shape[-2:]))
        for x, shape in zip((key, value), shapes[1:], strict=True)
    )
    scale = w.number(given["scale"])
    factor = 1.0 / math.sqrt(shapes[0][-1]) if scale is None else float(scale)
    scores = torch.empty(*lead, shapes[0][-2], shapes[1][-2])
    mask = additive_mask(w.mask(given["attn_mask"], "mask"), bool(w.number(given["is_causal"])), scores)
    out, _ = w.attend("", query, key, value, lead, _mask_of_all(w, mask), factor)
    w.replace(w.call, out)


def _write_multihead(w: _Writer, module: CrossbarMultiheadAttention) -> None:
    """nn.MultiheadAttention."""
    given = w.arguments(module.forward)
    if not module.batch_first:
        raise w.refuse("batch_first is False: the first dimension of a value in a bundle is the batch")
    if module.bias_k is not None:
        raise w.refuse("add_bias_kv: keys and values of its own have no form in a bundle")
    if given["key_padding_mask"] is not None:
        raise w.refuse("key_padding_mask: a bundle holds masks that are the same for every sample")
    sources = [given[name] for name in ("query", "key", "value")]
    if len(w.shape(sources[0])) != 3:
        raise w.refuse(f"its input must be [B, tokens, width], got {[*w.shape(sources[0])]}")
    q, k, v = _projected(w, module, sources)
    tokens, keys = w.shape(sources[0])[1], w.shape(sources[1])[1]
    if module.add_zero_attn:
        k, v = (w.function(F.pad, x, (0, 0, 0, 1), "constant", 0.0) for x in (k, v))
        keys += 1
    heads = (module.num_heads, module.head_dim)
    q, k, v = (w.function(torch.transpose, w.function(torch.unflatten, x, -1, heads), 1, 2) for x in (q, k, v))
    attn_mask = w.mask(given["attn_mask"], "attn_mask")
    if attn_mask is not None and attn_mask.dim() > 2:
        raise w.refuse("attn_mask must be [tokens, keys], the same for every sample and head")
    scores = torch.empty(module.num_heads, tokens, keys)
    causal = bool(w.number(given["is_causal"])) and attn_mask is None
    mask = additive_mask(module._mask(attn_mask, None, scores, keys), causal, scores)
    factor = 1.0 / math.sqrt(module.head_dim)
    core = "crossbar_products.core."
    out, weights = w.attend(core, q, k, v, (module.num_heads,), _mask_of_all(w, mask), factor)
    out = w.layer("out_proj", w.function(torch.flatten, w.function(torch.transpose, out, 1, 2), 2, -1))
    if w.number(given["average_attn_weights"]):
        weights = w.function(mean, weights, (1,), False)
    for user in list(w.call.users):
        index = user.args[1] if user.target is operator.getitem else None
        if index not in (0, 1, -1, -2):
            raise w.refuse("its result, a tuple, is used as a whole")
        w.replace(user, out if index in (0, -2) else weights)
    w.graph.erase_node(w.call)


def _projected(w: _Writer, module: CrossbarMultiheadAttention, sources: list[fx.Node]) -> list[fx.Node]:
    """Queries, keys and values; `in_proj` is one layer, whose tokens are those of all the inputs that differ."""
    different: list[fx.Node] = []
    for source in sources:
        if not any(w.values[source] is w.values[other] for other in different):
            different.append(source)
    in_proj: Any = module.crossbar_products["in_proj"]
    if len(different) > 1 and in_proj.hardware.cell.read.model != "none":
        raise w.refuse(
            "queries, keys and values that are not one tensor are accesses one after the other, which differ with read "
            "noise; a bundle holds them without it"
        )
    tokens = [w.shape(x)[1] for x in different]
    joined = different[0] if len(different) == 1 else w.function(torch.cat, different, 1)
    all_parts = w.layer("crossbar_products.in_proj", joined)
    parts = []
    for index, source in enumerate(sources):
        at = next(i for i, other in enumerate(different) if w.values[source] is w.values[other])
        rows = all_parts
        if len(different) > 1:
            rows = w.function(torch.narrow, all_parts, 1, sum(tokens[:at]), tokens[at])
        parts.append(w.function(torch.narrow, rows, -1, index * module.embed_dim, module.embed_dim))
    return parts


def _mask_of_all(w: _Writer, mask: Tensor | None) -> Tensor | None:
    if mask is not None and bool((mask.isnan() | (mask == math.inf)).any()):
        raise w.refuse("its mask must be finite or -infinity")
    return mask
