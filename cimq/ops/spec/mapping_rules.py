"""How weights become cells, activations digits, and levels conductances: the mapping rules, derived once more.

Independent of `cimq.mapping` and of csrc/common/mapping.h on purpose: an error there must not pass its own test.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from cimq.hardware import Hardware

IntArray = npt.NDArray[np.int64]
LEVEL_UNIT = 256  # conductances of cells that are not exactly their level are integers in 1/256 of a level step


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


def level_window(hardware: Hardware) -> tuple[float, float]:
    """Conductance of level 0 and of one level step in microsiemens; (0, 0) without a window."""
    cell = hardware.cell
    if cell.g_min_microsiemens is not None and cell.g_max_microsiemens is not None:
        low, high = cell.g_min_microsiemens, cell.g_max_microsiemens
    elif cell.hrs_ohm is not None and cell.lrs_ohm is not None:
        low, high = 1e6 / cell.hrs_ohm, 1e6 / cell.lrs_ohm
    else:
        return 0.0, 0.0
    return low, (high - low) / (2**hardware.cell_bits - 1)


def base_level(hardware: Hardware) -> int:
    """What level 0 conducts, in 1/256 level."""
    low, step = level_window(hardware)
    return round(low / step * LEVEL_UNIT) if step else 0
