"""Shapes and types of every operator without its values: what torch.compile and export see.

These are the readable contracts of the operators; checks of values (ranges, NaN) happen in the kernels alone.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import TypeVar

import torch
from torch import Tensor

from cimq import _C
from cimq.hardware import Hardware
from cimq.mapping import mapping_facts
from cimq.torch_tools.private_names import suggest_memory_format

_Fake = TypeVar("_Fake", bound=Callable[..., object])


def _register(name: str) -> Callable[[_Fake], _Fake]:
    def register(fake: _Fake) -> _Fake:
        torch.library.register_fake(f"cimq::{name}", fake)
        return fake

    return register


_is_dense = torch.ops.aten.is_non_overlapping_and_dense


def _result_like(x: Tensor, per_tensor: bool, dtype: torch.dtype, by_first_axis: bool = False) -> Tensor:
    """Dense layouts are kept with one scale, or where channels lie one after another; others become row-major."""
    source = x if x.dtype in (torch.float32, torch.float64) else torch.empty_like(x, dtype=torch.float32)
    if by_first_axis:
        if x.dtype in (torch.bfloat16, torch.float16):
            source = x  # whose gaps are not closed here
        kept = _is_dense(source) and source.stride(0) * source.shape[0] == source.numel()
    else:
        kept = per_tensor and _is_dense(source)
    return torch.empty_like(
        source, dtype=dtype, memory_format=torch.preserve_format if kept else torch.contiguous_format
    )


@_register("fake_quantize")
def _fake_quantize(
    x: Tensor,
    scale: Tensor,
    qmin: int,
    qmax: int,
    axis: int | None = None,
    grad_scale: float | None = None,
    binary: bool = False,
) -> Tensor:
    return _result_like(x, axis is None, x.dtype, axis in (0, -x.dim()))


@_register("fake_quantize_backward")
def _fake_quantize_backward(
    grad: Tensor,
    x: Tensor,
    scale: Tensor,
    qmin: int,
    qmax: int,
    axis: int | None = None,
    grad_scale: float | None = None,
    binary: bool = False,
) -> tuple[Tensor, Tensor]:
    return _result_like(x, axis is None, x.dtype, axis in (0, -x.dim())), scale.new_empty(scale.shape)


@_register("quantize")
def _quantize(x: Tensor, scale: Tensor, qmin: int, qmax: int, axis: int | None = None, binary: bool = False) -> Tensor:
    return _result_like(x, axis is None, torch.uint8 if qmin >= 0 else torch.int8)


def _result_dtype(
    x_q: Tensor, w_q: Tensor, hardware: str, weight_bits: int, act_bits: int, signed: bool
) -> torch.dtype:
    if torch.float64 in (x_q.dtype, w_q.dtype):
        return torch.float64
    if x_q.dtype.is_floating_point or w_q.dtype.is_floating_point:
        return torch.float32
    return torch.int32 if _gives_integers(hardware, weight_bits, act_bits, signed) else torch.float32


@lru_cache(maxsize=256)
def _gives_integers(hardware: str, weight_bits: int, act_bits: int, act_signed: bool) -> bool:
    return _C.crossbar_gives_integers(hardware, weight_bits, act_bits, act_signed)


clear_gives_integers = _gives_integers.cache_clear


@_register("crossbar_mvm")
def _crossbar_mvm(
    x_q: Tensor,
    w_q: Tensor,
    hardware: str,
    weight_bits: int,
    act_bits: int,
    act_signed: bool = False,
    chips: int | None = None,
    seed: int = 0,
    layer: int = 0,
    adc_lo: Tensor | None = None,
    adc_lsb: Tensor | None = None,
    backend: str = "auto",
    first_access: int = 0,
    adc_grad: str = "identity",
) -> Tensor:
    if w_q.dim() != 2:
        raise ValueError(f"crossbar_mvm: w_q must be [outputs, inputs], got shape {list(w_q.shape)}")
    if x_q.dim() < 1 or x_q.shape[-1] != w_q.shape[1]:
        raise ValueError(f"crossbar_mvm: x_q {list(x_q.shape)} does not fit w_q {list(w_q.shape)}")
    shape = [*([] if chips is None else [chips]), *x_q.shape[:-1], w_q.shape[0]]
    return x_q.new_empty(shape, dtype=_result_dtype(x_q, w_q, hardware, weight_bits, act_bits, act_signed))


def _conv_shape(x: Tensor, w: Tensor, stride: list[int], padding: list[int], dilation: list[int]) -> list[int]:
    sums = (padding[2] + padding[3], padding[0] + padding[1])
    size = [(x.shape[2 + i] + sums[i] - dilation[i] * (w.shape[2 + i] - 1) - 1) // stride[i] + 1 for i in range(2)]
    return [x.shape[0], w.shape[0], *size]


@_register("crossbar_conv2d")
def _crossbar_conv2d(
    x_q: Tensor,
    w_q: Tensor,
    hardware: str,
    weight_bits: int,
    act_bits: int,
    act_signed: bool = False,
    stride: list[int] = [1, 1],  # noqa: B006  the schema's default
    padding: list[int] = [0, 0, 0, 0],  # noqa: B006
    dilation: list[int] = [1, 1],  # noqa: B006
    groups: int = 1,
    chips: int | None = None,
    seed: int = 0,
    layer: int = 0,
    adc_lo: Tensor | None = None,
    adc_lsb: Tensor | None = None,
    backend: str = "auto",
    first_access: int = 0,
    adc_grad: str = "identity",
) -> Tensor:
    shape = [*([] if chips is None else [chips]), *_conv_shape(x_q, w_q, stride, padding, dilation)]
    return x_q.new_empty(shape, dtype=_result_dtype(x_q, w_q, hardware, weight_bits, act_bits, act_signed))


def _gradients(
    grad: Tensor, x_q: Tensor, w_q: Tensor, adc_lsb: Tensor | None, wanted: list[bool]
) -> tuple[Tensor, Tensor, Tensor]:
    """dx, dw, dlsb; one that is not wanted is an empty tensor."""
    dtype = torch.float64 if grad.dtype == torch.float64 else torch.float32
    dx = grad.new_empty(x_q.shape if wanted[0] else [0], dtype=dtype)
    dw = grad.new_empty(w_q.shape if wanted[1] else [0], dtype=dtype)
    like = grad if adc_lsb is None else adc_lsb
    return dx, dw, like.new_empty(like.shape if wanted[2] else [0])


@_register("crossbar_mvm_backward")
def _crossbar_mvm_backward(
    grad: Tensor,
    x_q: Tensor,
    w_q: Tensor,
    hardware: str,
    weight_bits: int,
    act_bits: int,
    act_signed: bool = False,
    chips: int | None = None,
    seed: int = 0,
    layer: int = 0,
    adc_lo: Tensor | None = None,
    adc_lsb: Tensor | None = None,
    first_access: int = 0,
    adc_grad: str = "identity",
    wanted: list[bool] = [True, True, True],  # noqa: B006  the schema's default
) -> tuple[Tensor, Tensor, Tensor]:
    return _gradients(grad, x_q, w_q, adc_lsb, wanted)


@_register("crossbar_conv2d_backward")
def _crossbar_conv2d_backward(
    grad: Tensor,
    x_q: Tensor,
    w_q: Tensor,
    hardware: str,
    weight_bits: int,
    act_bits: int,
    act_signed: bool = False,
    stride: list[int] = [1, 1],  # noqa: B006  the schema's default
    padding: list[int] = [0, 0, 0, 0],  # noqa: B006
    dilation: list[int] = [1, 1],  # noqa: B006
    groups: int = 1,
    chips: int | None = None,
    seed: int = 0,
    layer: int = 0,
    adc_lo: Tensor | None = None,
    adc_lsb: Tensor | None = None,
    first_access: int = 0,
    adc_grad: str = "identity",
    wanted: list[bool] = [True, True, True],  # noqa: B006
) -> tuple[Tensor, Tensor, Tensor]:
    return _gradients(grad, x_q, w_q, adc_lsb, wanted)


@_register("fake_quantized_conv2d")
def _fake_quantized_conv2d(
    x: Tensor,
    scale: Tensor,
    qmin: int,
    qmax: int,
    w: Tensor,
    w_scale: Tensor,
    bias: Tensor | None,
    stride: list[int],
    padding: list[int],
    dilation: list[int],
    groups: int,
    grad_scale: float,
    dtype: torch.dtype | None = None,
    memory_format: torch.memory_format | None = None,
) -> Tensor:
    shape = _conv_shape(x, w, stride, padding, dilation)
    last = torch.channels_last in (suggest_memory_format(x), suggest_memory_format(w))
    layout = memory_format or (torch.channels_last if last else torch.contiguous_format)
    return torch.empty(shape, dtype=x.dtype if dtype is None else dtype, device=x.device, memory_format=layout)


@_register("fake_quantized_conv2d_backward")
def _fake_quantized_conv2d_backward(
    grad: Tensor,
    x: Tensor,
    scale: Tensor,
    qmin: int,
    qmax: int,
    w: Tensor,
    w_scale: Tensor,
    stride: list[int],
    padding: list[int],
    dilation: list[int],
    groups: int,
    grad_scale: float,
    input: bool,
    bias: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    if input:
        dx = torch.empty(x.shape, dtype=x.dtype, device=x.device, memory_format=suggest_memory_format(x))
    else:
        dx = x.new_empty([0])
    return dx, torch.empty_like(scale), torch.empty_like(w), w.new_empty([w.shape[0] if bias else 0])


def _conversions(x_q: Tensor, hardware: str, weight_bits: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Codes, clipped low and high, lowest and highest current, squared error; all per weight slice."""
    machine = Hardware.from_json(hardware)
    codes = mapping_facts(machine).codes
    if codes is None:
        raise ValueError("crossbar conversions: need a converter, but adc.bits of the hardware is None")
    slices = machine.weight_slices(weight_bits)
    return (
        x_q.new_empty([slices, codes[0]], dtype=torch.int64),
        x_q.new_empty([slices, 2], dtype=torch.int64),
        x_q.new_empty([slices, 2], dtype=torch.int64),
        x_q.new_empty([slices], dtype=torch.float64),
    )


