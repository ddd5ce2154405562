"""What the value of a node in a traced graph is: a size, another number, certainly a tensor, or not known."""

from __future__ import annotations

import math
import operator
from typing import Any

import torch
from torch import fx, nn

from cimq.torch_tools.private_names import ASSERTION, AnyAdaptiveMaxPool, AnyMaxPool

SHAPE_FUNCTIONS = {getattr, operator.mul, operator.floordiv, operator.sub, operator.eq, operator.ne, operator.mod}
_ARITHMETIC = {
    operator.add, operator.sub, operator.mul, operator.truediv, operator.floordiv, operator.mod, operator.pow,
    operator.neg, operator.pos, operator.abs, operator.eq, operator.ne, operator.lt, operator.le, operator.gt,
    operator.ge, operator.iadd, operator.isub, operator.imul, operator.itruediv, operator.ifloordiv, operator.imod,
    operator.ipow, operator.matmul, operator.imatmul, operator.and_, operator.or_, operator.xor, operator.iand,
    operator.ior, operator.ixor, operator.invert, operator.lshift, operator.rshift, operator.ilshift, operator.irshift,
    max, min,
}  # fmt: skip
_NUMBER_METHODS = {
    "size", "dim", "ndimension", "numel", "nelement", "item", "stride", "storage_offset", "element_size", "get_device",
    "data_ptr", "is_contiguous", "is_floating_point", "is_complex", "is_signed", "__len__",
}  # fmt: skip
_NUMBER_ATTRIBUTES = {"shape", "ndim", "dtype", "device", "layout", "requires_grad", "is_cuda", "itemsize", "nbytes"}
# Tuples or lists of tensors.
SEVERAL = {
    "chunk", "split", "split_with_sizes", "tensor_split", "hsplit", "vsplit", "dsplit", "unsafe_chunk", "unsafe_split",
    "unsafe_split_with_sizes", "unbind", "broadcast_tensors", "meshgrid",
}  # fmt: skip
_NO_TENSOR_METHODS = _NUMBER_METHODS | SEVERAL | {
    "tolist", "numpy", "max", "min", "sort", "topk", "kthvalue", "median", "mode", "nonzero", "unique", "aminmax",
    "cummax", "cummin", "type", "svd", "qr", "slogdet",
}  # fmt: skip
# Functions of other libraries, which need not be installed, whose result is a tensor.
_TENSOR_FUNCTIONS = {"torchvision.ops.stochastic_depth.stochastic_depth"}
_NO_TENSOR_MODULES = (
    nn.RNNBase,
    nn.RNNCellBase,
    nn.MultiheadAttention,
    nn.AdaptiveLogSoftmaxWithLoss,
    AnyMaxPool,
    AnyAdaptiveMaxPool,
)


def is_size(value: Any) -> bool:
    """Whether it is a node that computes the shape of a tensor, a size in it, or plain arithmetic on such."""
    if not isinstance(value, fx.Node):
        return False
    if value.op == "call_method":
        return value.target in ("size", "dim", "numel")
    if value.target is operator.getitem:
        return is_size(value.args[0])
    if value.target is getattr:
        return value.args[1] in ("shape", "ndim")
    return value.target in SHAPE_FUNCTIONS and not makes_tensor(value)


def is_shape(value: Any) -> bool:
    """Whether it is a node that computes a whole shape, or a part of one with as many sizes as it has."""
    if not isinstance(value, fx.Node):
        return False
    if value.op == "call_method":
        return value.target == "size" and len(value.args) == 1 and not value.kwargs
    if value.target is getattr:
        return bool(value.args[1] == "shape")
    if value.target is operator.getitem:
        return is_shape(value.args[0]) and isinstance(value.args[1], slice)
    return value.target is operator.add and any(is_shape(arg) for arg in value.args)


def is_one_size(node: fx.Node) -> bool:
    """Whether it is a single size of a tensor."""
    if node.op == "call_method":
        return node.target in ("dim", "numel", "nelement", "ndimension") or (
            node.target == "size" and len(node.args) > 1
        )
    if node.target is operator.getitem:
        return is_size(node.args[0]) and isinstance(node.args[1], int)
    return node.target is getattr and node.args[1] == "ndim"


def makes_tensor(node: fx.Node) -> bool:
    """Whether a node that may compute a shape works on tensors instead (x * y of a squeeze-excite block)."""
    if node.target is getattr:
        return node.args[1] not in ("shape", "ndim")
    return not all(isinstance(arg, int) or is_size(arg) for arg in node.args)


def is_check_of_sizes(node: fx.Node) -> bool:
    """Whether it is an assertion about sizes, which a graph keeps although nothing reads its result."""
    return node.op == "call_function" and node.target is ASSERTION and is_number(node.args[0])


def is_number(value: Any) -> bool:
    """Whether it is a number (or a shape, a type, ...) in Python, which no operation overwrites, or computes one."""
    if not isinstance(value, fx.Node):
        return isinstance(value, (int, float, bool, complex, str, type(None), torch.dtype, torch.device))
    if value.op == "call_method":
        return value.target in _NUMBER_METHODS
    if value.op != "call_function":
        return False
    if value.target is getattr:
        return value.args[1] in _NUMBER_ATTRIBUTES
    if value.target is operator.getitem:
        return is_number(value.args[0])
    if value.target in _ARITHMETIC or getattr(value.target, "__module__", "") == math.__name__:
        return all(is_number(arg) or (isinstance(arg, tuple) and all(map(is_number, arg))) for arg in value.args)
    return False


def is_certainly_tensor(root: nn.Module, value: Any) -> bool:
    """Whether it is a node whose value can be nothing but a tensor; inputs count as tensors unless noted."""
    if not isinstance(value, fx.Node) or is_number(value):
        return False
    if value.op in ("placeholder", "get_attr"):
        return not value.meta.get("no_tensor", False)
    if value.op == "call_module":
        module: Any = root.get_submodule(str(value.target))
        return not isinstance(module, _NO_TENSOR_MODULES) or getattr(module, "return_indices", None) is False
    if value.op == "call_method":
        return value.target not in _NO_TENSOR_METHODS
    if value.target is operator.getitem:
        source: Any = value.args[0]
        if source.op == "call_module" and isinstance(root.get_submodule(str(source.target)), nn.MultiheadAttention):
            return bool(value.args[1] == 0)  # of (output, weights)
        return is_certainly_tensor(root, source) or (name_of(source) in SEVERAL and isinstance(value.args[1], int))
    if value.target in _ARITHMETIC:
        return any(is_certainly_tensor(root, arg) for arg in value.args)
    module_name = getattr(value.target, "__module__", None) or ""
    if f"{module_name}.{name_of(value)}" in _TENSOR_FUNCTIONS:
        return True
    return module_name.split(".")[0] == "torch" and name_of(value) not in _NO_TENSOR_METHODS


def name_of(node: Any) -> str:
    """The plain name of the function or method that a node calls; empty for any other."""
    if not isinstance(node, fx.Node):
        return ""
    if node.op == "call_method":
        return str(node.target)
    return getattr(node.target, "__name__", "") if node.op == "call_function" else ""
