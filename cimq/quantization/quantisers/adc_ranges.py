"""Ranges of calibrated and learned converters: one per layer, bits of weights and inputs, and weight slice; or, where
the machine's `adc.granularity` is column, one per output besides.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from cimq import ops
from cimq.hardware import Hardware
from cimq.mapping import MAX_BITS, mapping_facts

# Enough for a stable percentile; the currents of a sample are worked out one by one.
_SAMPLE_VALUES = 1 << 14


# Steps below this (in levels) are taken as this: a conductance is held in 1/256 level.
SMALLEST_STEP = 2.0**-8
METHODS = ("percentile", "mse")
ADC_GRADS = ("identity", "clip")


class AdcSample(NamedTuple):
    """A few inputs of a layer, the geometry they were used with, and how a range is found from them."""

    x: Tensor
    call: dict[str, Any]
    method: str


def needs_ranges(hardware: Hardware) -> bool:
    """Whether the converter's range comes from data."""
    return hardware.adc.bits is not None and hardware.adc.range in ("calibrated", "learned")


def learns_steps(hardware: Hardware) -> bool:
    """Whether the converter's step is a parameter."""
    return hardware.adc.bits is not None and hardware.adc.range == "learned"


def check_adc_grad(adc_grad: str) -> str:
    """`adc_grad` if it is one.

    Raises:
        ValueError: For anything but "identity" and "clip".
    """
    if adc_grad not in ADC_GRADS:
        raise ValueError(f"adc_grad must be one of {', '.join(ADC_GRADS)}, got {adc_grad!r}")
    return adc_grad


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


def range_shape(hardware: Hardware, outputs: int | None) -> tuple[int, ...]:
    """Shape of the steps of one choice of bits: [slice], or [slice, output] where every column has its own.

    Args:
        hardware: The machine.
        outputs: Outputs of the layer; None where its matrix is written at run time, whose columns have no steps of
            their own.
    """
    if hardware.adc.granularity == "slice" or outputs is None:
        return (MAX_BITS,)
    return (hardware.weight_slices(MAX_BITS), outputs)  # not MAX_BITS: there are many columns


def empty_ranges(device: torch.device, shape: tuple[int, ...]) -> Tensor:
    """[weight bits, act bits, (lo, lsb), *range_shape]; a step of 0 marks what is not calibrated."""
    return torch.zeros(MAX_BITS, MAX_BITS, 2, *shape, device=device)


def empty_steps(device: torch.device, shape: tuple[int, ...]) -> Tensor:
    """[weight bits, act bits, *range_shape]: learned steps before calibration."""
    return torch.zeros(MAX_BITS, MAX_BITS, *shape, device=device)