@_register("crossbar_mvm_conversions")
def _crossbar_mvm_conversions(
    x_q: Tensor,
    w_q: Tensor,
    hardware: str,
    weight_bits: int,
    act_bits: int,
    act_signed: bool = False,
    chips: int | None = None,
    seed: int = 0,
    layer: int = 0,
    adc_lo: Tensor | None = None,
    adc_lsb: Tensor | None = None,
    first_access: int = 0,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return _conversions(x_q, hardware, weight_bits)


@_register("crossbar_conv2d_conversions")
def _crossbar_conv2d_conversions(
    x_q: Tensor,
    w_q: Tensor,
    hardware: str,
    weight_bits: int,
    act_bits: int,
    act_signed: bool = False,
    stride: list[int] = [1, 1],  # noqa: B006  the schema's default
    padding: list[int] = [0, 0, 0, 0],  # noqa: B006
    dilation: list[int] = [1, 1],  # noqa: B006
    groups: int = 1,
    chips: int | None = None,
    seed: int = 0,
    layer: int = 0,
    adc_lo: Tensor | None = None,
    adc_lsb: Tensor | None = None,
    first_access: int = 0,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return _conversions(x_q, hardware, weight_bits)


@_register("digital_conv2d")
def _digital_conv2d(
    x: Tensor,
    w: Tensor,
    weight_bits: int,
    act_bits: int,
    act_signed: bool,
    stride: list[int],
    padding: list[int],
    dilation: list[int],
    groups: int,
) -> Tensor:
    shape = _conv_shape(x, w, stride, padding, dilation)
    return torch.empty(shape, dtype=torch.float32, device=x.device, memory_format=suggest_memory_format(x))


@_register("digital_matmul")
def _digital_matmul(x: Tensor, w: Tensor, weight_bits: int, act_bits: int, act_signed: bool) -> Tensor:
    low, high = (-(2 ** (act_bits - 1)), 2 ** (act_bits - 1) - 1) if act_signed else (0, 2**act_bits - 1)
    largest = max(-low, high) * max(1, 2 ** (weight_bits - 1) - 1)
    dtype = torch.float32 if x.shape[-1] <= 2**24 // largest else torch.int32
    return x.new_empty([*x.shape[:-1], w.shape[-2]], dtype=dtype)


@_register("avg_pool2d")
def _avg_pool2d(
    x: Tensor,
    kernel_size: list[int],
    stride: list[int],
    padding: list[int],
    count_include_pad: bool = True,
    ceil_mode: bool = False,
    divisor_override: int | None = None,
) -> Tensor:
    size = []
    for i in range(2):
        count = (x.shape[2 + i] + 2 * padding[i] - kernel_size[i] + (stride[i] - 1 if ceil_mode else 0)) // stride[
            i
        ] + 1
        # The last window must start inside the image or its left padding.
        size.append(count - 1 if ceil_mode and (count - 1) * stride[i] >= x.shape[2 + i] + padding[i] else count)
    return x.new_empty([x.shape[0], x.shape[1], *size])


@_register("adaptive_avg_pool2d")
def _adaptive_avg_pool2d(x: Tensor, output_size: list[int]) -> Tensor:
    return x.new_empty([x.shape[0], x.shape[1], *output_size])


@_register("resize2d")
def _resize2d(x: Tensor, size: list[int], step: list[float], mode: str, align_corners: bool = False) -> Tensor:
    return x.new_empty([x.shape[0], x.shape[1], *size])


@_register("mean")
def _mean(x: Tensor, dim: list[int], keepdim: bool = False) -> Tensor:
    reduced = {d % x.dim() for d in dim}
    kept = [1 if i in reduced else size for i, size in enumerate(x.shape) if keepdim or i not in reduced]
    return x.new_empty(kept)


@_register("activation")
def _activation(x: Tensor, kind: str, alpha: float = 1.0) -> Tensor:
    return x.new_empty(x.shape)


@_register("softmax")
def _softmax(x: Tensor, dim: int, logarithm: bool = False) -> Tensor:
    return x.new_empty(x.shape)


@_register("layer_norm")
def _layer_norm(
    x: Tensor,
    normalized_shape: list[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    return x.new_empty(x.shape)


@_register("group_norm")
def _group_norm(
    x: Tensor, groups: int, weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5
) -> Tensor:
    return x.new_empty(x.shape)


@_register("linear_f32")
def _linear_f32(x: Tensor, w: Tensor, bias: Tensor | None = None) -> Tensor:
    return x.new_empty([*x.shape[:-1], w.shape[0]])


@_register("conv2d_f32")
def _conv2d_f32(
    x: Tensor,
    w: Tensor,
    bias: Tensor | None = None,
    stride: list[int] = [1, 1],  # noqa: B006  the schema's default
    padding: list[int] = [0, 0, 0, 0],  # noqa: B006
    dilation: list[int] = [1, 1],  # noqa: B006
    groups: int = 1,
) -> Tensor:
    return x.new_empty(_conv_shape(x, w, stride, padding, dilation))


@_register("programmed_levels")
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
    polarities = 1 if machine.mapping == "offset" else 2
    return w_q.new_empty([machine.weight_slices(weight_bits), polarities, *w_q.shape], dtype=torch.int32)
