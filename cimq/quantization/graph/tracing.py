"""Reading the graph of a model with torch.fx: which batch normalisation follows which quantised layer."""

from __future__ import annotations

from collections.abc import Container, Mapping
from functools import partial
from typing import Any

from torch import fx, nn

from cimq.quantization.exact import exact_mode
from cimq.quantization.graph import transformer_forms
from cimq.quantization.layers.attention import AttentionCore, AttentionForward
from cimq.quantization.layers.quant_layer import QuantLayer
from cimq.torch_tools.batches import kept_random_state, random_state
from cimq.torch_tools.call_arguments import without_fixed
from cimq.torch_tools.modes import in_mode, unchanged
from cimq.torch_tools.norms import is_plain_norm
from cimq.torch_tools.private_names import buffers_of, writes_to
from cimq.torch_tools.replaced_forwards import forward_in_class, has_replaced_forward
from cimq.torch_tools.symbolic import TruthfulProxy, truthful_isinstance


class LeafTracer(fx.Tracer):
    """Traces everything but quantised layers and PyTorch's own modules.

    The forward of a quantised subclass is traced too where it can be, around its product.
    """

    def __init__(self, inlined: Container[nn.Module] = (), containers: Container[str] = ()) -> None:
        super().__init__(param_shapes_constant=True)
        self.inlined = inlined
        self.containers = containers  # inputs that are no tensors: lists, dicts
        self.calls: dict[str, dict[str, Any]] = {}  # layer name -> stride, padding, ... of its product

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """Quantised layers and torch.nn modules stay single nodes."""
        if isinstance(m, QuantLayer):
            return m not in self.inlined
        if isinstance(m, (AttentionCore, AttentionForward)):
            return True
        if type(m) in transformer_forms.FORWARDS:
            return has_replaced_forward(m)
        return super().is_leaf_module(m, module_qualified_name) and not has_replaced_forward(m)

    def call_module(self, m: nn.Module, forward: Any, args: Any, kwargs: Any) -> Any:
        """As PyTorch's; transformers of torch.nn in terms of their parts."""
        own = None if has_replaced_forward(m) else transformer_forms.FORWARDS.get(type(m))
        return super().call_module(m, forward if own is None else partial(own, m), args, kwargs)

    def proxy(self, node: fx.Node) -> fx.Proxy:
        """A symbolic value that answers as what it stands for."""
        if node.op == "placeholder" and node.target in self.containers:
            node.meta["no_tensor"] = True
        return TruthfulProxy(node, self)

    def create_arg(self, a: Any) -> Any:
        """As PyTorch's, which would take a symbolic value that says it is a tensor for a constant."""
        return a.node if isinstance(a, fx.Proxy) else super().create_arg(a)

    def quantised_product(self, layer: QuantLayer, x: fx.Proxy, call: dict[str, Any]) -> fx.Proxy:
        """The node of a product whose surroundings are being traced."""
        name = self.path_of_module(layer)
        self.calls[name] = call
        return self.create_proxy("call_module", name, (x,), {})


def traceable_subclasses(model: nn.Module) -> list[nn.Module]:
    """Quantised layers with a forward of their own that symbolic values pass through."""
    found: list[nn.Module] = []
    for module in model.modules():
        if isinstance(module, QuantLayer) and (
            module._intercepts or getattr(module, "padding_mode", "zeros") != "zeros"
        ):
            holder = nn.Sequential(module)
            try:
                with truthful_isinstance():
                    LeafTracer([module]).trace(holder)
            except Exception:
                continue
            found.append(module)
    return found


def trace(
    model: nn.Module,
    tracer: LeafTracer | None = None,
    fixed: Mapping[str, Any] | None = None,
    training: bool = False,
) -> fx.Graph:
    """The graph of `model` in evaluation, or in training; arguments of its forward that are `fixed` have one value and
    are no inputs.

    Raises:
        Exception: Whatever the model's forward raises on symbolic values; such a model cannot be traced.
        ValueError: If the forward draws random numbers in evaluation, which the graph would hold as constants, or
            changes a buffer, which the graph would not.
    """
    with kept_random_state(model), unchanged(model), in_mode(model, training), exact_mode.suspended():
        before, buffers = random_state(), _buffers(model)
        tracer = tracer or LeafTracer()
        with truthful_isinstance(), forward_in_class(model):
            graph = tracer.trace(model, concrete_args=dict(fixed)) if fixed else tracer.trace(model)
        if not training and random_state() != before:
            raise ValueError("its forward draws random numbers in evaluation")
        if not training and _buffers(model) != buffers:
            raise ValueError("its forward changes a buffer in evaluation")
        return without_fixed(graph, model, fixed) if fixed else graph


def _buffers(model: nn.Module) -> list[tuple[int, int]]:
    """Which buffers there are, and how often they were written to."""
    buffers: Any = [buffer for module in model.modules() for buffer in buffers_of(module).values()]
    return [(id(buffer), writes_to(buffer)) for buffer in buffers]


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
        if node.op != "call_module" or len(node.users) != 1:
            continue
        layer = modules[node.target]
        if not isinstance(layer, QuantLayer) or layer._intercepts:  # a forward of its own may do more than the product
            continue
        user: fx.Node = next(iter(node.users))
        if user.op != "call_module" or user.args[:1] != (node,) or len(user.args) != 1 or user.kwargs:
            continue
        norm = modules[str(user.target)]
        if calls[id(layer)] == 1 and calls[id(norm)] == 1 and is_foldable_norm(layer, norm):
            pairs.append((str(node.target), str(user.target)))
    return pairs


def is_foldable_norm(layer: nn.Module, norm: nn.Module) -> bool:
    """Whether `norm` is a batch normalisation with fixed statistics over the outputs of `layer`."""
    kinds: Any = (nn.BatchNorm2d, nn.SyncBatchNorm) if isinstance(layer, nn.Conv2d) else (nn.BatchNorm1d,)
    if isinstance(layer, nn.Conv1d):
        kinds = (nn.BatchNorm1d, nn.SyncBatchNorm)
    outputs: Any = layer.out_features if isinstance(layer, nn.Linear) else layer.out_channels
    return (
        isinstance(norm, kinds)
        and is_plain_norm(norm)
        and norm.num_features == outputs  # of [N, tokens, features] a normalisation has the tokens as channels
    )
