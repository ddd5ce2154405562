"""Ranges of calibrated converters: one per layer, bits of weights and inputs, and weight slice."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from cimq import ops
from cimq.hardware import Hardware
from cimq.quantization.quantizers import MAX_BITS

# Enough for a stable percentile; the currents of a sample are worked out one by one.
_SAMPLE_VALUES = 1 << 14


class AdcSample(NamedTuple):
    """A few inputs of a layer and the geometry they were used with."""

    x: Tensor
    call: dict[str, Any]


def needs_ranges(hardware: Hardware) -> bool:
    """Whether the converter's range comes from data."""
    return hardware.adc.bits is not None and hardware.adc.range == "calibrated"


def check_supported(hardware: Hardware) -> None:
    """Refuses what layers cannot do.

    Raises:
        ValueError: For learned converter ranges.
    """
    if hardware.adc.bits is not None and hardware.adc.range == "learned":
        raise ValueError(
            "quantised layers do not support hardware with adc.range learned; use full_scale, granular or calibrated"
        )


def check_same_ranges(hardware: Hardware, training: Hardware) -> None:
    """Refuses a training machine whose calibrated converter would need ranges other than those of `hardware`.

    Raises:
        ValueError: If they differ in anything that the ranges depend on; names it.
    """
    if not needs_ranges(training):
        return
    for field in ("rows", "cell_bits", "dac_bits", "mapping", "sign_magnitude", "adc"):
        evaluated, trained = getattr(hardware, field), getattr(training, field)
        if evaluated != trained:
            raise ValueError(
                f"the training machine's converter is calibrated, so its {field} must be that of the machine, "
                f"{evaluated}, got {trained}; or give it another adc.range"
            )


def empty_ranges(device: torch.device) -> Tensor:
    """[weight bits, act bits, (lo, lsb), slice]; a step of 0 marks what is not calibrated."""
    return torch.zeros(MAX_BITS, MAX_BITS, 2, MAX_BITS, device=device)


def take_sample(x: Tensor, call: dict[str, Any]) -> AdcSample:
    """The first samples of a batch, as many as are needed."""
    x = x.detach() if x.dim() == 4 or "padding" in call else x.detach().reshape(-1, x.shape[-1])
    return AdcSample(x[: max(1, _SAMPLE_VALUES // max(1, x[0].numel()))].float().clone(), call)


def find_range(
    x_q: Tensor,
    w_q: Tensor,
    hardware: Hardware,
    weight_bits: int,
    act_bits: int,
    act_signed: bool,
    call: dict[str, Any],
) -> Tensor:
    """(lo, lsb) per slice, [2, 8], for one choice of bits."""
    lo, lsb = ops.calibrate_adc(
        x_q, w_q, hardware, weight_bits=weight_bits, act_bits=act_bits, act_signed=act_signed, **call
    )
    found = torch.zeros(2, MAX_BITS, device=w_q.device)
    found[0, : len(lo)] = lo.to(found.device).float()
    found[1, : len(lsb)] = lsb.to(found.device).float()
    return found
