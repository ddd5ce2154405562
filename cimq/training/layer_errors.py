"""`doctor`: where a prepared model loses accuracy, layer by layer, and what to change."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from cimq.cell import Cell
from cimq.cost_model import aligned_table
from cimq.hardware import Hardware
from cimq.quantization import (
    AdcRow,
    QuantLayer,
    QuantMatmul,
    adc_diagnostics,
    quant_layers,
)
from cimq.quantization.batches import ForwardFn, default_forward, kept_random_state
from cimq.quantization.inspection import observing
from cimq.training.advice import Finding, findings
from cimq.training.evaluation import logits_of

_CAUSES = ("act", "weight", "adc", "cell")


@dataclass(frozen=True)
class DoctorRow:
    """What one layer adds to the error, each cause by itself, for the inputs that the fp32 network gives it.

    Signal-to-noise ratios are 10 log10(sum of squares of the layer's fp32 product / sum of squared differences) in
    dB, inf without any difference.

    Attributes:
        layer: Name of the layer, as in a policy.
        weight_bits: Bits of its weight.
        act_bits: Bits of its input.
        act_sqnr_db: With the input quantised, the weight not.
        weight_sqnr_db: With the weight quantised, the input not.
        adc_sqnr_db: What the converters add to the digital product of the integers.
        cell_sqnr_db: What cells add (variation, stuck cells, drift, wires, reads) to ideal cells with those converters.
        sqnr_db: All of it.
        clipped_inputs: Share of the inputs beyond the largest or smallest integer of the activation scale.
        output_sqnr_db: Of the network's output when this layer alone is quantised; how much the layer matters.
        cause: The largest of the four: "act", "weight", "adc" or "cell".
    """

    layer: str
    weight_bits: int
    act_bits: int
    act_sqnr_db: float
    weight_sqnr_db: float
    adc_sqnr_db: float
    cell_sqnr_db: float
    sqnr_db: float
    clipped_inputs: float
    output_sqnr_db: float
    cause: str


@dataclass(frozen=True)
class Diagnosis:
    """What `doctor` found.

    Attributes:
        rows: One per layer, the one that disturbs the network's output most first.
        converters: One per layer and weight slice where all layers have converters; else empty.
        findings: What is wrong and what to change, the most harmful layer first; empty for a healthy model.
        output_sqnr_db: Of the network's output with every layer quantised.
    """

    rows: list[DoctorRow]
    converters: list[AdcRow]
    findings: list[Finding]
    output_sqnr_db: float

    def to_dict(self) -> dict[str, Any]:
        """Plain values; what is infinite is None, as JSON has no other way to say it."""
        return {key: _plain(value) for key, value in dataclasses.asdict(self).items()}

    def __str__(self) -> str:
        head = ["layer", "W", "A", "inputs dB", "weights dB", "ADC dB", "cells dB", "all dB", "output dB", "cause"]
        table = [head]
        for row in self.rows:
            values = [row.act_sqnr_db, row.weight_sqnr_db, row.adc_sqnr_db, row.cell_sqnr_db, row.sqnr_db]
            texts = [f"{value:.1f}" if math.isfinite(value) else "-" for value in (*values, row.output_sqnr_db)]
            table.append([row.layer, str(row.weight_bits), str(row.act_bits), *texts, row.cause])
        lines = [aligned_table(table), f"network output: {self.output_sqnr_db:.1f} dB with every layer quantised"]
        lines += [f"{finding.layer}: {finding.text}" for finding in self.findings] or ["nothing stands out"]
        return "\n".join(lines)


def doctor(
    model: nn.Module, loader: Iterable[Any], *, batches: int = 4, forward_fn: ForwardFn | None = None
) -> Diagnosis:
    """Tells per layer and weight slice where a prepared model loses accuracy, and what to change.

    Every layer is measured with the inputs that the fp32 network gives it, so that its own error is not mixed with
    that of the layers before it. The model, its mode and the user's random state are left as they were.

    Args:
        model: A prepared and calibrated (or trained) model. A converted one gives the same numbers as the prepared one
            that it came from, but has no fp32 weights to compare with.
        loader: Batches; see `calibrate`.
        batches: How many to use at most. The effect of single layers on the output is measured on the first one.
        forward_fn: See `calibrate`.

    Returns:
        Rows, counts of the converters, and findings; print it.

    Raises:
        ValueError: If the loader is empty, the model is not prepared or not calibrated, or a layer is never called.

    Example:
        >>> import torch, cimq
        >>> x = torch.rand(16, 4)
        >>> q = cimq.prepare(torch.nn.Linear(4, 2), cimq.Policy.uniform(8, 8), example_inputs=x)
        >>> found = cimq.doctor(q, [x])
        >>> found.findings, found.rows[0].weight_sqnr_db > 30
        ([], True)
    """
    if batches < 1:
        raise ValueError(f"doctor: batches must be at least 1, got {batches}")
    layers = quant_layers(model)
    uncalibrated = [name for name, layer in layers if layer.act_signed is None]
    if uncalibrated:
        raise ValueError(f"doctor: not calibrated: {', '.join(uncalibrated)}; call cimq.calibrate(model, loader) first")
    forward = forward_fn or default_forward
    data = list(itertools.islice(loader, batches))
    if not data:
        raise ValueError("doctor: the loader is empty")
    measured = {id(layer): _Measured() for _, layer in layers}

    def observe(layer: QuantLayer, x: Tensor, call: dict[str, Any], product: Callable[[], Tensor]) -> Tensor:
        y = product()
        measured[id(layer)].add(layer, x, call, y)
        return y

    with observing(model, observe), kept_random_state(model):
        reference = [logits_of(forward(model, batch)).float() for batch in data]
    unused = [name for name, layer in layers if measured[id(layer)].signal == 0 and not measured[id(layer)].inputs]
    if unused:
        raise ValueError(f"doctor: the model does not call {', '.join(unused)}")

    def output_sqnr(chosen: QuantLayer | None, some: list[Any]) -> float:
        def quantised(layer: QuantLayer, x: Tensor, call: dict[str, Any], product: Callable[[], Tensor]) -> Tensor:
            return _quantised(layer, x, call) if chosen is None or layer is chosen else product()

        signal = error = 0.0
        with observing(model, quantised), kept_random_state(model):
            for batch, expected in zip(some, reference, strict=False):
                y = logits_of(forward(model, batch)).float()
                signal += _power(expected)
                error += _power(y - expected)
        return _decibels(signal, error)

    rows = [measured[id(layer)].row(name, layer, output_sqnr(layer, data[:1])) for name, layer in layers]
    rows.sort(key=lambda row: row.output_sqnr_db)
    converters: list[AdcRow] = []
    if all(layer.hardware.adc.bits is not None for _, layer in layers):
        converters = adc_diagnostics(model, data, batches=batches, forward_fn=forward_fn)
    machines = {name: layer.hardware for name, layer in layers}
    return Diagnosis(rows, converters, findings(rows, converters, machines), output_sqnr(None, data))


class _Measured:
    """Sums of squares of one layer over all its calls."""

    def __init__(self) -> None:
        self.signal = 0.0
        self.errors = dict.fromkeys((*_CAUSES, "all"), 0.0)
        self.clipped = 0
        self.inputs = 0

    def add(self, layer: QuantLayer, x: Tensor, call: dict[str, Any], y: Tensor) -> None:
        weight, bias = _operands(layer, call)
        x_q, zero = layer.quantize_input(x), layer.act_zero
        x_hat = (x_q.float() + (0 if zero is None else zero)) * layer.act_scale
        scale = (
            layer.weight_scale.reshape((-1,) + (1,) * (layer.weight.dim() - 1))
            if _own(layer)
            else layer._weight_scale()
        )
        w_hat = layer.integer_weight(weight).float() * scale
        machine = layer.hardware
        ideal_cells = machine.replace(cell=Cell())
        digital = layer._float_product(x_hat, w_hat, bias, call)
        converted = digital if ideal_cells.lossless else _quantised(layer, x, call, ideal_cells)
        result = converted if machine == ideal_cells else _quantised(layer, x, call)
        y = y.float()
        self.signal += _power(y)
        self.errors["act"] += _power(layer._float_product(x_hat, weight, bias, call) - y)
        self.errors["weight"] += _power(layer._float_product(x.float(), w_hat, bias, call) - y)
        self.errors["adc"] += _power(converted - digital)
        self.errors["cell"] += _power(result - converted)
        self.errors["all"] += _power(result - y)
        low, high = layer.act_limits()
        scaled = x.float() / layer.act_scale - (0 if zero is None else zero)
        self.clipped += int(((scaled < low - 0.5) | (scaled > high + 0.5)).sum())
        self.inputs += x.numel()

    def row(self, name: str, layer: QuantLayer, output_sqnr_db: float) -> DoctorRow:
        ratios = {cause: _decibels(self.signal, error) for cause, error in self.errors.items()}
        return DoctorRow(
            layer=name,
            weight_bits=layer.weight_bits,
            act_bits=layer.act_bits,
            act_sqnr_db=ratios["act"],
            weight_sqnr_db=ratios["weight"],
            adc_sqnr_db=ratios["adc"],
            cell_sqnr_db=ratios["cell"],
            sqnr_db=ratios["all"],
            clipped_inputs=self.clipped / self.inputs if self.inputs else 0.0,
            output_sqnr_db=output_sqnr_db,
            cause=min(_CAUSES, key=lambda cause: ratios[cause]),
        )


def _own(layer: QuantLayer) -> bool:
    """Whether the layer has a weight of its own, not one that is written at run time."""
    return not isinstance(layer, QuantMatmul)


def _operands(layer: QuantLayer, call: dict[str, Any]) -> tuple[Tensor, Tensor | None]:
    return (layer.weight, layer.bias) if _own(layer) else (call["operand"], None)


def _quantised(layer: QuantLayer, x: Tensor, call: dict[str, Any], machine: Hardware | None = None) -> Tensor:
    """The layer's quantised product, on its machine or another with the same converters."""
    weight, bias = _operands(layer, call)
    with _on_machine(layer, machine or layer.hardware):
        return layer._integer_product(x, weight, bias, call, None)


@contextmanager
def _on_machine(layer: QuantLayer, machine: Hardware) -> Iterator[None]:
    before, layer.hardware = layer.hardware, machine
    try:
        yield
    finally:
        layer.hardware = before


def _power(values: Tensor) -> float:
    return float(values.double().square().sum())


def _decibels(signal: float, error: float) -> float:
    if error == 0.0:
        return math.inf
    return 10 * math.log10(signal / error) if signal > 0 else -math.inf


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
