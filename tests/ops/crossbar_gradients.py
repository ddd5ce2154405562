"""Gradients and conversion counts of the crossbar products, written out: one loop per index, nothing shared.

Everything is worked out from the currents of `cimq.ops.spec.conversions`, which know nothing of the kernels.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from crossbar_cases import Case
from torch import Tensor

from cimq.ops.crossbar_call import CrossbarCall
from cimq.ops.spec import conversions as specified
from cimq.ops.spec import crossbar_products, mapping_rules


@dataclass
class Conversions:
    """What the converters of one chip did with one batch; counts are per weight slice."""

    currents: list[list[int]]
    codes: list[list[int]]
    low: list[int]
    high: list[int]
    error: list[float]
    dx: Tensor
    dw: Tensor
    dlsb: Tensor
    levels: int = field(default=0)


def conversions(
    x_q: Tensor, w_q: Tensor, dy: Tensor, case: Case, *, chip: int = 0, first_output: int = 0
) -> Conversions:
    """x_q [B, n], w_q [m, n] integers, dy [B, m]: every conversion in turn, with adc_grad "clip"."""
    hardware = case.hardware
    x, w = x_q.numpy().astype(np.int64), w_q.numpy().astype(np.int64)
    nominal, worths = mapping_rules.weight_levels(w, hardware, case.weight_bits)
    _, digit_weights, shift = mapping_rules.input_digits(x, hardware, case.act_bits, case.act_signed)
    unit = 256 if hardware.fractional else 1
    adcs = specified.converters(hardware, len(worths), case.adc_lo, case.adc_lsb, unit)
    assert adcs is not None
    apart = mapping_rules.converts_columns_apart(hardware)
    all_digits, all_slices = sum(abs(v) for v in digit_weights), sum(worths)
    by_column = case.adc_lsb is not None and case.adc_lsb.dim() == 2
    dx, dw, dlsb = np.zeros(x.shape), np.zeros(w.shape), np.zeros((len(worths), len(w)))
    found = Conversions(
        [[] for _ in worths], [[] for _ in worths], [0] * len(worths), [0] * len(worths), [0.0] * len(worths),
        *(torch.empty(0),) * 3,
    )  # fmt: skip
    upstream = dy.double().numpy()
    # What does not pass a converter: the offset of the weights and the shift of the activations.
    offset = 2 ** (case.weight_bits - 1) if hardware.mapping == "offset" else 0
    dx -= offset * upstream.sum(axis=1)[:, None]
    dw -= shift * upstream.sum(axis=0)[:, None]
    call = CrossbarCall(x_q, w_q, hardware.to_json(), **case.options())
    for seen in specified.conversions(x, w, hardware, call, chip=chip, first_output=first_output):
        s, rows, adc = seen.weight_slice, seen.inputs, adcs[seen.weight_slice]
        digit_weight = digit_weights[seen.digit]
        for column, currents in enumerate(seen.columns):
            for b, o in np.ndindex(currents.shape):
                current = int(currents[b, o])
                lo, lsb = (value[o] if np.ndim(value) == 1 else value for value in (adc.lo, adc.lsb))
                scaled = np.float32(current - lo * unit) * np.float32(1.0 / (unit * lsb))
                free = float(np.rint(scaled))
                code = min(max(free, adc.lowest), adc.highest)
                found.currents[s].append(current)
                found.codes[s].append(int(code))
                found.low[s] += free < adc.lowest
                found.high[s] += free > adc.highest
                found.error[s] += float(lo + lsb * code - current / unit) ** 2
                sign = -1 if column == 1 else 1
                step = code if code != free else code - float(scaled)
                dlsb[s, o] += upstream[b, o] * worths[s] * digit_weight * sign * step
                if code != free:
                    continue
                share = upstream[b, o] * abs(digit_weight) / all_digits
                cells = nominal[s, :, o, rows]
                if apart:
                    level = sign * cells[column]
                    # A weight moves the column that it is stored in; one of zero, half of each.
                    moved = ((w[o, rows] > 0) if column == 0 else (w[o, rows] < 0)) + 0.5 * (w[o, rows] == 0)
                else:
                    level, moved = (cells[0] if len(cells) == 1 else cells[0] - cells[1]), 1.0
                dx[b, rows] += share * worths[s] * level
                dw[o, rows] += share * worths[s] / all_slices * moved * (x[b, rows] + shift)
    steps = dlsb if by_column else dlsb.sum(axis=1)
    found.dx, found.dw, found.dlsb = (torch.from_numpy(v) for v in (dx, dw, steps))
    found.levels = adcs[0].highest - adcs[0].lowest + 1
    return found


def conv_conversions(
    x_q: Tensor, w_q: Tensor, dy: Tensor, case: Case, geometry: dict[str, Any], *, chip: int = 0
) -> list[Conversions]:
    """One entry per group; the gradients of x are in the image's shape, those of w in the kernel's."""
    groups, kernel = geometry["groups"], (w_q.shape[2], w_q.shape[3])
    left, _, top, _ = geometry["padding"]
    outputs, channels = w_q.shape[0] // groups, w_q.shape[1]
    results = []
    for group in range(groups):
        own = x_q[:, group * channels : (group + 1) * channels]
        padded = torch.nn.functional.pad(own, geometry["padding"])
        patches, out_h, out_w = crossbar_products.patches_of(padded, kernel, geometry["stride"], geometry["dilation"])
        own_dy = dy[:, group * outputs : (group + 1) * outputs].permute(0, 2, 3, 1).reshape(-1, outputs)
        own_w = w_q[group * outputs : (group + 1) * outputs]
        found = conversions(
            patches.flatten(1), own_w.flatten(1), own_dy, case.columns(group * outputs, outputs), chip=chip,
            first_output=group * outputs,
        )  # fmt: skip
        columns = found.dx.reshape(x_q.shape[0], out_h * out_w, -1).transpose(1, 2)
        image = torch.nn.functional.fold(
            columns, padded.shape[2:], kernel, dilation=geometry["dilation"], stride=geometry["stride"]
        )
        found.dx = image[:, :, top : top + x_q.shape[2], left : left + x_q.shape[3]]
        found.dw = found.dw.reshape(own_w.shape)
        results.append(found)
    return results
