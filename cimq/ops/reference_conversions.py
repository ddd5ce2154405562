"""What the converters of a crossbar see, as plain loops: cells, input digits, currents, converters (docs/numbers.md).

Part of the specification in `reference`. Written from the equations and not from the kernels: weights are split into
cells and activations into digits here, and every converter is a line of NumPy float32 arithmetic. The one thing taken
from the compiled code is what programmed cells conduct, whose statistics have tests of their own; read noise is in
`reference_read`.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from cimq import _C
from cimq.hardware import Hardware
from cimq.ops.reference_read import base_level, read_noise

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]
LEVEL_UNIT = 256  # conductances of cells that are not exactly their level are integers in 1/256 of a level step


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


def weight_levels(w_q: IntArray, hardware: Hardware, weight_bits: int) -> tuple[IntArray, list[int]]:
    """Levels of the cells that hold `w_q`, and what one level of each slice is worth.

    Args:
        w_q: Weights [m, n].
        hardware: Machine.
        weight_bits: Bits of a weight.

    Returns:
        Levels [slices, polarities, m, n]; polarity 1 is the negative column (or row) of a pair. Worth of each slice.
    """
    cell_bits = hardware.cell_bits
    if hardware.mapping == "offset":
        stored = (w_q + 2 ** (weight_bits - 1))[None]
        slices = math.ceil(weight_bits / cell_bits)
        if weight_bits == 1 and cell_bits == 1:
            return (stored // 2)[None], [2]  # {0, 2} in a cell of two levels that are worth 2
    else:
        stored = np.stack([np.maximum(w_q, 0), np.maximum(-w_q, 0)])
        magnitude_bits = weight_bits - 1 if hardware.sign_magnitude else weight_bits
        slices = max(1, math.ceil(magnitude_bits / cell_bits))
    base = 2**cell_bits
    return np.stack([stored // base**s % base for s in range(slices)]), [base**s for s in range(slices)]


def input_digits(x_q: IntArray, hardware: Hardware, act_bits: int, act_signed: bool) -> tuple[IntArray, list[int], int]:
    """Digits that the drivers apply, least significant first, their weights, and the shift added to the input.

    Args:
        x_q: Activations [B, n].
        hardware: Machine.
        act_bits: Bits of an activation.
        act_signed: Two's complement.

    Returns:
        Digits [count, B, n], weight of each digit, shift.
    """
    base = 2**hardware.dac_bits
    count = math.ceil(act_bits / hardware.dac_bits)
    weights = [base**i for i in range(count)]
    shift = 0
    applied = x_q
    if act_signed and hardware.dac_bits == 1:
        applied = x_q % 2**act_bits  # two's complement: the top bit counts negative
        weights[-1] = -weights[-1]
    elif act_signed:
        shift = 2 ** (act_bits - 1)
        applied = x_q + shift
    return np.stack([applied // base**i % base for i in range(count)]), weights, shift


def tile_inputs(hardware: Hardware) -> int:
    """Inputs that fit into one crossbar."""
    return hardware.rows // 2 if hardware.mapping == "differential_row" else hardware.rows


def is_signed(hardware: Hardware) -> bool:
    """Whether a converter sees a quantity of both signs."""
    if hardware.mapping == "differential_column":
        return hardware.adc.placement == "differential"
    return hardware.mapping == "differential_row"


def converts_columns_apart(hardware: Hardware) -> bool:
    """Whether the two columns of a pair have a converter each."""
    pairs = hardware.mapping == "differential_column" and hardware.adc.bits is not None
    return pairs and hardware.adc.placement == "per_column"


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
    first_access: int = 0,
) -> Iterator[Conversion]:
    """Every conversion of one chip and matrix, slice by slice; arguments as in `crossbar_matmul`.

    Currents count level steps, or 1/256 of them where conductances are fractional.
    """
    levels, slice_weights = weight_levels(w_q, hardware, weight_bits)
    digits, _, _ = input_digits(x_q, hardware, act_bits, act_signed)
    conductances = levels
    if hardware.fractional:
        cells = torch.ops.cimq.programmed_levels(
            torch.from_numpy(w_q), hardware.to_json(), weight_bits, seed, chip, layer, first_output
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
        largest_digit=2 ** min(hardware.dac_bits, act_bits) - 1,
        cells_per_column=1 if apart else conductances.shape[1],
        largest_conductance=_C.largest_conductance(hardware.to_json(), weight_bits),
        seed=seed, chip=chip, layer=layer, first_output=first_output,
    )  # fmt: skip
    accesses = first_access + np.arange(x_q.shape[0])
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
