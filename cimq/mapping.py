"""How weights and activations become cells, columns, rows and digits: the rules of csrc/common/mapping.h, in Python.

Nothing is derived here; everything comes from the compiled rules, which plan, tiler and latency model share. The
specification in `cimq.ops.spec` derives them on its own, and tests hold the two together.
"""

from __future__ import annotations

import dataclasses
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from cimq import _C
from cimq.hardware import Hardware

MAX_BITS = 8
CONDUCTANCE_UNIT = 256  # conductances of cells that are not exactly their level are integers in 1/256 of a level step
# Looked up, as training steps ask for them, also compiled ones: torch.compile cannot look into the binding.
_WIDTHS = range(1, MAX_BITS + 1)
_WEIGHT_RANGES = tuple(_C.weight_range(bits) for bits in _WIDTHS)
_ACT_RANGES = {signed: tuple(_C.activation_range(bits, signed) for bits in _WIDTHS) for signed in (False, True)}


def _check_bits(name: str, bits: int) -> None:
    if bits not in _WIDTHS:
        raise ValueError(f"{name} must be an integer from 1 to {MAX_BITS}, got {bits!r}")


def weight_range(bits: int) -> tuple[int, int]:
    """Smallest and largest integer of a weight: symmetric, so that both polarities of a pair hold the same.

    Raises:
        ValueError: For other widths than 1 to 8.

    Example:
        >>> weight_range(4), weight_range(1)
        ((-7, 7), (-1, 1))
    """
    _check_bits("weight_bits", bits)
    return _WEIGHT_RANGES[bits - 1]


def act_range(bits: int, signed: bool) -> tuple[int, int]:
    """Smallest and largest integer of an activation: unsigned, or two's complement.

    Raises:
        ValueError: For other widths than 1 to 8.

    Example:
        >>> act_range(4, signed=False), act_range(4, signed=True)
        ((0, 15), (-8, 7))
    """
    _check_bits("act_bits", bits)
    return _ACT_RANGES[signed][bits - 1]


@dataclasses.dataclass(frozen=True)
class MappingFacts:
    """What the mapping of a machine decides, whatever the layer.

    Attributes:
        column_polarities: Columns of a weight slice.
        row_polarities: Rows of an input.
        reference_columns: Columns of a layer beside those of its weights.
        inputs_per_tile: Inputs that one crossbar takes.
        converts_signed: A converter sees a quantity of both signs.
        converts_columns_apart: The two columns of a pair have a converter each.
        base_conductance: What level 0 conducts, in 1/256 level.
        codes: Number of codes of a converter, the smallest and the largest; None for an ideal one.
    """

    column_polarities: int
    row_polarities: int
    reference_columns: int
    inputs_per_tile: int
    converts_signed: bool
    converts_columns_apart: bool
    base_conductance: int
    codes: tuple[int, int, int] | None

    @property
    def polarities(self) -> int:
        """Cells of a weight slice."""
        return self.column_polarities * self.row_polarities

    def rows(self, inputs: int) -> int:
        """Physical rows of a layer."""
        return inputs * self.row_polarities

    def columns(self, outputs: int, slices: int) -> int:
        """Physical columns of a layer, the reference column included."""
        return outputs * slices * self.column_polarities + self.reference_columns


@lru_cache(maxsize=256)
def mapping_facts(hardware: Hardware) -> MappingFacts:
    """The facts of a machine.

    Example:
        >>> import cimq
        >>> facts = mapping_facts(cimq.Hardware.preset("paper").replace(mapping="differential_row"))
        >>> facts.inputs_per_tile, facts.rows(100), facts.columns(10, slices=2)
        (128, 200, 20)
    """
    return MappingFacts(**_C.mapping_facts(hardware.to_json()))


def weight_levels(
    w_q: npt.NDArray[np.int64], hardware: Hardware, weight_bits: int
) -> tuple[npt.NDArray[np.uint8], list[int]]:
    """Levels of the cells that hold weights, and what one level of each slice is worth.

    Args:
        w_q: Weights [m, n] in the range of `weight_bits`.
        hardware: Machine.
        weight_bits: 1 to 8.

    Returns:
        Levels [slices, polarities, m, n]; polarity 1 is the negative column (or row) of a pair. Worth of each slice.
    """
    table, worth = _C.stored_weight(hardware.to_json(), weight_bits)
    return table[:, :, w_q - weight_range(weight_bits)[0]], worth


def applied_digits(
    x_q: npt.NDArray[np.int64], hardware: Hardware, act_bits: int, act_signed: bool
) -> tuple[npt.NDArray[np.int64], list[int]]:
    """Digits that the drivers apply, least significant first, and their weights.

    Args:
        x_q: Activations of any shape in the range of `act_bits`.
        hardware: Machine.
        act_bits: 1 to 8.
        act_signed: Two's complement.

    Returns:
        Digits [digits, *shape], weight of each digit.
    """
    weights, shift = _C.applied_input(hardware.to_json(), act_bits, act_signed)
    bits = (x_q + shift) & (2**act_bits - 1)
    places = hardware.dac_bits * np.arange(len(weights)).reshape(-1, *[1] * x_q.ndim)
    return (bits >> places) & (2**hardware.dac_bits - 1), weights
