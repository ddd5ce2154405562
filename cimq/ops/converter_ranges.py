"""Converter ranges from data, for `adc.range: calibrated`."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from cimq.hardware import Hardware, resolve
from cimq.mapping import CONDUCTANCE_UNIT, act_range, applied_digits, mapping_facts, weight_levels, weight_range
from cimq.ops.geometry import four_paddings, pair

_PERCENTILE = 99.9
_MSE_STEPS = 80

_MAX_COUNTS = 1 << 21  # of a block of columns

Weights = npt.NDArray[np.float64]
Histogram = tuple[npt.NDArray[np.int64], Weights]  # currents that occur [v], weight of each in every row [rows, v]
Ranges = tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]  # lo and lsb of every row


def calibrate_adc(
    x_q: Tensor,
    w_q: Tensor,
    hardware: Hardware | str | Path,
    *,
    weight_bits: int,
    act_bits: int,
    act_signed: bool = False,
    method: str = "percentile",
    stride: int | tuple[int, int] = 1,
    padding: int | tuple[int, int] | tuple[int, int, int, int] = 0,
    dilation: int | tuple[int, int] = 1,
    groups: int = 1,
) -> tuple[Tensor, Tensor]:
    """Chooses the converter ranges from the currents that sample activations cause.

    One range per weight slice, or with `adc.granularity` "column" one per slice and output, from that column's currents
    alone (of a pair that is converted one by one, those of both columns).

    "percentile" covers 99.9 % of the currents; "mse" takes, of 80 ranges between the largest current and a 80th of it,
    the one with the smallest squared error, where the current of input digit i counts with the square of its weight.
    A step is never finer than one level. Currents are those of cells without variation.

    Args:
        x_q: Sample activations `[B, n]`, or `[N, C, H, W]` for a convolution.
        w_q: Weights `[m, n]`, or `[O, C/groups, kh, kw]`.
        hardware: Machine with `adc.bits` given and `adc.range` "calibrated" or "learned".
        weight_bits: 1 to 8.
        act_bits: 1 to 8.
        act_signed: Activations are two's complement.
        method: "percentile" or "mse".
        stride: Of a convolution; as in `crossbar_conv2d`.
        padding: Of a convolution.
        dilation: Of a convolution.
        groups: Of a convolution.

    Returns:
        `adc_lo` int32 `[n_w]` and `adc_lsb` float32 `[n_w]`, in level steps; `[n_w, m]` with granularity "column". On
        the CPU, where the operators read ranges without waiting, whatever the device of the operands.

    Raises:
        ValueError: For a machine without such a converter, an unknown method, an empty sample, or bad operands.

    Example:
        >>> import torch, cimq
        >>> hw = cimq.Hardware.preset("paper").replace(adc={"bits": 6, "range": "calibrated"})
        >>> x, w = torch.randint(0, 16, (64, 256)), torch.randint(-7, 8, (32, 256))
        >>> lo, lsb = cimq.ops.calibrate_adc(x, w, hw, weight_bits=4, act_bits=4)
        >>> y = cimq.ops.crossbar_mvm(x, w, hw, weight_bits=4, act_bits=4, adc_lo=lo, adc_lsb=lsb)
    """
    machine = resolve(hardware)
    bits = machine.adc.bits
    if bits is None or machine.adc.range not in ("calibrated", "learned"):
        raise ValueError(
            "calibrate_adc: hardware must have adc.bits and adc.range calibrated or learned, "
            f"got bits {bits} and range {machine.adc.range}"
        )
    if method not in ("percentile", "mse"):
        raise ValueError(f"calibrate_adc: method must be percentile or mse, got {method!r}")
    if x_q.numel() == 0:
        raise ValueError("calibrate_adc: the sample of activations is empty")
    if w_q.dim() == 4:
        strides, dilations = pair(stride, "calibrate_adc: stride"), pair(dilation, "calibrate_adc: dilation")
        x_q = _patches(x_q, (w_q.shape[2], w_q.shape[3]), strides, four_paddings(padding), dilations)
    elif w_q.dim() == 2 and groups == 1 and x_q.shape[-1] == w_q.shape[1]:
        x_q = x_q.reshape(-1, w_q.shape[1], 1)
    else:
        raise ValueError(
            "calibrate_adc: needs x_q [B, n] and w_q [m, n] without groups, or those of a convolution, "
            f"got {list(x_q.shape)} and {list(w_q.shape)} with groups={groups}"
        )
    x = _integers("x_q", x_q, act_range(act_bits, act_signed))
    w = _integers("w_q", w_q, weight_range(weight_bits))
    if weight_bits == 1 and not w.all():
        raise ValueError("calibrate_adc: w_q of one bit must be -1 or 1, got 0")
    signed = mapping_facts(machine).converts_signed
    matrix = w.reshape(w.shape[0], -1)
    slices = machine.weight_slices(weight_bits)
    by_column = machine.adc.granularity == "column"
    shape = (slices, w.shape[0]) if by_column else (slices, 1)
    lo, lsb = np.zeros(shape, np.int32), np.zeros(shape, np.float32)
    find = _by_percentile if method == "percentile" else _by_squared_error
    for first, counted in _current_histograms(x, matrix, machine, weight_bits, act_bits, act_signed, groups, by_column):
        for s, histogram in enumerate(counted):
            columns = slice(first, first + len(histogram[1]))
            lo[s, columns], lsb[s, columns] = find(histogram, bits, signed)
    ranges = (torch.from_numpy(lo), torch.from_numpy(lsb))
    return ranges if by_column else (ranges[0][:, 0].clone(), ranges[1][:, 0].clone())


def _current_histograms(
    x: npt.NDArray[np.int64],
    w: npt.NDArray[np.int64],
    hardware: Hardware,
    weight_bits: int,
    act_bits: int,
    act_signed: bool,
    groups: int,
    by_column: bool,
) -> Iterator[tuple[int, list[Histogram]]]:
    """Currents over tiles and digits; each counts with its digit's squared weight.

    Yields:
        Number of the first column, and one histogram per slice. A histogram has one row for all outputs and groups; or
        `by_column`, one row per output, as many at a time as memory is meant to hold.
    """
    facts = mapping_facts(hardware)
    levels, _ = weight_levels(w, hardware, weight_bits)
    # What level 0 conducts flows in columns that are converted on their own, to the nearest level step.
    base = facts.base_conductance / CONDUCTANCE_UNIT if facts.converts_columns_apart else 0.0
    digits, digit_weights = applied_digits(x, hardware, act_bits, act_signed)
    per_tile = facts.inputs_per_tile
    subtracted = facts.converts_signed
    inputs = min(per_tile, w.shape[1])
    bound = math.ceil(inputs * (base + 2**hardware.cell_bits - 1) * (2**hardware.dac_bits - 1))
    bins = 2 * bound + 1
    exact = np.float32 if bound < 2**24 else np.float64  # holds every sum of products
    outputs, channels = w.shape[0] // groups, x.shape[1] // groups
    at_once = max(1, _MAX_COUNTS // (bins * levels.shape[0])) if by_column else outputs
    counts = np.zeros((levels.shape[0], 1, bins))
    for group, start in itertools.product(range(groups), range(0, outputs, at_once)):
        first, last = group * outputs + start, group * outputs + min(start + at_once, outputs)
        if by_column:
            counts = np.zeros((levels.shape[0], last - first, bins))
        row = np.arange(last - first) * bins if by_column else 0
        own_inputs = digits[:, :, group * channels : (group + 1) * channels].reshape(len(digits), x.shape[0], -1)
        own_levels = levels[:, :, first:last].astype(exact)
        for tile in range(0, w.shape[1], per_tile):
            for digit, weight in zip(own_inputs, digit_weights, strict=True):
                applied = digit[:, tile : tile + per_tile].astype(exact)
                for s, cells in enumerate(own_levels):
                    columns = [applied @ polarity[:, tile : tile + per_tile].T for polarity in cells]
                    columns = [columns[0] - columns[1]] if subtracted else columns
                    if base:
                        columns = [np.rint(column + base * applied.sum(1, keepdims=True)) for column in columns]
                    for column in columns:
                        places = column.astype(np.int64) + (bound + row)
                        found = np.bincount(places.ravel(), minlength=counts[s].size).reshape(counts[s].shape)
                        counts[s] += found * float(weight) ** 2
        if by_column:
            yield first, [_occurring(slice_counts, bound) for slice_counts in counts]
    if not by_column:
        yield 0, [_occurring(slice_counts, bound) for slice_counts in counts]


def _occurring(counts: Weights, bound: int) -> Histogram:
    """The currents that occur in any of the rows, and their weights."""
    index = np.flatnonzero(counts.any(axis=0))
    return index - bound, counts[:, index]


def _by_percentile(histogram: Histogram, bits: int, signed: bool) -> Ranges:
    currents, weights = histogram
    if signed:
        order = np.argsort(np.abs(currents), kind="stable")
        reach = _quantile(np.abs(currents)[order], weights[:, order], _PERCENTILE / 100)
        return np.zeros_like(reach), np.maximum(1.0, reach / (2 ** (bits - 1) - 1))
    tail = (1 - _PERCENTILE / 100) / 2
    lo = _quantile(currents, weights, tail)
    hi = _quantile(currents, weights, 1 - tail)
    return lo, np.maximum(1.0, (hi - lo) / (2**bits - 1))


def _by_squared_error(histogram: Histogram, bits: int, signed: bool) -> Ranges:
    currents, weights = histogram
    top = 2 ** (bits - 1) - 1 if signed else 2**bits - 1
    lowest = currents[np.argmax(weights > 0, axis=1)]
    highest = currents[len(currents) - 1 - np.argmax(weights[:, ::-1] > 0, axis=1)]
    starts = [np.zeros_like(lowest)]
    if not signed:
        starts = [lowest, *(_quantile(currents, weights, q) for q in (0.001, 0.01))]
    best_error = np.full(len(weights), np.inf)
    best_lo, best_lsb = starts[0].copy(), np.ones(len(weights))
    for lo in starts:
        reach = np.maximum(np.abs(highest - lo), np.abs(lowest - lo)).astype(np.float64)
        for step in range(_MSE_STEPS):
            # What is given back: float32.
            lsb = np.maximum(1.0, reach * (_MSE_STEPS - step) / _MSE_STEPS / top).astype(np.float32).astype(np.float64)
            columns = (lo[:, None], lsb[:, None])
            codes = _codes(currents[None] - columns[0], columns[1], -top if signed else 0, top)
            error = (((columns[0] + columns[1] * codes) - currents) ** 2 * weights).sum(axis=1)
            better = error < best_error
            best_error = np.where(better, error, best_error)
            best_lo, best_lsb = np.where(better, lo, best_lo), np.where(better, lsb, best_lsb)
    return best_lo, best_lsb


def _codes(
    currents: npt.NDArray[np.int64], lsb: npt.NDArray[np.float64], lowest: int, highest: int
) -> npt.NDArray[np.int64]:
    """Codes of currents above the range's start, as every converter gives them: float32, half to even."""
    scaled = currents.astype(np.float32) * (1.0 / lsb).astype(np.float32)
    codes: npt.NDArray[np.int64] = np.clip(np.rint(scaled), lowest, highest).astype(np.int64)
    return codes


