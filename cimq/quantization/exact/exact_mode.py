"""Evaluation with the numbers of the converted model.

A prepared model in evaluation computes what `convert` builds and the executor runs, bit for bit. Quantised layers do
this themselves; batch normalisation, pooling and layers left in fp32 are ordinary PyTorch calls, whose order of
additions is not defined. While the root of a prepared model runs in evaluation, a `TorchFunctionMode` answers these
calls with the defined operations. Training is not touched.
"""

from __future__ import annotations

import contextlib
import numbers
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from cimq.quantization.exact import windows
from cimq.quantization.exact.functions import FUNCTIONS
from cimq.quantization.exact.functions import is_plain as _plain
from cimq.quantization.exact.hooks import warn_of_hooks
from cimq.quantization.exact.operations import affine, conv2d_args, conv2d_f32, divided, linear_f32, norm_affine
from cimq.torch_tools.private_names import AnyBatchNorm, remove_hooks


class _State(threading.local):
    suspended = 0

    def __init__(self) -> None:
        self.stack: list[ExactEval] = []


_state = _State()


@contextlib.contextmanager
def suspended() -> Iterator[None]:
    """Prepared models run with PyTorch's own operations (calibration, tracing of shapes)."""
    _state.suspended += 1
    try:
        yield
    finally:
        _state.suspended -= 1


def is_defined(target: Any) -> bool:
    """Whether evaluation has its own bits for a function, or for a method of a tensor by this name."""
    return (getattr(Tensor, target, None) if isinstance(target, str) else target) in _HANDLERS


@contextlib.contextmanager
def defined_operations() -> Iterator[None]:
    """Calls are answered as in the evaluation of a prepared model, without one."""
    with ExactEval(nn.Module()):
        yield


def folded_norm(layer: nn.Module) -> nn.Module | None:
    """The batch normalisation that `layer` computes in its multiplier in the evaluation that is running."""
    return _state.stack[-1].norms.get(id(layer)) if _state.stack else None


def keep_apart(layer: nn.Module) -> None:
    """In the evaluation that is running, `layer` does not compute the batch normalisation that follows it."""
    norm = _state.stack[-1].norms.pop(id(layer), None) if _state.stack else None
    if norm is not None:
        _state.stack[-1].folded_means.discard(id(norm.running_mean))


def attach(root: nn.Module, pairs: Sequence[tuple[str, str]]) -> None:
    """Makes `root` evaluate exactly; `pairs` are names of (quantised layer, batch normalisation that follows it)."""
    detach(root)
    root._cimq_folded = tuple(pairs)  # type: ignore[assignment]
    root._cimq_hooks = (  # type: ignore[assignment]
        root.register_forward_pre_hook(_enter, prepend=True).id,
        root.register_forward_hook(_leave, always_call=True).id,
    )


def detach(root: nn.Module) -> None:
    """Takes back `attach`."""
    before, after = root.__dict__.pop("_cimq_hooks", (None, None))
    if before is not None:
        remove_hooks(root, before, after)
        root.__dict__.pop("_cimq_folded")


def folded_pairs(root: nn.Module) -> tuple[tuple[str, str], ...] | None:
    """The pairs given to `attach`, None if it was not called on this module."""
    return root.__dict__.get("_cimq_folded")


class ExactEval(TorchFunctionMode):
    """Answers calls whose result PyTorch does not define to the bit."""

    def __init__(self, root: nn.Module) -> None:
        super().__init__()
        self.root_id = id(root)
        self.with_gradient = False
        self.norms: dict[int, nn.Module] = {}
        self.folded_means: set[int] = set()
        for layer_name, norm_name in folded_pairs(root) or ():
            # By name at every run: whoever replaces a module (SyncBatchNorm) must not be answered with the old one.
            norm = root.get_submodule(norm_name)
            if isinstance(norm, AnyBatchNorm) and not norm.training:
                layer = root.get_submodule(layer_name)
                warn_of_hooks(layer, layer_name, norm, norm_name)
                self.norms[id(layer)] = norm
                self.folded_means.add(id(norm.running_mean))

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        handler = _HANDLERS.get(func) or _QUOTIENTS.get(func)
        if handler is not None:
            self.with_gradient = torch.is_grad_enabled()
            with torch.no_grad():
                result = handler(self, *args, **kwargs)
            if result is _PASS:
                return args[0] if args else kwargs["input"]
            if result is not NotImplemented:
                return with_gradient_of(result, func, *args, **kwargs) if torch.is_grad_enabled() else result
        return func(*args, **kwargs)


