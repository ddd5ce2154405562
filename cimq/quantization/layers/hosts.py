"""Products that a module makes by a function call (F.linear, F.conv2d, F.scaled_dot_product_attention), not by a layer.

They are found by tracing the forward of every module by itself with torch.fx. Such a module becomes a "host": it gets
`crossbar_products`, one layer for each parameter that it multiplies with (which stays the host's) and one
`AttentionCore` for its attention, and its own forward runs with these calls answered by them. A forward that torch.fx
cannot trace is not looked into.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import fx, nn
from torch.overrides import TorchFunctionMode

from cimq.quantization.layers.attention import AttentionCore, forget_unknown
from cimq.quantization.layers.borrowed import BorrowedConv2d, BorrowedLinear, BorrowedTransposed
from cimq.quantization.layers.matmul import QuantMatmul
from cimq.quantization.layers.quant_layer import QuantLayer
from cimq.torch_tools.batches import kept_random_state
from cimq.torch_tools.call_arguments import default_arguments, without_fixed
from cimq.torch_tools.modes import unchanged
from cimq.torch_tools.private_names import StateDictModule, children_of, parameters_of, set_children
from cimq.torch_tools.replaced_forwards import has_replaced_forward

ATTENTION = "attention"
_WEIGHTED: dict[Any, str] = {F.linear: "linear", F.conv2d: "conv2d", torch.conv2d: "conv2d"}
_OTHER: dict[Any, str] = {
    F.conv1d: "conv1d",
    torch.conv1d: "conv1d",
    F.conv3d: "conv3d",
    torch.conv3d: "conv3d",
    F.conv_transpose1d: "conv_transpose1d",
    F.conv_transpose2d: "conv_transpose2d",
    F.conv_transpose3d: "conv_transpose3d",
    F.multi_head_attention_forward: "multi_head_attention_forward",
    F.bilinear: "bilinear",
    torch.matmul: "matmul",
    torch.linalg.matmul: "matmul",
    operator.matmul: "matmul",
    torch.bmm: "bmm",
    torch.mm: "mm",
    torch.mv: "mv",
    torch.addmm: "addmm",
    torch.baddbmm: "baddbmm",
    torch.addbmm: "addbmm",
    torch.inner: "inner",
    torch.tensordot: "tensordot",
    torch.chain_matmul: "chain_matmul",
    torch.linalg.multi_dot: "multi_dot",
    torch.einsum: "einsum",
}
_OTHER_METHODS = {"matmul", "__matmul__", "__rmatmul__", "bmm", "mm", "mv", "addmm", "baddbmm", "addbmm", "inner"}
_METHOD_NAMES = {"__matmul__": "matmul", "__rmatmul__": "matmul"}
# Every function and method that multiplies matrices, as a TorchFunctionMode sees it, with its plain name.
CALLED_PRODUCTS: dict[Any, str] = {
    **_WEIGHTED,
    **_OTHER,
    F.scaled_dot_product_attention: "scaled_dot_product_attention",
    **{getattr(torch.Tensor, method): _METHOD_NAMES.get(method, method) for method in _OTHER_METHODS},
}


class Product(NamedTuple):
    """A product of a host.

    Attributes:
        key: Its name within the host: that of the parameter with "." replaced by "_", or "attention".
        kind: "linear", "conv2d", "addmm" (a linear layer whose parameter is [in, out]) or "attention".
        weight: Name of the parameter within the host; empty for attention.
        bias: Name of the bias, or None.
        geometry: Arguments of the convolution.
    """

    key: str
    kind: str
    weight: str = ""
    bias: str | None = None
    geometry: dict[str, Any] = {}  # noqa: RUF012  never changed


def find_products(module: nn.Module) -> tuple[list[Product], list[str]]:
    """Products that the forward of its class makes by itself, and names of calls that cannot be quantised."""
    if has_replaced_forward(module):
        return [], []
    if type(module).__module__.startswith(("torch.nn", "torch.ao")) or isinstance(module, (QuantLayer, fx.GraphModule)):
        return [], []
    with kept_random_state(module), unchanged(module):
        try:
            graph = _ShallowTracer(param_shapes_constant=True).trace(module)
        except Exception:  # whatever a forward raises on symbolic values
            try:  # flags with the values they have by default
                fixed = default_arguments(module)
                graph = without_fixed(_ShallowTracer(param_shapes_constant=True).trace(module, fixed), module, fixed)
            except Exception:
                return [], []
    found: dict[str, Product] = {}
    left: list[str] = []
    for node in graph.nodes:
        addmm = _addmm(module, node)
        if addmm is not None or (node.op == "call_function" and node.target in _WEIGHTED):
            product = addmm or _weighted(module, node)
            if product is None:
                left.append(f"{_WEIGHTED[node.target]} with a weight that is no parameter")
            elif product != found.setdefault(product.key, product):
                left.append(f"{product.kind} of {product.weight} with two geometries")
                del found[product.key]
        elif node.op == "call_function" and node.target is F.scaled_dot_product_attention:
            found.setdefault(ATTENTION, Product(ATTENTION, ATTENTION))
        elif node.op == "call_function" and node.target in _OTHER:
            left.append(_OTHER[node.target])
        elif node.op == "call_method" and node.target in _OTHER_METHODS:
            left.append(_METHOD_NAMES.get(str(node.target), str(node.target)))
    return list(found.values()), sorted(set(left))


class _ShallowTracer(fx.Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return True


def _weighted(module: nn.Module, node: fx.Node) -> Product | None:
    names = ("input", "weight", "bias", "stride", "padding", "dilation", "groups")
    given: dict[str, Any] = dict(zip(names, node.args, strict=False)) | dict(node.kwargs)
    weight, bias = given["weight"], given.get("bias")
    kind = _WEIGHTED[node.target]
    parameters = dict(module.named_parameters())
    tensor = _parameter(weight, parameters)
    if tensor is None or tensor.dim() != (2 if kind == "linear" else 4) or tensor.dtype != torch.float32:
        return None
    if bias is not None and _parameter(bias, parameters) is None:
        return None
    geometry = {key: given[key] for key in names[3:] if key in given}
    if any(isinstance(value, fx.Node) for value in geometry.values()):
        return None
    name = str(weight.target)
    return Product(name.replace(".", "_"), kind, name, None if bias is None else str(bias.target), geometry)


def _addmm(module: nn.Module, node: fx.Node) -> Product | None:
    """torch.addmm(bias, x, matrix) of two parameters and an input."""
    if node.op != "call_function" or node.target is not torch.addmm:
        return None
    given: dict[str, Any] = dict(zip(("input", "mat1", "mat2"), node.args, strict=False)) | dict(node.kwargs)
    parameters = dict(module.named_parameters())
    bias, matrix = (_parameter(given.get(key), parameters) for key in ("input", "mat2"))
    if set(given) != {"input", "mat1", "mat2"} or _parameter(given["mat1"], parameters) is not None:
        return None
    if bias is None or matrix is None or matrix.dtype != torch.float32 or bias.shape != matrix.shape[1:]:
        return None
    name = str(given["mat2"].target)
    return Product(name.replace(".", "_"), "addmm", name, str(given["input"].target))


def _parameter(value: Any, parameters: dict[str, nn.Parameter]) -> nn.Parameter | None:
    return parameters.get(str(value.target)) if isinstance(value, fx.Node) and value.op == "get_attr" else None


def _parameter_of(module: nn.Module, name: str) -> Any:
    """A parameter by name; not by getattr, which gives a proxy while torch.fx traces."""
    path, _, leaf = name.rpartition(".")
    return parameters_of(module.get_submodule(path)).get(leaf)


class ProductHost(StateDictModule):
    """What hosts have in common; the class of a host is derived from this and from what it was."""

    crossbar_products: nn.ModuleDict
    _product_weights: dict[str, str]  # key -> name of its parameter

    def layer_of(self, weight: Any) -> Any:
        """The layer for a weight, None for one that is not of this host."""
        for key, name in self._product_weights.items():
            own = _parameter_of(self, name)
            if weight is own:
                return self.crossbar_products[key]
            if not isinstance(weight, fx.Proxy) or weight.node.op != "get_attr":
                continue
            root: Any = weight.tracer.root  # type: ignore[attr-defined]
            if _parameter_of(root, str(weight.node.target)) is own:
                return self.crossbar_products[key]
        return None

    def was_read(self, state_dict: Mapping[str, Any], prefix: str) -> None:
        """Weights without scales are other weights."""
        forget_unknown(self, state_dict, prefix)

    def __reduce_ex__(self, protocol: Any) -> Any:
        return new_host, (type(self).__dict__["_hosted_class"],), self.__dict__


class _Intercept(TorchFunctionMode):
    def __init__(self, host: ProductHost) -> None:
        super().__init__()
        self.host = host

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in _WEIGHTED:
            layer = self.host.layer_of(args[1] if len(args) > 1 else kwargs.get("weight"))
            if isinstance(layer, QuantLayer):
                return layer._call(*args, **kwargs)  # type: ignore[operator]
            if layer is not None:  # converted
                return layer(args[0] if args else kwargs["input"])
        elif func is torch.addmm:
            given = dict(zip(("input", "mat1", "mat2"), args, strict=False)) | kwargs
            layer = self.host.layer_of(given.get("mat2")) if set(given) == {"input", "mat1", "mat2"} else None
            if isinstance(layer, BorrowedTransposed):
                return layer._call(given["mat1"], layer.weight, given["input"])
            if layer is not None:  # converted
                return layer(given["mat1"])
        elif func is F.scaled_dot_product_attention and ATTENTION in self.host.crossbar_products:
            return self.host.crossbar_products[ATTENTION](*args, **kwargs)
        return func(*args, **kwargs)


_hosts: dict[type, type] = {}


def host_class(cls: type[nn.Module]) -> type[nn.Module]:
    """The class of hosts that were of class `cls`."""
    if cls not in _hosts:

        @functools.wraps(cls.forward)  # its signature is what torch.fx reads
        def forward(self: Any, *args: Any, **kwargs: Any) -> Any:
            with _Intercept(self):
                return cls.forward(self, *args, **kwargs)

        members = {"__module__": cls.__module__, "_hosted_class": cls, "forward": forward}
        _hosts[cls] = type(f"Quant{cls.__name__}", (ProductHost, cls), members)
    return _hosts[cls]


def new_host(cls: type[nn.Module]) -> nn.Module:
    """An empty instance of the host class of `cls`, for unpickling."""
    derived = host_class(cls)
    return derived.__new__(derived)


def layer_names(products: list[Product]) -> list[str]:
    """Names in a policy, within the host."""
    return [name for product in products for name in (("qk", "av") if product.kind == ATTENTION else (product.key,))]


def quantise_host(module: nn.Module, products: list[Product]) -> list[QuantLayer]:
    """Turns a module into a host; its layers in policy order, not attached yet."""
    made = nn.ModuleDict()
    layers: list[Any] = []
    like = next(iter(module.parameters()), torch.zeros(0))
    for product in products:
        if product.kind == ATTENTION:
            core = AttentionCore(QuantMatmul(like), QuantMatmul(like))
            made[product.key] = core
            layers += [core.qk, core.av]
            continue
        weight: Any = module.get_parameter(product.weight)
        bias: Any = None if product.bias is None else module.get_parameter(product.bias)
        if product.kind == "conv2d":
            layer: Any = BorrowedConv2d.of(weight, bias, **product.geometry)
        else:
            layer = (BorrowedLinear if product.kind == "linear" else BorrowedTransposed).of(weight, bias)
        made[product.key] = layer
        layers.append(layer)
    module.__class__ = host_class(type(module))
    host: Any = module
    host._product_weights = {product.key: product.weight for product in products if product.weight}
    # First among the children: the order of a policy is that of modules.
    set_children(module, {"crossbar_products": made, **children_of(module)})
    return layers
