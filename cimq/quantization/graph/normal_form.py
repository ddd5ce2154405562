"""One form for each operation of a traced graph, so that exporters know few of them.

After conversion a graph holds these operations (anything else was left as it stood, and a warning named it):

| node | form |
| --- | --- |
| call_module | CrossbarConv2d, CrossbarLinear, Conv2dF32, LinearF32, Affine (cimq.quantization.conversion) |
| call_function | F.relu(x); torch.clamp(x, min, max); operator.add(a, b), operator.mul(a, b); torch.cat(tensors, dim) |
| call_function | ops.activation(x, kind) |
| call_function, get_attr | those of arithmetic_forms.py: operands that are parameters or numbers, normalisations |
| call_function | F.pad(x, pad, mode, value) |
| call_function | ops.avg_pool2d(x, kernel_size, stride, padding, count_include_pad) |
| call_function | global_avg_pool2d(x, keepdim, dims) |
| call_function | torch.flatten(x, start_dim, end_dim); torch.reshape(x, shape); operator.getitem(x, slices) |
| call_function | pooling, resizing and shape operations: cimq/quantization/graph/shape_forms.py |
| call_function, call_method | what computes shapes: x.size(...), getattr(x, "shape"), arithmetic on these |
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Container
from typing import Any

import torch
import torch.nn.functional as F
from torch import fx, nn

from cimq import ops
from cimq.quantization.exact.functions import FUNCTIONS
from cimq.quantization.graph import arithmetic_forms, shape_forms
from cimq.quantization.graph.in_place import keeps_type
from cimq.torch_tools.node_values import SHAPE_FUNCTIONS as _SHAPE_FUNCTIONS
from cimq.torch_tools.node_values import is_check_of_sizes, is_number, is_shape
from cimq.torch_tools.node_values import is_size as _is_size
from cimq.torch_tools.node_values import makes_tensor as _makes_tensor

Form = tuple[Callable[..., Any], tuple[Any, ...]]
_SHAPE_METHODS = {"size", "dim", "numel", "contiguous"}


def normalise(
    root: nn.Module, graph: fx.Graph, finished: tuple[type[nn.Module], ...], staying: Container[fx.Node] = ()
) -> list[str]:
    """Rewrites nodes in place, all but those that are `staying`.

    Args:
        root: What the graph is of.
        graph: Is changed.
        finished: Modules that are a form by themselves: those that a converted model is made of.
        staying: Nodes to leave.

    Returns:
        What was left as it stood: descriptions of modules and functions.
    """
    left: list[str] = []
    constant = arithmetic_forms.constant_nodes(graph)
    for node in list(graph.nodes):
        if node.target is keeps_type or is_check_of_sizes(node):
            continue
        if node in staying:
            left.append(_describe(root, node))
            continue
        if node.op not in ("call_module", "call_function", "call_method"):
            continue
        try:
            form = _form(root, node, finished)
        except (TypeError, IndexError, KeyError):  # arguments that the forms below do not have
            form = None
        if form is _REMOVED:
            node.replace_all_uses_with(node.args[0] if node.args else node.kwargs["input"])
            graph.erase_node(node)
        elif isinstance(form, tuple):
            with graph.inserting_before(node):
                new = graph.call_function(*form)
            new.meta.update(node.meta)
            node.replace_all_uses_with(new)
            graph.erase_node(node)
        elif form is None and not (node in constant and node.target not in FUNCTIONS):
            left.append(_describe(root, node))
    return sorted(set(left))


_REMOVED = object()
_KEPT = object()


def _form(root: nn.Module, node: fx.Node, finished: tuple[type[nn.Module], ...]) -> Any:
    if node.op == "call_module":
        module = root.get_submodule(str(node.target))
        return _KEPT if isinstance(module, finished) else _module_form(module, node)
    if node.op == "call_method":
        if node.target in _SHAPE_METHODS:
            return _KEPT
        make = _METHODS.get(str(node.target))
    else:
        if (node.target in _SHAPE_FUNCTIONS and not _makes_tensor(node)) or _is_computed_size(node):
            return _KEPT
        make = _FUNCTIONS.get(node.target) or _FUNCTIONS_BY_NAME.get(_full_name(node.target))
    return None if make is None else make(*node.args, **node.kwargs)


def _is_computed_size(node: fx.Node) -> bool:
    """max(math.ceil(size / stride), 1), ...: plain numbers."""
    return node.target not in (getattr, operator.getitem) and is_number(node)


def _full_name(function: Any) -> str:
    return f"{getattr(function, '__module__', '')}.{getattr(function, '__name__', '')}"


def _describe(root: nn.Module, node: fx.Node) -> str:
    if node.op == "call_module":
        return f"{node.target} ({type(root.get_submodule(str(node.target))).__name__})"
    return str(node.target) if node.op == "call_method" else getattr(node.target, "__name__", str(node.target))


def _module_form(module: nn.Module, node: fx.Node) -> Any:
    x = node.args[0]
    kind = type(module)
    m: Any = module
    if kind in (nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout):
        return _REMOVED
    if kind is nn.ReLU:
        return _relu(x)
    if kind in _ACTIVATION_MODULES:
        return ops.activation, (x, _ACTIVATION_MODULES[kind])
    if kind is nn.ReLU6:
        return _clamp(x, 0.0, 6.0)
    if kind is nn.Hardtanh:
        return _clamp(x, m.min_val, m.max_val)
    if kind is nn.Flatten:
        return _flatten(x, m.start_dim, m.end_dim)
    make = shape_forms.MODULES.get(kind)
    return arithmetic_forms.module_form(module, node) if make is None else make(m, x)


def _relu(input: Any, inplace: bool = False) -> Form:
    return F.relu, (input,)


def _clamp(input: Any, min: Any = None, max: Any = None, **kwargs: Any) -> Form | None:
    inplace = kwargs.pop("inplace", False)
    return None if kwargs or not isinstance(inplace, bool) else (torch.clamp, (input, min, max))


def _clamp_min(input: Any, min: Any) -> Form:
    return torch.clamp, (input, min, None)


def _clamp_max(input: Any, max: Any) -> Form:
    return torch.clamp, (input, None, max)


def _hardtanh(input: Any, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False) -> Form:
    return torch.clamp, (input, min_val, max_val)


def _relu6(input: Any, inplace: bool = False) -> Form:
    return torch.clamp, (input, 0.0, 6.0)


def _operator_add(a: Any, b: Any) -> Any:
    if is_shape(a) or is_shape(b) or all(isinstance(arg, int) or _is_size(arg) for arg in (a, b)):
        return _KEPT
    return arithmetic_forms.add(a, b)


def _activation(kind: str) -> Callable[..., Form]:
    return lambda input, inplace=False: (ops.activation, (input, kind))


_ACTIVATION_MODULES: dict[Any, str] = {
    nn.Sigmoid: "sigmoid",
    nn.SiLU: "silu",
    nn.Hardsigmoid: "hardsigmoid",
    nn.Hardswish: "hardswish",
}


def _flatten(input: Any, start_dim: int = 0, end_dim: int = -1) -> Form:
    return torch.flatten, (input, start_dim, end_dim)


def _reshape(input: Any, *shape: Any, **kwargs: Any) -> Form | None:
    sizes = kwargs.pop("shape", None) or (
        shape[0] if len(shape) == 1 and isinstance(shape[0], (tuple, list)) else shape
    )
    only = sizes if isinstance(sizes, fx.Node) else sizes[0] if len(sizes) == 1 else None
    if is_shape(only):  # y.view(x.size())
        return torch.reshape, (input, only)
    if isinstance(only, fx.Node) and not is_number(only):  # a size, or a tuple of them
        return None
    sizes = (sizes,) if isinstance(sizes, fx.Node) else tuple(sizes)
    if kwargs:
        raise TypeError("reshape takes sizes")
    if not all(isinstance(size, (int, fx.Node)) for size in sizes):  # y.view(dtype)
        return None
    if len(sizes) == 2 and sizes[1] == -1 and _is_batch_size(sizes[0], input):
        return torch.flatten, (input, 1, -1)
    return torch.reshape, (input, sizes)


def _is_batch_size(size: Any, of: Any) -> bool:
    """of.size(0), of.size()[0] or of.shape[0]: the size of another value says nothing about this one."""
    if not isinstance(size, fx.Node) or not _is_size(size):
        return False
    if size.op == "call_method":
        return bool(size.args == (of, 0))
    shape = size.args[0] if size.target is operator.getitem and size.args[1] == 0 else None
    return is_shape(shape) and isinstance(shape, fx.Node) and shape.args[0] is of


def _cat(tensors: Any, dim: int = 0, **kwargs: Any) -> Form | None:
    return None if kwargs else (torch.cat, (tensors, dim))


def _pad(input: Any, pad: Any, mode: str = "constant", value: float | None = None) -> Form:
    return F.pad, (input, pad, mode, value)


def _getitem(input: Any, index: Any) -> Any:
    return _KEPT


def _dropout(input: Any, p: float = 0.5, training: bool = True, inplace: bool = False) -> Any:
    return None if training else _REMOVED


_FUNCTIONS: dict[Any, Callable[..., Any]] = {
    **arithmetic_forms.FUNCTIONS,
    F.relu: _relu,
    torch.relu: _relu,
    torch.relu_: _relu,
    F.relu6: _relu6,
    F.hardtanh: _hardtanh,
    F.sigmoid: _activation("sigmoid"),
    torch.sigmoid: _activation("sigmoid"),
    F.silu: _activation("silu"),
    F.hardsigmoid: _activation("hardsigmoid"),
    F.hardswish: _activation("hardswish"),
    torch.clamp: _clamp,
    torch.clip: _clamp,
    torch.clamp_min: _clamp_min,
    torch.clamp_max: _clamp_max,
    operator.add: _operator_add,
    operator.iadd: _operator_add,
    operator.truediv: arithmetic_forms.div,
    operator.mul: arithmetic_forms.mul,
    operator.imul: arithmetic_forms.mul,
    torch.mul: arithmetic_forms.mul,
    torch.multiply: arithmetic_forms.mul,
    torch.add: arithmetic_forms.add,
    torch.flatten: _flatten,
    torch.reshape: _reshape,
    torch.cat: _cat,
    torch.concat: _cat,
    F.pad: _pad,
    operator.getitem: _getitem,
    F.dropout: _dropout,
    F.dropout2d: _dropout,
    **shape_forms.FUNCTIONS,
}
# Of libraries that need not be installed.
_FUNCTIONS_BY_NAME: dict[str, Callable[..., Any]] = {
    "torchvision.ops.stochastic_depth.stochastic_depth": lambda input, p, mode, training=True: _dropout(
        input, p, training
    ),
}
_METHODS: dict[str, Callable[..., Any]] = {
    **arithmetic_forms.METHODS,
    "relu": _relu,
    "relu_": _relu,
    "sigmoid": _activation("sigmoid"),
    "sigmoid_": _activation("sigmoid"),
    "mul": arithmetic_forms.mul,
    "mul_": arithmetic_forms.mul,
    "clamp": _clamp,
    "clamp_": _clamp,
    "clamp_min": _clamp_min,
    "clamp_max": _clamp_max,
    "add": arithmetic_forms.add,
    "add_": arithmetic_forms.add,
    "flatten": _flatten,
    "reshape": _reshape,
    "view": _reshape,
    **shape_forms.METHODS,
}
