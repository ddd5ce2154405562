"""Symbolic values that answer as the tensors do that they stand for, where torch.fx's own would mislead a forward."""

from __future__ import annotations

import builtins
import contextlib
import operator
from collections.abc import Callable, Iterator
from typing import Any, get_args

import torch
from torch import fx

from cimq.torch_tools.node_values import is_certainly_tensor, is_number, is_one_size

# What each operator with an assignment computes.
PURE_OPERATORS: dict[Any, Callable[..., Any]] = {
    operator.iadd: operator.add,
    operator.isub: operator.sub,
    operator.imul: operator.mul,
    operator.itruediv: operator.truediv,
    operator.ifloordiv: operator.floordiv,
    operator.imod: operator.mod,
    operator.ipow: operator.pow,
    operator.iand: operator.and_,
    operator.ior: operator.or_,
    operator.ixor: operator.xor,
    operator.ilshift: operator.lshift,
    operator.irshift: operator.rshift,
}


class TruthfulProxy(fx.Proxy):
    """A symbolic value of which `x += y` is recorded as what Python calls, `operator.iadd(x, y)`.

    torch.fx's own takes it for a new sum, so that whoever holds `x` under another name would see the old value. Of
    numbers (sizes, and what is computed from them) it is one: these are never overwritten.
    """


def _kinds(kind: Any) -> list[Any]:
    """The classes that a call of isinstance names: one, a union, or a tuple of such."""
    parts = kind if type(kind) is tuple else get_args(kind)
    return [inner for part in parts for inner in _kinds(part)] if parts else [kind]


@contextlib.contextmanager
def truthful_isinstance() -> Iterator[None]:
    """`isinstance(x, torch.Tensor)` is true of symbolic values, as it is of what they stand for; of sizes, int is.

    And `max` and `min` take sizes: convolutions that pad as TensorFlow does compute their padding with these.

    Else a forward would take the other way when it is traced. It is the function that is replaced: values that claim
    another class would be taken for tensors by PyTorch's C++ code too.
    """

    def answer(value: Any, kind: Any, /) -> bool:
        if type(value) is TruthfulProxy:
            kinds = _kinds(kind)
            tracer: Any = value.tracer
            if torch.Tensor in kinds and is_certainly_tensor(tracer.root, value.node):
                return True
            if int in kinds and is_one_size(value.node):
                return True
        return original(value, kind)

    original = builtins.isinstance
    extremes = {"max": builtins.max, "min": builtins.min}
    builtins.isinstance = answer
    for name, function in extremes.items():
        setattr(builtins, name, _extreme_of_sizes(function))
    try:
        yield
    finally:
        builtins.isinstance = original
        for name, function in extremes.items():
            setattr(builtins, name, function)


def _extreme_of_sizes(function: Callable[..., Any]) -> Callable[..., Any]:
    """max or min that is recorded of sizes, and numbers computed from them: comparing these would end the tracing."""

    def answer(*values: Any, **options: Any) -> Any:
        symbols = [value for value in values if type(value) is TruthfulProxy]
        if len(values) < 2 or options or not symbols:
            return function(*values, **options)
        if not all(is_number(value.node if type(value) is TruthfulProxy else value) for value in values):
            return function(*values)
        return symbols[0].tracer.create_proxy("call_function", function, values, {})

    return answer


def _assigning(function: Callable[..., Any], pure: Callable[..., Any]) -> Callable[..., Any]:
    def assign(self: fx.Proxy, other: Any) -> fx.Proxy:
        return self.tracer.create_proxy("call_function", pure if is_number(self.node) else function, (self, other), {})

    return assign


for _function, _pure in PURE_OPERATORS.items():
    setattr(TruthfulProxy, f"__{_function.__name__}__", _assigning(_function, _pure))
