"""The output of one layer with one cause of error after the other: what `doctor` compares."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor

from cimq.cell import Cell
from cimq.hardware import Hardware
from cimq.quantization import CrossbarMatmul, QuantLayer, QuantMatmul
from cimq.quantization.conversion.converted import CrossbarLayer

MeasuredLayer = QuantLayer | CrossbarLayer


class LayerProducts(NamedTuple):
    """Outputs of a layer for one input.

    Attributes:
        exact: Nothing quantised (the weight is, where its fp32 values are not known).
        act: The input quantised, the weight as in `exact`.
        weight: The weight quantised, the input not; None where the fp32 weight is not known.
        digital: Both quantised, converters and cells ideal.
        converted: The same with the converters.
        real: And with the cells.
    """

    exact: Tensor
    act: Tensor
    weight: Tensor | None
    digital: Tensor
    converted: Tensor
    real: Tensor


class QuantisedInput(NamedTuple):
    """An input and its integers.

    Attributes:
        x_hat: The input on its grid.
        codes: Its integers, counted from the smallest, int64.
        clipped: Where the input lies beyond the smallest or largest integer.
    """

    x_hat: Tensor
    codes: Tensor
    clipped: Tensor


def quantised_input(layer: MeasuredLayer, x: Tensor) -> QuantisedInput:
    """The input as the crossbar gets it."""
    quantiser = layer.input_quantiser()
    x_q, zero = layer.quantize_input(x), quantiser.zero
    offset = 0 if zero is None else int(zero)
    scaled = x.float() / quantiser.scale - offset
    clipped = (scaled < quantiser.low - 0.5) | (scaled > quantiser.high + 0.5)
    return QuantisedInput((x_q.float() + offset) * quantiser.scale, x_q.long() - quantiser.low, clipped)


def layer_products(
    layer: MeasuredLayer, x: Tensor, x_hat: Tensor, call: dict[str, Any], exact: Tensor
) -> LayerProducts:
    """The outputs of an observed call: `exact` is what the observed network has computed."""
    ideal_cells = layer.hardware.replace(cell=Cell())
    if isinstance(layer, QuantLayer):
        operand = isinstance(layer, QuantMatmul)
        weight, bias = (call["operand"], None) if operand else layer.operands()
        w_hat = layer.integer_weight(weight).float() * layer.weight_quantiser().scale_for(weight)
        act = layer._float_product(x_hat, weight, bias, call)
        weight_only: Tensor | None = layer._float_product(x.float(), w_hat, bias, call)
        digital = layer._float_product(x_hat, w_hat, bias, call)
    elif isinstance(layer, CrossbarMatmul):
        quantised = {**call, "operand": layer.quantised_operand(call["operand"])}
        act, weight_only = layer.float_output(x_hat, call), layer.float_output(x.float(), quantised)
        digital = layer.float_output(x_hat, quantised)
    else:
        act = digital = layer.float_output(x_hat, call)
        weight_only = None
    converted = digital if ideal_cells.lossless else quantised_output(layer, x, call, ideal_cells)
    real = converted if layer.hardware == ideal_cells else quantised_output(layer, x, call)
    return LayerProducts(exact.float(), act, weight_only, digital, converted, real)


@torch.no_grad()
def quantised_output(layer: MeasuredLayer, x: Tensor, call: dict[str, Any], machine: Hardware | None = None) -> Tensor:
    """The layer's output from integers, on its machine or another with the same converters or ideal ones."""
    with _on_machine(layer, machine or layer.hardware):
        if isinstance(layer, CrossbarLayer):
            return layer.output(x, call)
        weight, bias = (call["operand"], None) if isinstance(layer, QuantMatmul) else layer.operands()
        return layer._integer_product(x, weight, bias, call, None)


def without(machine: Hardware, effect: str) -> Hardware:
    """A machine whose converters ("adc") or cells ("cell") are ideal."""
    changes: Mapping[str, Any] = {"adc": {"bits": None}} if effect == "adc" else {"cell": Cell()}
    return machine.replace(**changes)


@contextmanager
def _on_machine(layer: MeasuredLayer, machine: Hardware) -> Iterator[None]:
    before, layer.hardware = layer.hardware, machine
    try:
        yield
    finally:
        layer.hardware = before
