"""Activation functions, softmax and normalisations whose bits are defined: what a converted model computes, and what
evaluation answers calls of PyTorch's functions with (`exact.ExactEval`).

Each handler gets the mode and the arguments of the PyTorch function; NotImplemented leaves the call to PyTorch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from cimq import ops
from cimq.ops.devices import has_kernels
from cimq.torch_tools.private_names import IGNORED_ARGUMENTS

Handler = Callable[..., Any]


def is_plain(x: Any) -> bool:
    """The defined operations exist for float32 on devices with kernels of cimq; elsewhere PyTorch's are used."""
    return isinstance(x, Tensor) and x.dtype == torch.float32 and has_kernels(x.device)


# ---- as parts of a converted model: the defined operations where they exist, elsewhere PyTorch's ----


def activation(x: Tensor, kind: str, alpha: float = 1.0) -> Tensor:
    """`ops.activation`, or PyTorch's function of that name."""
    if is_plain(x):
        return ops.activation(x, kind, alpha)
    if kind == "elu":
        return F.elu(x, alpha)
    if kind in _GELU.values():
        return F.gelu(x, approximate="tanh" if kind == "gelu_tanh" else "none")
    y: Tensor = {"sigmoid": torch.sigmoid, "tanh": torch.tanh}.get(kind, getattr(F, kind))(x)
    return y


def softmax(x: Tensor, dim: int, logarithm: bool = False) -> Tensor:
    """`ops.softmax`, or PyTorch's softmax or log_softmax."""
    if is_plain(x):
        return ops.softmax(x, dim, logarithm)
    return F.log_softmax(x, dim) if logarithm else F.softmax(x, dim)


def layer_norm(
    x: Tensor, normalized_shape: Sequence[int], weight: Tensor | None, bias: Tensor | None, eps: float
) -> Tensor:
    """`ops.layer_norm`, or PyTorch's."""
    if _are_plain(x, weight, bias):
        return ops.layer_norm(x, normalized_shape, weight, bias, eps)
    return F.layer_norm(x, tuple(normalized_shape), weight, bias, eps)


def group_norm(x: Tensor, groups: int, weight: Tensor | None, bias: Tensor | None, eps: float) -> Tensor:
    """`ops.group_norm`, or PyTorch's."""
    if _are_plain(x, weight, bias) and x.dim() >= 2:
        return ops.group_norm(x, groups, weight, bias, eps)
    return F.group_norm(x, groups, weight, bias, eps)


_GELU = {"none": "gelu", "tanh": "gelu_tanh"}


def gelu_kind(approximate: str) -> str | None:
    """The kind of `activation` for an argument of F.gelu; None for one that PyTorch refuses."""
    return _GELU.get(approximate)


# ---- as answers to calls ----


def _are_plain(x: Any, *parameters: Any) -> bool:
    return is_plain(x) and all(value is None or is_plain(value) for value in parameters)


def _result(mode: Any, input: Tensor, y: Tensor, inplace: bool) -> Tensor:
    # With a gradient, PyTorch's own function overwrites the input afterwards.
    return input.copy_(y) if inplace and not mode.with_gradient else y


def _activation(kind: str, always_inplace: bool = False) -> Handler:
    def handler(mode: Any, input: Tensor, inplace: bool = False) -> Any:
        if not is_plain(input):
            return NotImplemented
        return _result(mode, input, ops.activation(input, kind), inplace or always_inplace)

    return handler


def _elu(mode: Any, input: Tensor, alpha: float = 1.0, inplace: bool = False) -> Any:
    if not is_plain(input):
        return NotImplemented
    return _result(mode, input, ops.activation(input, "elu", alpha), inplace)


def _elu_(mode: Any, input: Tensor, alpha: float = 1.0, *rest: Any, **kwargs: Any) -> Any:
    return NotImplemented if rest or kwargs else _elu(mode, input, alpha, True)


def _gelu(mode: Any, input: Tensor, *, approximate: str = "none") -> Any:
    kind = gelu_kind(approximate)
    return ops.activation(input, kind) if kind is not None and is_plain(input) else NotImplemented


def _softmax(logarithm: bool) -> Handler:
    def handler(mode: Any, input: Tensor, dim: Any = None, *rest: Any, dtype: Any = None, **kwargs: Any) -> Any:
        # F.softmax has one that changes nothing between dim and dtype, the others have dtype there.
        types = [value for value in (*rest, dtype) if isinstance(value, torch.dtype)]
        if not isinstance(dim, int) or not is_plain(input) or input.dim() == 0 or not set(kwargs) <= IGNORED_ARGUMENTS:
            return NotImplemented
        return NotImplemented if types not in ([], [torch.float32]) else ops.softmax(input, dim, logarithm)

    return handler


def _layer_norm(
    mode: Any,
    input: Tensor,
    normalized_shape: Any,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    *rest: Any,  # whether cuDNN may be used
    **kwargs: Any,
) -> Any:
    if not _are_plain(input, weight, bias) or eps < 0:
        return NotImplemented
    return ops.layer_norm(input, tuple(normalized_shape), weight, bias, eps)


def _group_norm(
    mode: Any,
    input: Tensor,
    num_groups: int,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    *rest: Any,  # whether cuDNN may be used
    **kwargs: Any,
) -> Any:
    if not _are_plain(input, weight, bias) or input.dim() < 2 or eps < 0:
        return NotImplemented
    return ops.group_norm(input, num_groups, weight, bias, eps)


FUNCTIONS: dict[Any, Handler] = {
    torch.sigmoid: _activation("sigmoid"),
    Tensor.sigmoid: _activation("sigmoid"),
    torch.sigmoid_: _activation("sigmoid", always_inplace=True),
    Tensor.sigmoid_: _activation("sigmoid", always_inplace=True),
    F.silu: _activation("silu"),
    F.hardsigmoid: _activation("hardsigmoid"),
    F.hardswish: _activation("hardswish"),
    torch.tanh: _activation("tanh"),
    Tensor.tanh: _activation("tanh"),
    torch.tanh_: _activation("tanh", always_inplace=True),
    Tensor.tanh_: _activation("tanh", always_inplace=True),
    F.gelu: _gelu,
    F.elu: _elu,
    F.elu_: _elu_,
    F.softmax: _softmax(False),
    torch.softmax: _softmax(False),
    Tensor.softmax: _softmax(False),
    F.log_softmax: _softmax(True),
    torch.log_softmax: _softmax(True),
    Tensor.log_softmax: _softmax(True),
    F.layer_norm: _layer_norm,
    torch.layer_norm: _layer_norm,
    F.group_norm: _group_norm,
    torch.group_norm: _group_norm,
}