def step_factors(
    hardware: Hardware, weight_bits: int, act_bits: int, outputs_per_sample: int, inputs: int, unit: Tensor
) -> Tensor:
    """What the gradient of each slice's step is multiplied with, [n_w]; for columns with units of their own [n_w, m].

    LSQ divides the gradient of a step by sqrt(values * largest code), where the step has the unit of the values (Esser
    et al., ICLR 2020, section 2.2). A converter's step counts levels, and a level of slice s under the top digit is
    worth u_s = unit * 2^(c*s) * 2^(d*(n_x-1)) in the layer's output: stated for the step in that unit, and turned back
    into levels, the rule divides by u_s^2 too. Values are the conversions of one sample that the step is used for.

    Args:
        hardware: Machine with a converter.
        weight_bits: Bits of a weight.
        act_bits: Bits of an activation.
        outputs_per_sample: Results of one sample that the step is used for.
        inputs: Inputs of the matrix.
        unit: What the integer 1 of the product is worth in the layer's output, [] or [m].
    """
    facts = mapping_facts(hardware)
    assert facts.codes is not None
    digits = hardware.input_digits(act_bits)
    conversions = outputs_per_sample * digits * -(-inputs // facts.inputs_per_tile)
    largest = max(1, facts.codes[2])
    slices = torch.arange(hardware.weight_slices(weight_bits), device=unit.device)
    worth = 2.0 ** (hardware.cell_bits * slices + hardware.dac_bits * (digits - 1))
    worth = unit * (worth if unit.dim() == 0 else worth.unsqueeze(1))
    factors: Tensor = 1.0 / (worth.square() * (conversions * largest) ** 0.5)
    return factors


def outputs_per_sample(x: Tensor, weight: Tensor, call: dict[str, Any]) -> int:
    """Results of one sample of a product: of a convolution where `call` has a stride, else of x @ w^T."""
    if "stride" not in call:
        return x[:1].numel() // x.shape[-1] * weight.shape[-2]
    sizes = x.shape[2:]
    results = weight.shape[0]
    for axis, size in enumerate(sizes):
        last = len(sizes) - 1 - axis  # paddings come from the last dimension on
        padded = size + call["padding"][2 * last] + call["padding"][2 * last + 1]
        stride, dilation = call["stride"][axis - len(sizes)], call["dilation"][axis - len(sizes)]
        results *= (padded - dilation * (weight.shape[2 + axis] - 1) - 1) // stride + 1
    return results


def trained_step(
    step: Tensor,
    hardware: Hardware,
    weight_bits: int,
    act_bits: int,
    x: Tensor,
    weight: Tensor,
    call: dict[str, Any],
    unit: Tensor,
) -> Tensor:
    """The steps [n_w] or [n_w, m] that training computes with: not below the smallest, gradient times `step_factors`.

    `unit` is what the integer 1 is worth in every output, [m], [1] or []; one for all columns takes the mean.
    """
    inputs = weight[0].numel() if "stride" in call else weight.shape[-1]
    outputs = outputs_per_sample(x, weight, call)
    if step.dim() == 2:
        outputs, unit = outputs // step.shape[1], unit.expand(step.shape[1])
    else:
        unit = unit.mean()
    outputs = max(1, outputs)
    factors = step_factors(hardware, weight_bits, act_bits, outputs, inputs, unit)
    return _Step.apply(step, factors)  # type: ignore[no-untyped-call,no-any-return]


class _Step(torch.autograd.Function):
    """max(step, smallest); gradient of the identity, times `factors`."""

    @staticmethod
    def forward(ctx: Any, step: Tensor, factors: Tensor) -> Tensor:
        ctx.save_for_backward(factors)
        return step.clamp_min(SMALLEST_STEP)

    @staticmethod
    def backward(ctx: Any, *grad: Any) -> Any:
        (factors,) = ctx.saved_tensors
        return grad[0] * factors, None


def take_sample(x: Tensor, call: dict[str, Any], method: str) -> AdcSample:
    """The first samples of a batch, as many as are needed."""
    x = x.detach() if x.dim() == 4 or "padding" in call else x.detach().reshape(-1, x.shape[-1])
    return AdcSample(x[: max(1, _SAMPLE_VALUES // max(1, x[0].numel()))].float().clone(), call, method)


def find_range(
    x_q: Tensor,
    w_q: Tensor,
    hardware: Hardware,
    weight_bits: int,
    act_bits: int,
    act_signed: bool,
    call: dict[str, Any],
    method: str,
    shape: tuple[int, ...],
) -> Tensor:
    """(lo, lsb), [2, *shape], for one choice of bits; see `range_shape`."""
    if len(shape) == 1 and hardware.adc.granularity == "column":
        hardware = hardware.replace(adc={"granularity": "slice"})
    lo, lsb = ops.calibrate_adc(
        x_q, w_q, hardware, weight_bits=weight_bits, act_bits=act_bits, act_signed=act_signed, method=method,
        **call,
    )  # fmt: skip
    found = torch.zeros(2, *shape, device=w_q.device)
    found[0, : len(lo)] = lo.to(found.device).float()
    found[1, : len(lsb)] = lsb.to(found.device).float()
    return found
