"""Integer products of a layer: by the crossbar operator, or by one exact convolution where that gives the same."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cimq import ops
from cimq.hardware import Hardware
from cimq.mapping import act_range, weight_range
from cimq.ops.devices import has_kernels
from cimq.quantization.exact.operations import affine_of
from cimq.quantization.layers.accesses import count_accesses, first_access

_EXACT_FLOAT32 = 2**24
# Sees a product of the crossbar operators: (x, w, machine, other arguments, result).
Probe = Callable[[Tensor, Tensor, Hardware, dict[str, Any], Tensor], None]


def fold(act_scale: Tensor, weight_scale: Tensor, bias: Tensor | None, norm: nn.Module | None) -> tuple[Tensor, Tensor]:
    """Multiplier and bias of every output: computed in float64, rounded once.

    multiplier[o] = s_x * s_w[o] * gamma[o] / sqrt(var[o] + eps); without a batch normalisation, s_x * s_w[o].

    Returns:
        Two float32 tensors [O].
    """
    multiplier = act_scale.double() * weight_scale.double()
    shift = torch.zeros_like(multiplier) if bias is None else bias.double()
    if norm is not None:
        scale, offset = affine_of(norm)
        multiplier = multiplier * scale
        shift = shift * scale + offset
    return multiplier.float(), shift.float()


def zero_correction(w: Tensor, zero: Tensor, first: int = 1) -> Tensor:
    """z * sum of the integer weights of every output; int32 for integers.

    Args:
        w: Integer weights; the dimensions from `first` on are the inputs of an output.
        zero: The zero point of the input, int32 [].
        first: First dimension of the inputs.
    """
    return w.flatten(first).sum(-1, dtype=None if w.is_floating_point() else torch.int32) * zero


def scaled(Y: Tensor, correction: Tensor | None, multiplier: Tensor, bias: Tensor | None) -> Tensor:
    """(Y + z * sum of w) * multiplier + bias: what a layer makes of its crossbar product, everywhere.

    The sum is one of integers; multiplier and bias are one float32 operation each, rounded once.

    Args:
        Y: The product of the integers.
        correction: See `zero_correction`; None without a zero point. It and the others broadcast against Y.
        multiplier: float32: what the integer 1 is worth.
        bias: float32, or None.
    """
    if correction is not None:
        Y = Y + correction.to(Y.dtype)
    y = Y.float() * multiplier
    return y if bias is None else y + bias


def operand_multiplier(act_scale: Tensor, operand_scale: Tensor, factor: float) -> Tensor:
    """The multiplier of a product of two activations, float32 []: computed in float64, rounded once."""
    return (act_scale.double() * operand_scale.double() * factor).float()


def can_multiply_integers(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    padding: tuple[int, int, int, int],
    limits: tuple[int, int],
    dtype: torch.dtype,
) -> bool:
    """Whether `ops.fake_quantized_conv2d` takes this product of training; otherwise it is one of floats."""
    left, right, top, bottom = padding
    operands = (weight,) if bias is None else (weight, bias)
    return (
        x.device.type == "cpu"  # on others it would not be quicker than their own convolution of floats
        and ops.has_integer_convolutions()
        and x.dim() == 4
        and x.numel() > 0
        and (left, top) == (right, bottom)
        and weight.shape[1] > 1
        and limits[1] > 0
        and x.dtype in (torch.float32, torch.bfloat16)
        and dtype in (torch.float32, torch.bfloat16)
        and all(operand.dtype == torch.float32 for operand in operands)
        and (x.dtype == torch.float32 or torch.is_autocast_enabled("cpu"))
        and weight[0].numel() * (383 if limits[0] < 0 else 255) * 127 < 2**31
    )


def _largest_sum(weight: Tensor, weight_bits: int, act_bits: int, act_signed: bool) -> int:
    low, high = act_range(act_bits, act_signed)
    return weight.shape[1:].numel() * max(-low, high) * weight_range(weight_bits)[1]


def crossbar_options(
    layer: Any, hardware: Hardware, seed: int, adc_lo: Tensor | None, adc_lsb: Tensor | None
) -> dict[str, Any]:
    """What a prepared or a converted layer passes to the products below, beside operands and geometry.

    Args:
        layer: Its bits, sign, number, and its probe if there is one.
        hardware: The machine.
        seed: Of the chip.
        adc_lo: Lowest currents, where the converters' range comes from data.
        adc_lsb: Steps likewise.
    """
    options = {
        "hardware": hardware,
        "weight_bits": layer.weight_bits,
        "act_bits": layer.act_bits,
        "act_signed": bool(layer.act_signed),
        "seed": seed,
        "layer": layer.layer_index,
        "adc_lo": adc_lo,
        "adc_lsb": adc_lsb,
    }
    return options if layer._probe is None else options | {"probe": partial(layer._probe, layer)}


def conv2d_product(
    x: Tensor,
    weight: Tensor,
    *,
    stride: tuple[int, int],
    padding: tuple[int, int, int, int],
    dilation: tuple[int, int],
    groups: int,
    hardware: Hardware,
    weight_bits: int,
    act_bits: int,
    act_signed: bool,
    zero: int = 0,
    probe: Probe | None = None,
    **options: Any,
) -> Tensor:
    """Y of a convolution, as `ops.crossbar_conv2d` defines it: [N, O, OH, OW].

    With a zero point the padding applies the integer -zero, which stands for the number 0. Where the hardware adds
    nothing and float32 holds every sum exactly, a float32 convolution of the integers is that same integer, and far
    quicker; the operator makes sure that the library's is.
    """
    bits: dict[str, Any] = {"weight_bits": weight_bits, "act_bits": act_bits, "act_signed": act_signed}
    if zero != 0:
        x, padding = F.pad(x, padding, value=-zero), (0, 0, 0, 0)
    geometry = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    if (
        probe is None
        and not torch.is_grad_enabled()
        and not torch.compiler.is_compiling()  # which would have to know the order of the images
        and _can_use_float32(x, hardware)
        and (x.device.type != "cpu" or torch.backends.mkldnn.is_available())  # type: ignore[no-untyped-call]
        and _largest_sum(weight, **bits) < _EXACT_FLOAT32
    ):
        y: Tensor = torch.ops.cimq.digital_conv2d(x, weight, **bits, **geometry)
        return y
    return _crossbar(ops.crossbar_conv2d, probe, x, weight, hardware, **geometry, **bits, **options)


def linear_product(
    x: Tensor,
    weight: Tensor,
    *,
    hardware: Hardware,
    weight_bits: int,
    act_bits: int,
    act_signed: bool,
    probe: Probe | None = None,
    **options: Any,
) -> Tensor:
    """Y of a linear layer, as `ops.crossbar_mvm` defines it: [..., O]; see `conv2d_product`."""
    bits: dict[str, Any] = {"weight_bits": weight_bits, "act_bits": act_bits, "act_signed": act_signed}
    rows = x.reshape(-1, x.shape[-1])
    exact = not torch.is_grad_enabled() and _can_use_float32(x, hardware)
    if probe is None and exact and _largest_sum(weight, **bits) < _EXACT_FLOAT32:
        y: Tensor = torch.ops.cimq.digital_matmul(rows, weight, **bits)
    else:
        y = _crossbar(ops.crossbar_mvm, probe, rows, weight, hardware, **bits, **options)
    return y.reshape(*x.shape[:-1], weight.shape[0])


def matmul_product(
    x: Tensor,
    w: Tensor,
    *,
    hardware: Hardware,
    weight_bits: int,
    act_bits: int,
    act_signed: bool,
    probe: Probe | None = None,
    **options: Any,
) -> Tensor:
    """Y of x @ w^T with matrices that are written at run time: x [N, R, I, n], w [N, R, m, n], Y [N, R, I, m].

    Every sample is programmed anew; the R matrices of a sample are the groups of one `ops.crossbar_conv2d`, so that
    their cells differ, and do not depend on what else is in the batch.
    """
    bits: dict[str, Any] = {"weight_bits": weight_bits, "act_bits": act_bits, "act_signed": act_signed}
    if probe is None and not torch.is_grad_enabled() and hardware.lossless:
        largest = _largest_sum(w.flatten(0, 2), **bits)
        if largest >= 2**31:
            raise ValueError(f"sums of up to {largest} do not fit 32 bits")
        y: Tensor = torch.ops.cimq.digital_matmul(x, w, **bits)
        return y
    repeats, rows, inputs = x.shape[1:]
    outputs = w.shape[2]
    if x.shape[0] == 0:
        return x.float() @ w.float().transpose(-1, -2)
    samples = []
    for index, (x_one, w_one) in enumerate(zip(x, w, strict=True)):
        y = _crossbar(
            ops.crossbar_conv2d,
            probe,
            x_one.transpose(1, 2).reshape(1, repeats * inputs, rows, 1),
            w_one.reshape(repeats * outputs, inputs, 1, 1),
            hardware,
            groups=repeats,
            first_access=index * rows,  # read noise is new for every sample
            **bits,
            **options,
        )
        samples.append(y.reshape(repeats, outputs, rows).transpose(1, 2))
    return torch.stack(samples)


def _crossbar(
    operator: Callable[..., Tensor],
    probe: Probe | None,
    x: Tensor,
    weight: Tensor,
    hardware: Hardware,
    **arguments: Any,
) -> Tensor:
    seed, layer = arguments["seed"], arguments["layer"]
    start = first_access(hardware, seed, layer)
    if start is not None:
        arguments["first_access"] = start
    y = operator(x, weight, hardware, **arguments)
    if start is not None:
        count_accesses(seed, layer, y.numel() // weight.shape[0])
    if probe is not None:
        probe(x, weight, hardware, arguments, y)
    return y


def _can_use_float32(x: Tensor, hardware: Hardware) -> bool:
    return hardware.lossless and has_kernels(x.device)