def _patches(
    x: Tensor,
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int, int, int],
    dilation: tuple[int, int],
) -> Tensor:
    """Patches [N * out_h * out_w, C, kh * kw] of images [N, C, H, W]."""
    padded = torch.nn.functional.pad(x.double(), padding)  # holds every integer of a type that activations have
    columns = torch.nn.functional.unfold(padded, kernel, dilation, 0, stride)
    patches = columns.reshape(len(x), x.shape[1], kernel[0] * kernel[1], -1)
    return patches.permute(0, 3, 1, 2).reshape(-1, x.shape[1], kernel[0] * kernel[1])


def _integers(name: str, tensor: Tensor, bounds: tuple[int, int]) -> npt.NDArray[np.int64]:
    """The integers that a tensor holds to 1/1024, as the operators take them."""
    values = tensor.detach().cpu().double()
    nearest = values.round()
    fine = ((values - nearest).abs() <= 2**-10) & (nearest >= bounds[0]) & (nearest <= bounds[1])
    if not bool(fine.all()):
        raise ValueError(
            f"calibrate_adc: {name} must hold integers in {bounds[0]}..{bounds[1]}, "
            f"got {values[~fine].flatten()[0].item()}"
        )
    integers: npt.NDArray[np.int64] = nearest.to(torch.int64).numpy()
    return integers


def _quantile(values: npt.NDArray[np.int64], weights: Weights, fraction: float) -> npt.NDArray[np.int64]:
    """Per row, the smallest of the ascending `values` that at least `fraction` of the weight does not exceed."""
    cumulative = np.cumsum(weights, axis=1)
    below = (cumulative < fraction * cumulative[:, -1:]).sum(axis=1)
    found: npt.NDArray[np.int64] = values[np.minimum(below, len(values) - 1)]
    return found