def _enter(module: nn.Module, args: Any) -> None:
    if module.training or _state.suspended or torch.compiler.is_compiling():
        return
    mode = ExactEval(module)
    mode.__enter__()  # type: ignore[no-untyped-call]
    _state.stack.append(mode)


def _leave(module: nn.Module, args: Any, output: Any) -> None:
    if _state.stack and _state.stack[-1].root_id == id(module):
        _state.stack.pop().__exit__(None, None, None)  # type: ignore[no-untyped-call]


class _ReplaceValue(torch.autograd.Function):
    """Value and type of one tensor, gradient of another."""

    @staticmethod
    def forward(ctx: Any, differentiable: Tensor, value: Tensor) -> Tensor:
        ctx.dtype = differentiable.dtype
        return value.clone()

    @staticmethod
    def backward(ctx: Any, *grad: Any) -> Any:
        return grad[0].to(ctx.dtype), None


def with_gradient_of(value: Tensor, func: Callable[..., Tensor], *args: Any, **kwargs: Any) -> Tensor:
    """`value`, with the gradient of `func(*args)` if that has one (evaluation without `torch.no_grad`)."""
    differentiable = func(*args, **kwargs)
    if not differentiable.requires_grad:
        return value
    result: Tensor = _ReplaceValue.apply(differentiable, value)  # type: ignore[no-untyped-call]
    return result


_PASS = object()  # a handler's answer: the input itself


def _batch_norm(
    mode: ExactEval,
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Any:
    if training or running_mean is None or running_var is None:
        return NotImplemented
    if id(running_mean) in mode.folded_means:
        return _PASS
    return affine(input, *norm_affine(running_mean, running_var, weight, bias, eps))


def _conv2d(
    mode: ExactEval,
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Any:
    if not _plain(input) or not _plain(weight) or input.dim() != 4:
        return NotImplemented
    stride, sides, dilation = conv2d_args(weight.shape[-2:], stride, padding, dilation)
    return conv2d_f32(input, weight, bias, stride, sides, dilation, groups)


def _linear(mode: ExactEval, input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Any:
    if not _plain(input) or not _plain(weight) or weight.dim() != 2:
        return NotImplemented
    return linear_f32(input, weight, bias)


def _quotient(inplace: bool) -> Callable[..., Any]:
    def handler(mode: ExactEval, input: Any, other: Any = None, *, rounding_mode: Any = None) -> Any:
        if rounding_mode is not None or not _plain(input) or input.device.type == "cpu":
            return NotImplemented
        if not isinstance(other, numbers.Real) and not _is_number_on_the_cpu(input, other):
            return NotImplemented
        y = divided(input, float(other))
        # With a gradient, PyTorch's own function overwrites the input afterwards.
        return input.copy_(y) if inplace and not mode.with_gradient else y

    return handler


def _is_number_on_the_cpu(input: Tensor, other: Any) -> bool:
    """A tensor that PyTorch takes as a number beside one on a device, and divides by in the same way."""
    if not isinstance(other, Tensor) or other.dim() > 0 or other.device.type != "cpu":
        return False
    return torch.result_type(input, other) == input.dtype


# By numbers, on other devices than the CPU: there PyTorch's bits are those of the definition.
_QUOTIENTS: dict[Any, Callable[..., Any]] = {
    **dict.fromkeys((torch.div, torch.divide, torch.true_divide), _quotient(False)),
    **dict.fromkeys((Tensor.div, Tensor.divide, Tensor.true_divide, Tensor.__truediv__), _quotient(False)),
    **dict.fromkeys((Tensor.div_, Tensor.divide_, Tensor.true_divide_, Tensor.__itruediv__), _quotient(True)),
}

_HANDLERS: dict[Any, Callable[..., Any]] = {
    F.batch_norm: _batch_norm,
    **windows.HANDLERS,
    F.conv2d: _conv2d,
    F.linear: _linear,
    **FUNCTIONS,
}
