"""What integer the cells hold for the integer that was asked for: mean and mean square over cells that vary."""

from __future__ import annotations

import dataclasses
import functools

import torch
from torch import Tensor

from cimq import ops
from cimq.hardware import Adc, Hardware
from cimq.mapping import weight_range

_CELLS = 4096  # samples per integer: the mean square to about 2 %, far finer than what it decides


def weight_moments(hardware: Hardware, bits: int) -> tuple[Tensor, Tensor] | None:
    """Mean and mean square of a weight as the cells of a machine hold it, in units of the weight's integer.

    Measured through the product itself (one row at a time, ideal converter), so that it holds for every mapping, slice
    width and cell model.

    Args:
        hardware: The machine.
        bits: Of the weight.

    Returns:
        float64 [2 * largest + 1] each, for the integers -largest..largest in order (with 1 bit: -1, 0, +1); None where
        every cell holds what it should.

    Example:
        >>> import cimq
        >>> mean, square = weight_moments(cimq.hardware.resolve("rram-wan2022"), 4)
        >>> len(mean), bool((square > mean**2).all())
        (15, True)
    """
    return _measured(hardware, bits) if hardware.varies else None


@functools.lru_cache(maxsize=64)
def _measured(hardware: Hardware, bits: int) -> tuple[Tensor, Tensor]:
    low, high = weight_range(bits)
    integers = torch.arange(low, high + 1, device="cpu")  # once per machine, whatever the device of the weights
    held = integers if bits > 1 else integers[integers != 0]
    machine = dataclasses.replace(hardware, adc=Adc(bits=None))
    rows = torch.eye(len(held), dtype=torch.int8, device="cpu")
    w_q = held.to(torch.int8).expand(_CELLS, -1).contiguous()
    y = ops.crossbar_mvm(rows, w_q, hardware=machine, weight_bits=bits, act_bits=1, act_signed=False).double()
    mean, square = y.mean(dim=1), (y * y).mean(dim=1)
    if bits == 1:  # no cell holds 0; the entry keeps the integers in a row
        zero = torch.zeros(1, dtype=torch.float64, device="cpu")
        mean, square = (torch.cat([m[:1], zero, m[1:]]) for m in (mean, square))
    return mean, square
