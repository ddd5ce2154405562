"""The crossbar products as plain loops: from the codes of the converters to the integers of a product.

Reads best from `crossbar_matmul` down.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from cimq.hardware import Hardware
from cimq.ops.crossbar_call import CrossbarCall
from cimq.ops.spec.conversions import conversions, converters
from cimq.ops.spec.mapping_rules import LEVEL_UNIT, IntArray, input_digits, tile_inputs, weight_levels


def crossbar_matmul(
    x_q: IntArray, w_q: IntArray, hardware: Hardware, call: CrossbarCall, *, chip: int = 0, first_output: int = 0
) -> npt.NDArray[Any]:
    """One chip's result for one matrix.

    Args:
        x_q: Activations [B, n].
        w_q: Weights [m, n].
        hardware: Machine.
        call: Widths, seeds and converters. Ranges per column have the outputs of the whole layer, this matrix has those
            from `first_output` on.
        chip: Number of the chip.
        first_output: Number of the first row of `w_q` within its layer.

    Returns:
        [B, m], int64 where every converter step is one level, else float32.
    """
    _, slice_weights = weight_levels(w_q[:1], hardware, call.weight_bits)
    _, digit_weights, shift = input_digits(x_q[:1], hardware, call.act_bits, call.act_signed)
    unit = LEVEL_UNIT if hardware.fractional else 1
    of_layer = converters(hardware, len(slice_weights), call.adc_lo, call.adc_lsb, unit)
    exact = of_layer is None or all(np.all((adc.lsb == 1.0) & (adc.lo == 0)) for adc in of_layer)
    adcs = None if of_layer is None else [adc.of_outputs(first_output, w_q.shape[0]) for adc in of_layer]
    tiles = math.ceil(w_q.shape[1] / tile_inputs(hardware))
    slice_sums = [np.zeros((x_q.shape[0], w_q.shape[0]), np.int64) for _ in slice_weights]
    for seen in conversions(x_q, w_q, hardware, call, chip=chip, first_output=first_output):
        codes = [column if adcs is None else adcs[seen.weight_slice].codes(column) for column in seen.columns]
        code = codes[0] - codes[1] if len(codes) == 2 else codes[0]
        slice_sums[seen.weight_slice] += digit_weights[seen.digit] * code

    # What was added to the operands comes off again, digitally: the input's shift times the weights, and the offset
    # mapping's shift times the input as it was applied (the reference column).
    correction = -shift * w_q.sum(axis=1)[None, :] * np.ones((x_q.shape[0], 1), np.int64)
    if hardware.mapping == "offset":
        correction = correction - 2 ** (call.weight_bits - 1) * (x_q + shift).sum(axis=1)[:, None]

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


def crossbar_mvm(call: CrossbarCall) -> Tensor:
    """`cimq.ops.crossbar_mvm` as plain loops, with gradients by autograd of the digital product."""
    x_q, w_q, hardware = call.x_q, call.w_q, Hardware.from_json(call.hardware)
    if w_q.dim() != 2 or x_q.dim() < 1 or x_q.shape[-1] != w_q.shape[1]:
        raise ValueError(f"crossbar_mvm: needs x_q [..., n] and w_q [m, n], got {list(x_q.shape)}, {list(w_q.shape)}")
    x = activations_of("crossbar_mvm", call).reshape(-1, w_q.shape[1])
    w = weights_of("crossbar_mvm", call)
    _check_columns("crossbar_mvm", call.adc_lsb, len(w))
    results = [crossbar_matmul(x, w, hardware, call, chip=chip) for chip in range(call.chips or 1)]
    y = _as_tensor(np.stack(results), hardware, call).reshape(call.chips or 1, *x_q.shape[:-1], w_q.shape[0])
    y = y if call.chips is not None else y[0]
    if not _wants_gradient("crossbar_mvm", call):
        return y
    digital = torch.nn.functional.linear(x_q.to(y.dtype), w_q.to(y.dtype))
    return y + (digital - digital.detach())


def crossbar_conv2d(call: CrossbarCall) -> Tensor:
    """`cimq.ops.crossbar_conv2d` as patches and one matrix per group."""
    x_q, w_q, hardware, groups = call.x_q, call.w_q, Hardware.from_json(call.hardware), call.groups
    if x_q.dim() != 4 or w_q.dim() != 4 or x_q.shape[1] != groups * w_q.shape[1]:
        raise ValueError(
            f"crossbar_conv2d: needs x_q [N, C, H, W] and w_q [O, C/groups, kh, kw] with groups={groups}, "
            f"got {list(x_q.shape)}, {list(w_q.shape)}"
        )
    padded = torch.nn.functional.pad(x_q, tuple(call.padding))
    patches, out_h, out_w = patches_of(padded, w_q.shape[2:], call.stride, call.dilation)
    x = activations_of("crossbar_conv2d", replace(call, x_q=patches))  # [N * out_h * out_w, C, kh * kw]
    w = weights_of("crossbar_conv2d", call).reshape(w_q.shape[0], -1)
    _check_columns("crossbar_conv2d", call.adc_lsb, len(w))
    outputs, channels = w_q.shape[0] // groups, x_q.shape[1] // groups
    results = []
    for chip in range(call.chips or 1):
        of_groups = [
            crossbar_matmul(
                x[:, group * channels : (group + 1) * channels].reshape(x.shape[0], w.shape[1]),
                w[group * outputs : (group + 1) * outputs],
                hardware,
                call,
                chip=chip,
                first_output=group * outputs,
            )
            for group in range(groups)
        ]
        results.append(np.concatenate(of_groups, axis=1))
    y = _as_tensor(np.stack(results), hardware, call)
    y = y.reshape(call.chips or 1, x_q.shape[0], out_h, out_w, w_q.shape[0]).permute(0, 1, 4, 2, 3).contiguous()
    y = y if call.chips is not None else y[0]
    if not _wants_gradient("crossbar_conv2d", call):
        return y
    digital = torch.nn.functional.conv2d(
        padded.to(y.dtype), w_q.to(y.dtype), stride=tuple(call.stride), dilation=tuple(call.dilation), groups=groups
    )
    return y + (digital - digital.detach())


def _check_columns(op: str, adc_lsb: Tensor | None, outputs: int) -> None:
    """Refuses ranges per column of another number of outputs."""
    if adc_lsb is not None and adc_lsb.dim() == 2 and adc_lsb.shape[1] != outputs:
        raise ValueError(
            f"{op}: adc_lo and adc_lsb per column must be [slices, {outputs}], got shape {list(adc_lsb.shape)}"
        )


def _wants_gradient(op: str, call: CrossbarCall) -> bool:
    """Whether autograd is to follow; refuses the gradients that the specification of the forward does not have."""
    if call.adc_grad not in ("identity", "clip"):
        raise ValueError(f"{op}: adc_grad must be identity or clip, got {call.adc_grad}")
    operands = call.x_q.requires_grad or call.w_q.requires_grad
    step = call.adc_lsb is not None and call.adc_lsb.requires_grad
    if torch.is_grad_enabled() and (step or (operands and call.adc_grad == "clip")):
        raise NotImplementedError(
            f"{op}: backend reference has the gradients of adc_grad identity for x_q and w_q alone; use backend auto"
        )
    return operands


def patches_of(
    padded: Tensor, kernel: Sequence[int], stride: Sequence[int], dilation: Sequence[int]
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


def activations_of(op: str, call: CrossbarCall) -> IntArray:
    """The activations as int64, refused where they do not fit their bits."""
    top = 2 ** (call.act_bits - 1) if call.act_signed else 2**call.act_bits
    return _integers(op, "x_q", call.x_q, -top if call.act_signed else 0, top - 1)


def weights_of(op: str, call: CrossbarCall) -> IntArray:
    """The weights as int64, refused where they do not fit the narrow range of their bits."""
    top = max(1, 2 ** (call.weight_bits - 1) - 1)
    weights = _integers(op, "w_q", call.w_q, -top, top)
    if call.weight_bits == 1 and not weights.all():
        raise ValueError(f"{op}: w_q of one bit must be -1 or 1, got 0")
    return weights


def _integers(op: str, name: str, tensor: Tensor, lowest: int, highest: int) -> IntArray:
    if tensor.device.type != "cpu":
        raise NotImplementedError(f"{op}: backend reference computes on the CPU, got {name} on {tensor.device}")
    values = tensor.detach().double()
    nearest = torch.round(values)
    fine = ((values - nearest).abs() <= 2**-10) & (nearest >= lowest) & (nearest <= highest)
    if not fine.all():
        raise ValueError(
            f"{op}: {name} must hold integers in {lowest}..{highest}, got {values[~fine].flatten()[0].item()}"
        )
    integers: IntArray = nearest.to(torch.int64).numpy()
    return integers


def _as_tensor(result: npt.NDArray[Any], hardware: Hardware, call: CrossbarCall) -> Tensor:
    given_ranges = hardware.adc.bits is not None and hardware.adc.range in ("calibrated", "learned")
    if torch.float64 in (call.x_q.dtype, call.w_q.dtype):
        dtype = torch.float64
    elif call.x_q.is_floating_point() or call.w_q.is_floating_point() or given_ranges or result.dtype == np.float32:
        dtype = torch.float32
    else:
        dtype = torch.int32
    return torch.from_numpy(result).to(dtype)
