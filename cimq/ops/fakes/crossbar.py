"""Fake kernels of the crossbar products, of their gradients and of what their converters do."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from cimq import _C
from cimq.hardware import Hardware
from cimq.mapping import mapping_facts
from cimq.ops.crossbar_call import (
    CONV2D,
    CONV2D_BACKWARD,
    CONV2D_CONVERSIONS,
    MVM,
    MVM_BACKWARD,
    MVM_CONVERSIONS,
    CrossbarCall,
    CrossbarOperator,
    WantedGradients,
)
from cimq.ops.fakes.register import register_fake
from cimq.ops.fakes.shapes import conv_shape


def _register(operator: CrossbarOperator, fake: Callable[[CrossbarCall], object]) -> None:
    """A forward operator, by a function of the call."""

    def flat(*values: Any, **named: Any) -> object:
        return fake(CrossbarCall(**operator.bound(values, named)))

    register_fake(operator.name)(flat)


def _register_backward(operator: CrossbarOperator) -> None:
    def flat(*values: Any, **named: Any) -> tuple[Tensor, Tensor, Tensor]:
        arguments = operator.bound(values, named)
        grad, wanted = arguments.pop("grad"), WantedGradients(*arguments.pop("wanted", WantedGradients()))
        return _gradients(grad, CrossbarCall(**arguments), wanted)

    register_fake(operator.name)(flat)


def _result_dtype(call: CrossbarCall) -> torch.dtype:
    dtypes = (call.x_q.dtype, call.w_q.dtype)
    if torch.float64 in dtypes:
        return torch.float64
    if any(dtype.is_floating_point for dtype in dtypes):
        return torch.float32
    exact = _gives_integers(call.hardware, call.weight_bits, call.act_bits, call.act_signed)
    return torch.int32 if exact else torch.float32


@lru_cache(maxsize=256)
def _gives_integers(hardware: str, weight_bits: int, act_bits: int, act_signed: bool) -> bool:
    return _C.crossbar_gives_integers(hardware, weight_bits, act_bits, act_signed)


clear_gives_integers = _gives_integers.cache_clear


def _of_chips(call: CrossbarCall, shape: list[int]) -> Tensor:
    stacked = shape if call.chips is None else [call.chips, *shape]
    return call.x_q.new_empty(stacked, dtype=_result_dtype(call))


def _mvm(call: CrossbarCall) -> Tensor:
    x_q, w_q = call.x_q, call.w_q
    if w_q.dim() != 2:
        raise ValueError(f"crossbar_mvm: w_q must be [outputs, inputs], got shape {list(w_q.shape)}")
    if x_q.dim() < 1 or x_q.shape[-1] != w_q.shape[1]:
        raise ValueError(f"crossbar_mvm: x_q {list(x_q.shape)} does not fit w_q {list(w_q.shape)}")
    return _of_chips(call, [*x_q.shape[:-1], w_q.shape[0]])


def _conv2d(call: CrossbarCall) -> Tensor:
    return _of_chips(call, conv_shape(call.x_q, call.w_q, call.stride, call.padding, call.dilation))


def _gradients(grad: Tensor, call: CrossbarCall, wanted: WantedGradients) -> tuple[Tensor, Tensor, Tensor]:
    """dx, dw, dlsb; one that is not wanted is an empty tensor."""
    dtype = torch.float64 if grad.dtype == torch.float64 else torch.float32
    dx = grad.new_empty(call.x_q.shape if wanted.x_q else [0], dtype=dtype)
    dw = grad.new_empty(call.w_q.shape if wanted.w_q else [0], dtype=dtype)
    like = grad if call.adc_lsb is None else call.adc_lsb
    return dx, dw, like.new_empty(like.shape if wanted.adc_lsb else [0])


def _conversions(call: CrossbarCall) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Codes, clipped low and high, lowest and highest current, squared error; all per weight slice."""
    machine = Hardware.from_json(call.hardware)
    codes = mapping_facts(machine).codes
    if codes is None:
        raise ValueError("crossbar conversions: need a converter, but adc.bits of the hardware is None")
    slices = machine.weight_slices(call.weight_bits)
    return (
        call.x_q.new_empty([slices, codes[0]], dtype=torch.int64),
        call.x_q.new_empty([slices, 2], dtype=torch.int64),
        call.x_q.new_empty([slices, 2], dtype=torch.int64),
        call.x_q.new_empty([slices], dtype=torch.float64),
    )


_register(MVM, _mvm)
_register(CONV2D, _conv2d)
_register_backward(MVM_BACKWARD)
_register_backward(CONV2D_BACKWARD)
_register(MVM_CONVERSIONS, _conversions)
_register(CONV2D_CONVERSIONS, _conversions)


@register_fake("programmed_levels")
def _programmed_levels(
    w_q: Tensor,
    hardware: str,
    weight_bits: int,
    seed: int = 0,
    chip: int = 0,
    layer: int = 0,
    first_output: int = 0,
) -> Tensor:
    machine = Hardware.from_json(hardware)
    shape = [machine.weight_slices(weight_bits), mapping_facts(machine).polarities, *w_q.shape]
    return w_q.new_empty(shape, dtype=torch.int32)
