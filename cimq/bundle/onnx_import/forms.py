"""How crossbars are given integers of other quantisers: widths, signs, zero points, a second matrix for the rest."""

from __future__ import annotations

import dataclasses

import numpy as np

from cimq.bundle.onnx_import.values import Array, Grid
from cimq.bundle.operations.registry import RefusedError

MAX_BITS = 8
LARGEST = 2 ** (MAX_BITS - 1) - 1
"""Of a weight."""


@dataclasses.dataclass(frozen=True)
class InputForm:
    """How a layer's input is applied to crossbars.

    Attributes:
        bits: Its width.
        signed: Two's complement.
        zero: Zero point of an unsigned input, at most 0.
        exact: Whether the integers of that width are those of the quantiser; else it has fewer.
    """

    bits: int
    signed: bool
    zero: int
    exact: bool


def input_form(grid: Grid) -> InputForm:
    """The narrowest form that holds every integer of the quantiser, and 0, which padding needs.

    Raises:
        RefusedError: Where 8 bits are not enough.
    """
    low, high = min(grid.low, 0), max(grid.high, 0)
    bits = max((high - low).bit_length(), 1)
    if bits > MAX_BITS:
        raise RefusedError(
            f"its input is quantised to {grid.low} .. {grid.high}, {bits} bits; crossbars take up to {MAX_BITS}"
        )
    signed = low < 0 and low >= -(2 ** (bits - 1)) and high <= 2 ** (bits - 1) - 1
    if signed:
        first, last = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
        return InputForm(bits, True, 0, (first, last) == (grid.low, grid.high))
    return InputForm(bits, False, low, (low, low + 2**bits - 1) == (grid.low, grid.high))


def stored_bits(low: int, high: int) -> int:
    """Width of two's complement integers from `low` to `high`; at least 2, as 1 bit means -1 and 1 here."""
    return max((high if high >= 0 else 0).bit_length() + 1, (-low - 1 if low < 0 else 0).bit_length() + 1, 2)


def symmetric_bits(largest: int) -> int:
    """Width whose weights, -(2^(w-1) - 1) .. 2^(w-1) - 1, reach this magnitude; at least 2."""
    return max(largest.bit_length() + 1, 2)


def weight_parts(integers: Array, low: int, high: int) -> list[tuple[Array, int]]:
    """Weights as crossbars hold them: integers and their width; two matrices to be added where one is not enough.

    The width is that of the type or `Clip`. Crossbars hold weights symmetrically: -2^(w-1), and what a zero point makes
    of weights, may need one bit more, and beyond 8 bits what is left over in a second matrix.
    """
    largest = int(np.abs(integers).max())
    needed, stated = symmetric_bits(largest), stored_bits(low, high)
    if needed <= MAX_BITS:
        return [(integers, max(needed, min(stated, MAX_BITS)))]
    first = np.clip(integers, -LARGEST, LARGEST)
    rest = integers - first
    if int(np.abs(rest).max()) > LARGEST:
        raise RefusedError(f"its weights reach {largest}; integers of at most {2 * LARGEST} can be held")
    return [(first, MAX_BITS), (rest, symmetric_bits(int(np.abs(rest).max())))]
