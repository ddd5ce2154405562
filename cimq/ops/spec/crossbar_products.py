"""The crossbar products as plain loops: from the codes of the converters to the integers of a product.

Reads best from `crossbar_matmul` down.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from cimq.hardware import Hardware
from cimq.ops.spec.conversions import conversions, converters
from cimq.ops.spec.mapping_rules import LEVEL_UNIT, IntArray, input_digits, tile_inputs, weight_levels


def crossbar_matmul(
    x_q: IntArray,
    w_q: IntArray,
    hardware: Hardware,
    *,
    weight_bits: int,
    act_bits: int,
    act_signed: bool,
    seed: int = 0,
    chip: int = 0,
    layer: int = 0,
    first_output: int = 0,
    adc_lo: Tensor | None = None,
    adc_lsb: Tensor | None = None,
    first_access: int = 0,
) -> npt.NDArray[Any]:
    """One chip's result for one matrix.

    Args:
        x_q: Activations [B, n].
        w_q: Weights [m, n].
        hardware: Machine.
        weight_bits: Bits of a weight.
        act_bits: Bits of an activation.
        act_signed: Activations are two's complement.
        seed: Seed of the variation.
        chip: Number of the chip.
        layer: Number of the layer.
        first_output: Number of the first row of `w_q` within its layer.
        adc_lo: See `converters`; columns are the outputs of the layer, this matrix has those from `first_output` on.
        adc_lsb: Likewise.
        first_access: Number of the first row's access, for read noise.

    Returns:
        [B, m], int64 where every converter step is one level, else float32.
    """
    _, slice_weights = weight_levels(w_q[:1], hardware, weight_bits)
    _, digit_weights, shift = input_digits(x_q[:1], hardware, act_bits, act_signed)
    unit = LEVEL_UNIT if hardware.fractional else 1
    of_layer = converters(hardware, len(slice_weights), adc_lo, adc_lsb, unit)
    exact = of_layer is None or all(np.all((adc.lsb == 1.0) & (adc.lo == 0)) for adc in of_layer)
    adcs = None if of_layer is None else [adc.of_outputs(first_output, w_q.shape[0]) for adc in of_layer]
    tiles = math.ceil(w_q.shape[1] / tile_inputs(hardware))
    slice_sums = [np.zeros((x_q.shape[0], w_q.shape[0]), np.int64) for _ in slice_weights]
    for seen in conversions(
        x_q, w_q, hardware, weight_bits=weight_bits, act_bits=act_bits, act_signed=act_signed, seed=seed, chip=chip,
        layer=layer, first_output=first_output, first_access=first_access,
    ):  # fmt: skip
        codes = [column if adcs is None else adcs[seen.weight_slice].codes(column) for column in seen.columns]
        code = codes[0] - codes[1] if len(codes) == 2 else codes[0]
        slice_sums[seen.weight_slice] += digit_weights[seen.digit] * code

    # What was added to the operands comes off again, digitally: the input's shift times the weights, and the offset
    # mapping's shift times the input as it was applied (the reference column).
    correction = -shift * w_q.sum(axis=1)[None, :] * np.ones((x_q.shape[0], 1), np.int64)
    if hardware.mapping == "offset":
        correction = correction - 2 ** (weight_bits - 1) * (x_q + shift).sum(axis=1)[:, None]

    result: npt.NDArray[Any]
    if exact and not hardware.fractional:
        result = correction
        for worth, total in zip(slice_weights, slice_sums, strict=True):
            result = result + worth * total
        return result
    result = np.zeros((x_q.shape[0], w_q.shape[0]), np.float32)
    for s, total in enumerate(slice_sums):
        lsb = adcs[s].lsb if adcs is not None else 1.0 / unit
        result = result + total.astype(np.float32) * np.asarray(slice_weights[s] * lsb).astype(np.float32)
    if hardware.mapping == "offset" and adcs is not None:
        constant = sum(np.asarray(worth * adc.lo) for worth, adc in zip(slice_weights, adcs, strict=True))
        result = result + np.asarray(constant * tiles * sum(digit_weights)).astype(np.float32)
    result = result + correction.astype(np.float32)
    return result


def crossbar_mvm(
    x_q: Tensor,
    w_q: Tensor,
    hardware: Hardware,
    *,
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
) -> Tensor:
    """`cimq.ops.crossbar_mvm` as plain loops, with gradients by autograd of the digital product."""
    if w_q.dim() != 2 or x_q.dim() < 1 or x_q.shape[-1] != w_q.shape[1]:
        raise ValueError(f"crossbar_mvm: needs x_q [..., n] and w_q [m, n], got {list(x_q.shape)}, {list(w_q.shape)}")
    x = activations_of("crossbar_mvm", x_q, act_bits, act_signed).reshape(-1, w_q.shape[1])
    w = weights_of("crossbar_mvm", w_q, weight_bits)
    _check_columns("crossbar_mvm", adc_lsb, len(w))
    results = [
        crossbar_matmul(
            x, w, hardware, weight_bits=weight_bits, act_bits=act_bits, act_signed=act_signed, seed=seed, chip=chip,
            layer=layer, adc_lo=adc_lo, adc_lsb=adc_lsb, first_access=first_access,
        )
        for chip in range(chips or 1)
    ]  # fmt: skip
    y = _as_tensor(np.stack(results), hardware, x_q, w_q).reshape(chips or 1, *x_q.shape[:-1], w_q.shape[0])
    y = y if chips is not None else y[0]
    if not _wants_gradient("crossbar_mvm", x_q, w_q, adc_lsb, adc_grad):
        return y
    digital = torch.nn.functional.linear(x_q.to(y.dtype), w_q.to(y.dtype))
    return y + (digital - digital.detach())


def crossbar_conv2d(
    x_q: Tensor,
    w_q: Tensor,
    hardware: Hardware,
    *,
    weight_bits: int,
    act_bits: int,
    act_signed: bool = False,
    stride: tuple[int, int] = (1, 1),
    padding: tuple[int, int, int, int] = (0, 0, 0, 0),
    dilation: tuple[int, int] = (1, 1),
    groups: int = 1,
    chips: int | None = None,
    seed: int = 0,
    layer: int = 0,
    adc_lo: Tensor | None = None,
    adc_lsb: Tensor | None = None,
    first_access: int = 0,
    adc_grad: str = "identity",
) -> Tensor:
    """`cimq.ops.crossbar_conv2d` as patches and one matrix per group; padding is (left, right, top, bottom)."""
    if x_q.dim() != 4 or w_q.dim() != 4 or x_q.shape[1] != groups * w_q.shape[1]:
        raise ValueError(
            f"crossbar_conv2d: needs x_q [N, C, H, W] and w_q [O, C/groups, kh, kw] with groups={groups}, "
            f"got {list(x_q.shape)}, {list(w_q.shape)}"
        )
    padded = torch.nn.functional.pad(x_q, padding)
    patches, out_h, out_w = patches_of(padded, (w_q.shape[2], w_q.shape[3]), stride, dilation)
    x = activations_of("crossbar_conv2d", patches, act_bits, act_signed)  # [N * out_h * out_w, C, kh * kw]
    w = weights_of("crossbar_conv2d", w_q, weight_bits).reshape(w_q.shape[0], -1)
    _check_columns("crossbar_conv2d", adc_lsb, len(w))
    outputs, channels = w_q.shape[0] // groups, x_q.shape[1] // groups
    results = []
    for chip in range(chips or 1):
        of_groups = [
            crossbar_matmul(
                x[:, group * channels : (group + 1) * channels].reshape(x.shape[0], w.shape[1]),
                w[group * outputs : (group + 1) * outputs],
                hardware, weight_bits=weight_bits, act_bits=act_bits, act_signed=act_signed, seed=seed, chip=chip,
                layer=layer, first_output=group * outputs, adc_lo=adc_lo, adc_lsb=adc_lsb,
                first_access=first_access,
            )
            for group in range(groups)
        ]  # fmt: skip
        results.append(np.concatenate(of_groups, axis=1))
    y = _as_tensor(np.stack(results), hardware, x_q, w_q)
    y = y.reshape(chips or 1, x_q.shape[0], out_h, out_w, w_q.shape[0]).permute(0, 1, 4, 2, 3).contiguous()
    y = y if chips is not None else y[0]
    if not _wants_gradient("crossbar_conv2d", x_q, w_q, adc_lsb, adc_grad):
        return y
    digital = torch.nn.functional.conv2d(
        padded.to(y.dtype), w_q.to(y.dtype), stride=stride, dilation=dilation, groups=groups
    )
    return y + (digital - digital.detach())


def _check_columns(op: str, adc_lsb: Tensor | None, outputs: int) -> None:
    """Refuses ranges per column of another number of outputs."""
    if adc_lsb is not None and adc_lsb.dim() == 2 and adc_lsb.shape[1] != outputs:
        raise ValueError(
            f"{op}: adc_lo and adc_lsb per column must be [slices, {outputs}], got shape {list(adc_lsb.shape)}"
        )


def _wants_gradient(op: str, x_q: Tensor, w_q: Tensor, adc_lsb: Tensor | None, adc_grad: str) -> bool:
    """Whether autograd is to follow; refuses the gradients that the specification of the forward does not have."""
    if adc_grad not in ("identity", "clip"):
        raise ValueError(f"{op}: adc_grad must be identity or clip, got {adc_grad}")
    operands = x_q.requires_grad or w_q.requires_grad
    step = adc_lsb is not None and adc_lsb.requires_grad
    if torch.is_grad_enabled() and (step or (operands and adc_grad == "clip")):
        raise NotImplementedError(
            f"{op}: backend reference has the gradients of adc_grad identity for x_q and w_q alone; use backend auto"
        )
    return operands


def patches_of(
    padded: Tensor, kernel: tuple[int, int], stride: tuple[int, int], dilation: tuple[int, int]
) -> tuple[Tensor, int, int]:
    """Patches [N * out_h * out_w, C, kh * kw] of an image that is padded already, and the size of the output."""
    out_h, out_w = ((padded.shape[2 + i] - dilation[i] * (kernel[i] - 1) - 1) // stride[i] + 1 for i in range(2))
    taps = [
        padded[
            :,
            :,
            row * dilation[0] : row * dilation[0] + (out_h - 1) * stride[0] + 1 : stride[0],
            column * dilation[1] : column * dilation[1] + (out_w - 1) * stride[1] + 1 : stride[1],
        ]
        for row in range(kernel[0])
        for column in range(kernel[1])
    ]
    stacked = torch.stack(taps, dim=-1)  # [N, C, out_h, out_w, kh * kw]
    return stacked.permute(0, 2, 3, 1, 4).reshape(-1, padded.shape[1], len(taps)), out_h, out_w


def activations_of(op: str, x_q: Tensor, act_bits: int, act_signed: bool) -> IntArray:
    """The activations as int64, refused where they do not fit `act_bits`."""
    top = 2 ** (act_bits - 1) if act_signed else 2**act_bits
    return _integers(op, "x_q", x_q, -top if act_signed else 0, top - 1)


def weights_of(op: str, w_q: Tensor, weight_bits: int) -> IntArray:
    """The weights as int64, refused where they do not fit the narrow range of `weight_bits`."""
    top = max(1, 2 ** (weight_bits - 1) - 1)
    weights = _integers(op, "w_q", w_q, -top, top)
    if weight_bits == 1 and not weights.all():
        raise ValueError(f"{op}: w_q of one bit must be -1 or 1, got 0")
    return weights


def _integers(op: str, name: str, tensor: Tensor, lowest: int, highest: int) -> IntArray:
    values = tensor.detach().double()
    nearest = torch.round(values)
    fine = ((values - nearest).abs() <= 2**-10) & (nearest >= lowest) & (nearest <= highest)
    if not fine.all():
        raise ValueError(
            f"{op}: {name} must hold integers in {lowest}..{highest}, got {values[~fine].flatten()[0].item()}"
        )
    integers: IntArray = nearest.to(torch.int64).numpy()
    return integers


def _as_tensor(result: npt.NDArray[Any], hardware: Hardware, x_q: Tensor, w_q: Tensor) -> Tensor:
    given_ranges = hardware.adc.bits is not None and hardware.adc.range in ("calibrated", "learned")
    if torch.float64 in (x_q.dtype, w_q.dtype):
        dtype = torch.float64
    elif x_q.is_floating_point() or w_q.is_floating_point() or given_ranges or result.dtype == np.float32:
        dtype = torch.float32
    else:
        dtype = torch.int32
    return torch.from_numpy(result).to(dtype)
