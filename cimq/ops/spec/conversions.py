"""What the converters of a crossbar see, as plain loops: currents and converters (docs/numbers.md).

Written from the equations and not from the kernels: every converter is a line of NumPy float32 arithmetic. The one
thing taken from the compiled code is what programmed cells conduct, whose statistics have tests of their own.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from cimq import _C
from cimq.hardware import Hardware
from cimq.ops.crossbar_call import CrossbarCall
from cimq.ops.spec.mapping_rules import (
    LEVEL_UNIT,
    IntArray,
    base_level,
    converts_columns_apart,
    input_digits,
    is_signed,
    tile_inputs,
    weight_levels,
)
from cimq.ops.spec.read_noise import read_noise

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Converter:
    """ADC of one weight slice: code = clamp(rint(float32(I - lo) * inv_lsb), lowest, highest), I in 1/unit levels.

    `lo` and `lsb` count level steps: one value for all columns, or an array that broadcasts against the currents.
    """

    lowest: int
    highest: int
    lo: int | IntArray
    lsb: float | FloatArray
    unit: int

    def of_outputs(self, first: int, count: int) -> Converter:
        """That of the outputs first.. of a layer."""
        if np.ndim(self.lsb) == 0:
            return self
        chosen = slice(first, first + count)
        return replace(self, lo=np.asarray(self.lo)[chosen], lsb=np.asarray(self.lsb)[chosen])

    def codes(self, current: IntArray) -> IntArray:
        """Codes of currents; float32, one rounding per operation, half to even."""
        inv_lsb = np.asarray(1.0 / (self.unit * self.lsb)).astype(np.float32)
        scaled = (current - self.lo * self.unit).astype(np.float32) * inv_lsb
        codes: IntArray = np.clip(np.rint(scaled), self.lowest, self.highest).astype(np.int64)
        return codes


def converters(
    hardware: Hardware, slices: int, adc_lo: Tensor | None, adc_lsb: Tensor | None, unit: int
) -> list[Converter] | None:
    """One converter per slice; None for ideal ones.

    Args:
        hardware: Machine.
        slices: Weight slices.
        adc_lo: Lowest current of each slice [slices], or of each slice and output of the layer [slices, m] with
            `adc.granularity` column; level steps; calibrated and learned ranges only.
        adc_lsb: Step, likewise.
        unit: Currents per level step.
    """
    bits = hardware.adc.bits
    if bits is None:
        return None
    signed = is_signed(hardware)
    levels = 2**bits - 1 if signed else 2**bits
    lowest, highest = (-(levels - 1) // 2, (levels - 1) // 2) if signed else (0, levels - 1)
    if hardware.adc.range in ("calibrated", "learned"):
        if adc_lo is None or adc_lsb is None:
            raise ValueError(f"crossbar_mvm: adc.range {hardware.adc.range} needs adc_lo and adc_lsb")
        dims = (1, 2) if hardware.adc.granularity == "column" else (1,)
        if adc_lo.shape != adc_lsb.shape or adc_lsb.dim() not in dims or len(adc_lsb) != slices:
            raise ValueError(
                f"crossbar_mvm: adc_lo and adc_lsb must be [{slices}], or with adc.granularity column "
                f"[{slices}, outputs], got {list(adc_lo.shape)} and {list(adc_lsb.shape)}"
            )
        los, lsbs = adc_lo.numpy().astype(np.int64), adc_lsb.detach().double().numpy()
        return [Converter(lowest, highest, lo, lsb, unit) for lo, lsb in zip(los, lsbs, strict=True)]
    # A column that is converted on its own carries what level 0 conducts; elsewhere that is cancelled before.
    base = base_level(hardware) / LEVEL_UNIT if converts_columns_apart(hardware) else 0.0
    full_scale = tile_inputs(hardware) * (base + 2**hardware.cell_bits - 1) * (2**hardware.dac_bits - 1)
    lsb = (2 if signed else 1) * full_scale / (levels - 1)
    if hardware.adc.range == "granular":
        lsb = max(1.0, lsb)
    return [Converter(lowest, highest, 0, lsb, unit)] * slices


@dataclass(frozen=True)
class Conversion:
    """The currents of one row tile, input digit and weight slice, as the converters see them.

    Attributes:
        weight_slice: Weight slice.
        inputs: Inputs of the row tile.
        digit: Input digit, the lowest is 0.
        columns: Currents [B, m] of the column of each output; two where a pair is converted column by column.
    """

    weight_slice: int
    inputs: slice
    digit: int
    columns: list[IntArray]


def conversions(
    x_q: IntArray, w_q: IntArray, hardware: Hardware, call: CrossbarCall, *, chip: int = 0, first_output: int = 0
) -> Iterator[Conversion]:
    """Every conversion of one chip and matrix, slice by slice; arguments as in `crossbar_matmul`.

    Currents count level steps, or 1/256 of them where conductances are fractional.
    """
    levels, slice_weights = weight_levels(w_q, hardware, call.weight_bits)
    digits, _, _ = input_digits(x_q, hardware, call.act_bits, call.act_signed)
    conductances = levels
    if hardware.fractional:
        cells = torch.ops.cimq.programmed_levels(
            torch.from_numpy(w_q), call.hardware, call.weight_bits, call.seed, chip, call.layer, first_output
        )
        conductances = cells.numpy().astype(np.int64)
        # The reference column carries level 0 in every row and is subtracted before conversion.
        levels = conductances - base_level(hardware) if hardware.mapping == "offset" else conductances
    per_tile = tile_inputs(hardware)
    tiles = [slice(start, start + per_tile) for start in range(0, w_q.shape[1], per_tile)]
    apart = converts_columns_apart(hardware)
    noise = read_noise(
        hardware,
        tile_inputs=min(per_tile, w_q.shape[1]),
        largest_digit=2 ** min(hardware.dac_bits, call.act_bits) - 1,
        cells_per_column=1 if apart else conductances.shape[1],
        largest_conductance=_C.largest_conductance(call.hardware, call.weight_bits),
        seed=call.seed, chip=chip, layer=call.layer, first_output=first_output,
    )  # fmt: skip
    accesses = call.first_access + np.arange(x_q.shape[0])
    for s in range(len(slice_weights)):
        for (t, rows), (i, digit) in itertools.product(enumerate(tiles), enumerate(digits)):
            columns = [digit[:, rows] @ polarity[:, rows].T for polarity in levels[s]]
            if noise is not None:
                squares = [(digit[:, rows] ** 2) @ noise.variances(cells[:, rows]).T for cells in conductances[s]]
            if len(columns) == 2 and not apart:
                columns = [columns[0] - columns[1]]
            if noise is not None:
                seen = squares if apart else [sum(squares)]
                columns = [
                    column + noise.noise(
                        variance, accesses, tile=t, digit=i, weight_slice=s, polarity=polarity if apart else None
                    )
                    for polarity, (column, variance) in enumerate(zip(columns, seen, strict=True))
                ]  # fmt: skip
            yield Conversion(s, rows, i, columns)
