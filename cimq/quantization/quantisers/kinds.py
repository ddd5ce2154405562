"""Which kind of quantiser an input and a weight have."""

from __future__ import annotations

from torch import Tensor

from cimq.mapping import act_range, weight_range
from cimq.quantization.quantisers.lsq import Binary, Lsq
from cimq.quantization.quantisers.lsq_offset import LsqOffset
from cimq.quantization.quantisers.quantiser import Quantiser


def input_quantiser(scale: Tensor, bits: int, signed: bool, offset: Tensor | None = None) -> Quantiser:
    """That of a layer's input: `Lsq`, or `LsqOffset` where it has an offset (in units of the scale)."""
    return Lsq(scale, *act_range(bits, signed)) if offset is None else LsqOffset(scale, offset, bits)


def calibrated_input(values: Tensor, bits: int, signed: bool, has_offset: bool, method: str) -> Quantiser:
    """That for a sample [1, n] with both ends of the range in it; see `cimq.calibrate` for the methods."""
    if has_offset:
        return LsqOffset.calibrate(values, bits, method)
    return Lsq.calibrate(values, *act_range(bits, signed), method)


def weight_quantiser(scale: Tensor, bits: int, *, written: bool = True) -> Lsq:
    """That of a weight, or of a matrix that is not `written` once but for every sample."""
    return (Binary if bits == 1 else Lsq)(scale, *weight_range(bits), written=written)


def calibrated_weight(values: Tensor, bits: int, moments: tuple[Tensor, Tensor] | None) -> Lsq:
    """That for the rows of a weight (or of a sample of a matrix), where cells hold what `moments` say."""
    return (Binary if bits == 1 else Lsq).calibrate(values, *weight_range(bits), moments=moments)
