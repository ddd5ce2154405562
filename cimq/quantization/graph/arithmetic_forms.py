"""Forms (normal_form.py) of arithmetic, with numbers and parameters as operands, of further activation functions,
softmax, layer and group normalisation:

| form | |
| --- | --- |
| operator.add, operator.sub, operator.mul, operator.truediv (a, b) | values, parameters, numbers on either side |
| torch.minimum(a, b), torch.maximum(a, b) | |
| F.leaky_relu(x, slope); torch.prelu(x, weight) | PyTorch rounds them once |
| activation(x, kind, alpha); softmax(x, dim, logarithm) | of exact/functions.py |
| layer_norm(x, shape, weight, bias, eps); group_norm(x, groups, weight, bias, eps) | likewise |

Parameters are get_attr nodes of the graph.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import fx, nn

from cimq.quantization.exact.functions import activation, gelu_kind, group_norm, layer_norm, softmax
from cimq.torch_tools.private_names import IGNORED_ARGUMENTS

Form = tuple[Callable[..., Any], tuple[Any, ...]]


def constant_nodes(graph: fx.Graph) -> set[fx.Node]:
    """Nodes that depend on no input: parameters, buffers, and what is computed from them alone."""
    constant: set[fx.Node] = set()
    for node in graph.nodes:
        if node.op == "get_attr" or (
            node.op in ("call_function", "call_method")
            and node.all_input_nodes
            and all(source in constant for source in node.all_input_nodes)
        ):
            constant.add(node)
    return constant


def freeze_parameters(root: nn.Module, graph: fx.Graph) -> None:
    """Parameters that the graph reads ask for no gradient: a converted model is for inference."""
    for node in graph.nodes:
        if node.op == "get_attr":
            path, _, leaf = str(node.target).rpartition(".")
            value = getattr(root.get_submodule(path), leaf, None)
            if isinstance(value, nn.Parameter):
                value.requires_grad_(False)


def _binary(function: Callable[..., Any]) -> Callable[..., Form | None]:
    """Of two tensors, or a tensor and a number on either side; of two sizes it is what it was."""

    def rule(input: Any, other: Any, *, alpha: Any = 1, rounding_mode: Any = None) -> Form | None:
        operands = (input, other)
        known = all(isinstance(operand, (fx.Node, int, float)) for operand in operands)
        # Sums with a factor are fused multiply-adds on some processors.
        plain = known and any(isinstance(operand, fx.Node) for operand in operands) and rounding_mode is None
        return (function, operands) if plain and alpha == 1 else None

    return rule


add = _binary(operator.add)
sub = _binary(operator.sub)
mul = _binary(operator.mul)
div = _binary(operator.truediv)


def _rsub(input: Any, other: Any, *, alpha: Any = 1) -> Form | None:
    return sub(other, input, alpha=alpha)


def _neg(input: Any) -> Form:
    return operator.mul, (input, -1.0)


def _of_two(function: Callable[..., Any]) -> Callable[..., Form | None]:
    """torch.minimum and torch.maximum; of torch.min and torch.max only the forms of two tensors."""

    def rule(input: Any, other: Any) -> Form | None:
        return (function, (input, other)) if isinstance(other, fx.Node) else None

    return rule


def _leaky_relu(input: Any, negative_slope: float = 0.01, inplace: bool = False) -> Form:
    return F.leaky_relu, (input, negative_slope)


def _prelu(input: Any, weight: Any) -> Form:
    return torch.prelu, (input, weight)


def _elu(input: Any, alpha: float = 1.0, inplace: bool = False) -> Form:
    return activation, (input, "elu", alpha)


def _tanh(input: Any) -> Form:
    return activation, (input, "tanh")


def _gelu(input: Any, *, approximate: str = "none") -> Form | None:
    kind = gelu_kind(approximate)
    return None if kind is None else (activation, (input, kind))


def _softmax(logarithm: bool) -> Callable[..., Form | None]:
    def rule(input: Any, dim: Any = None, *rest: Any, dtype: Any = None, **ignored: Any) -> Form | None:
        others = [value for value in (*rest, dtype) if isinstance(value, torch.dtype)]  # as in exact/functions.py
        known = isinstance(dim, int) and not others and set(ignored) <= IGNORED_ARGUMENTS
        return (softmax, (input, dim, logarithm)) if known else None

    return rule


def _layer_norm(input: Any, normalized_shape: Any, weight: Any = None, bias: Any = None, eps: float = 1e-5) -> Form:
    return layer_norm, (input, tuple(normalized_shape), weight, bias, eps)


def _group_norm(input: Any, num_groups: int, weight: Any = None, bias: Any = None, eps: float = 1e-5) -> Form:
    return group_norm, (input, num_groups, weight, bias, eps)


def module_form(module: nn.Module, node: fx.Node) -> Form | None:
    """The form of a call of a PyTorch module; None for other modules."""
    kind = type(module)
    m: Any = module
    x = node.args[0]

    def parameter(name: str) -> fx.Node | None:
        if getattr(module, name, None) is None:
            return None
        with node.graph.inserting_before(node):
            return node.graph.get_attr(f"{node.target}.{name}")

    if kind is nn.LeakyReLU:
        return _leaky_relu(x, m.negative_slope)
    if kind is nn.PReLU:
        return _prelu(x, parameter("weight"))
    if kind is nn.ELU:
        return _elu(x, m.alpha)
    if kind is nn.Tanh:
        return _tanh(x)
    if kind is nn.GELU:
        return _gelu(x, approximate=m.approximate)
    if kind in (nn.Softmax, nn.LogSoftmax):
        return _softmax(kind is nn.LogSoftmax)(x, m.dim)
    if kind is nn.Softmax2d:
        return _softmax(False)(x, -3)
    if kind is nn.LayerNorm:
        return _layer_norm(x, m.normalized_shape, parameter("weight"), parameter("bias"), m.eps)
    if kind is nn.GroupNorm:
        return _group_norm(x, m.num_groups, parameter("weight"), parameter("bias"), m.eps)
    return None


FUNCTIONS: dict[Any, Callable[..., Form | None]] = {
    operator.sub: sub,
    operator.isub: sub,
    operator.itruediv: div,
    operator.neg: _neg,
    torch.sub: sub,
    torch.subtract: sub,
    torch.rsub: _rsub,
    torch.div: div,
    torch.divide: div,
    torch.true_divide: div,
    torch.neg: _neg,
    torch.negative: _neg,
    torch.minimum: _of_two(torch.minimum),
    torch.maximum: _of_two(torch.maximum),
    torch.min: _of_two(torch.minimum),
    torch.max: _of_two(torch.maximum),
    F.leaky_relu: _leaky_relu,
    F.leaky_relu_: _leaky_relu,
    torch.prelu: _prelu,
    F.elu: _elu,
    torch.tanh: _tanh,
    torch.tanh_: _tanh,
    F.tanh: _tanh,
    F.gelu: _gelu,
    F.softmax: _softmax(False),
    torch.softmax: _softmax(False),
    F.log_softmax: _softmax(True),
    torch.log_softmax: _softmax(True),
    F.layer_norm: _layer_norm,
    F.group_norm: _group_norm,
}
METHODS: dict[str, Callable[..., Form | None]] = {
    "sub": sub,
    "sub_": sub,
    "subtract": sub,
    "rsub": _rsub,
    "div": div,
    "div_": div,
    "divide": div,
    "true_divide": div,
    "neg": _neg,
    "minimum": _of_two(torch.minimum),
    "maximum": _of_two(torch.maximum),
    "min": _of_two(torch.minimum),
    "max": _of_two(torch.maximum),
    "tanh": _tanh,
    "tanh_": _tanh,
    "softmax": _softmax(False),
    "log_softmax": _softmax(True),
}
