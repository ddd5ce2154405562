"""`doctor`: where a prepared or converted model loses accuracy, layer by layer, and what to change."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn

from cimq.cell import Cell
from cimq.diagnosis.advice import findings
from cimq.diagnosis.converters import AdcRow, adc_diagnostics
from cimq.diagnosis.layer_products import MeasuredLayer, layer_products, quantised_input, quantised_output, without
from cimq.diagnosis.rows import DoctorRow
from cimq.diagnosis.scales_of_converted import quantised_like
from cimq.diagnosis.summary import Diagnosis
from cimq.hardware import Hardware
from cimq.quantization import quant_layers
from cimq.quantization.graph.refusals import check_device_of_quantised
from cimq.quantization.inspection import converted_layers, observing, observing_converted
from cimq.torch_tools.batches import ForwardFn, kept_random_state
from cimq.torch_tools.forward import default_forward, logits_of
from cimq.torch_tools.norms import norms_without_data

_CAUSES = ("act", "weight", "adc", "cell")


def doctor(
    model: nn.Module,
    loader: Iterable[Any],
    *,
    batches: int = 4,
    forward_fn: ForwardFn | None = None,
    reference: nn.Module | None = None,
) -> Diagnosis:
    """Tells per layer and weight slice where a prepared or converted model loses accuracy, and what to change.

    Every layer is measured with the inputs that the fp32 network gives it, so that its own error is not mixed with
    that of the layers before it. The model, its mode and the user's random state are left as they were.

    Args:
        model: A prepared and calibrated (or trained) model, or a converted one. A converted model has no fp32 weights:
            what its integer weights cost is not known without `reference`, and everything else is measured against
            the network of its integer weights.
        loader: Batches; see `calibrate`.
        batches: How many to use at most. The effect of single layers on the output is measured on the first one.
        forward_fn: See `calibrate`.
        reference: For a converted model, the fp32 (or prepared) model with the same layer names that everything is
            measured against. Weights that training moved away from it count as errors of the weights.

    Returns:
        Rows, counts of the converters, and findings; print it.

    Raises:
        ValueError: If the loader is empty, the model is not prepared or not calibrated, a layer is never called, or
            the reference lacks a layer.

    Example:
        >>> import torch, cimq
        >>> x = torch.rand(16, 4)
        >>> q = cimq.prepare(torch.nn.Linear(4, 2), cimq.Policy.uniform(8, 8), example_inputs=x)
        >>> found = cimq.doctor(q, [x])
        >>> found.findings, found.rows[0].weight_sqnr_db > 30
        ([], True)
        >>> cimq.doctor(cimq.convert(q), [x]).rows[0].weight_sqnr_db is None
        True
    """
    if batches < 1:
        raise ValueError(f"doctor: batches must be at least 1, got {batches}")
    check_device_of_quantised(model, "doctor")
    network = _Network.of(model, reference, forward_fn or default_forward)
    with kept_random_state(network.run, loaders=[loader]):
        data = list(itertools.islice(loader, batches))
    if not data:
        raise ValueError("doctor: the loader is empty")
    measured = {id(layer): _Measured() for _, layer in network.layers}

    def observe(layer: Any, x: Tensor, call: dict[str, Any], product: Callable[[], Tensor]) -> Tensor:
        y = product()
        if id(layer) in measured:
            measured[id(layer)].add(layer, x, call, y)
        return y

    expected = network.outputs(data, observe)
    unused = [name for name, layer in network.layers if not measured[id(layer)].called]
    if unused:
        raise ValueError(f"doctor: the model does not call {', '.join(unused)}")

    def output_sqnr(chosen: MeasuredLayer | None, machine: Hardware | None = None) -> float:
        def quantised(layer: Any, x: Tensor, call: dict[str, Any], product: Callable[[], Tensor]) -> Tensor:
            wanted = id(layer) in measured and (chosen is None or layer is chosen)
            return quantised_output(layer, x, call, machine) if wanted else product()

        some = data if chosen is None else data[:1]
        return _sqnr(expected, network.outputs(some, quantised))

    def row(name: str, layer: MeasuredLayer) -> DoctorRow:
        machine, alone = layer.hardware, output_sqnr(layer)
        converts, varies = not machine.replace(cell=Cell()).lossless, machine.cell != Cell()
        without_adc = output_sqnr(layer, without(machine, "adc")) if converts else alone
        without_cell = output_sqnr(layer, without(machine, "cell")) if varies else alone
        return measured[id(layer)].row(name, layer, (alone, without_adc, without_cell))

    rows = sorted((row(name, layer) for name, layer in network.layers), key=lambda row: row.output_sqnr_db)
    machines = {name: layer.hardware for name, layer in network.layers}
    converters: list[AdcRow] = []
    if all(machine.adc.bits is not None for machine in machines.values()):
        converters = adc_diagnostics(model, data, batches=batches, forward_fn=forward_fn)
    total = output_sqnr(None) if network.run is model else _sqnr(expected, network.outputs_of(model, data))
    found = findings(rows, converters, machines, norms_without_data(network.run))
    return Diagnosis(rows, converters, found, total)


class _Network:
    """What is run to measure, and the layers that are measured in it."""

    def __init__(
        self,
        run: nn.Module,
        layers: Sequence[tuple[str, MeasuredLayer]],
        observing: Callable[[nn.Module, Any], AbstractContextManager[None]],
        forward: ForwardFn,
    ) -> None:
        self.run = run
        self.layers = layers
        self.observing = observing
        self.forward = forward

    @classmethod
    def of(cls, model: nn.Module, reference: nn.Module | None, forward: ForwardFn) -> _Network:
        converted = converted_layers(model)
        if converted and reference is None:
            return cls(model, converted, observing_converted, forward)
        if converted and reference is not None:
            run = quantised_like(reference, converted)
            names = {name for name, _ in converted}
            return cls(run, [(name, layer) for name, layer in quant_layers(run) if name in names], observing, forward)
        layers = quant_layers(model)
        if reference is not None:
            raise ValueError("doctor: reference= is for a converted model; a prepared one has its fp32 weights")
        uncalibrated = [name for name, layer in layers if layer.act_signed is None]
        if uncalibrated:
            raise ValueError(
                f"doctor: not calibrated: {', '.join(uncalibrated)}; call cimq.calibrate(model, loader) first"
            )
        return cls(model, layers, observing, forward)

    def outputs(self, data: list[Any], observer: Any) -> list[Tensor]:
        """The outputs of the network, with `observer` in the place of its products."""
        with self.observing(self.run, observer), kept_random_state(self.run):
            return [_scores(self.forward(self.run, batch)) for batch in data]

    def outputs_of(self, model: nn.Module, data: list[Any]) -> list[Tensor]:
        """The outputs of a model as it is."""
        with torch.no_grad(), kept_random_state(model):
            return [_scores(self.forward(model, batch)) for batch in data]


class _Measured:
    """Sums of squares of one layer over all its calls."""

    def __init__(self) -> None:
        self.called = False
        # On the device of the model, which is asked for them at the end.
        self.signal: Tensor | float = 0.0
        self.errors: dict[str, Tensor | float | None] = dict.fromkeys((*_CAUSES, "all"), 0.0)
        self.clipped: Tensor | int = 0
        self.inputs = 0
        self.input_error: Tensor | float = 0.0
        self.clip_error: Tensor | float = 0.0
        self.codes = torch.zeros(0, dtype=torch.int64)

    def add(self, layer: MeasuredLayer, x: Tensor, call: dict[str, Any], y: Tensor) -> None:
        taken = quantised_input(layer, x)
        found = layer_products(layer, x, taken.x_hat, call, y)
        self.called = True
        self.signal += _power(found.exact)
        self._error("act", found.act - found.exact)
        self._error("weight", None if found.weight is None else found.weight - found.exact)
        self._error("adc", found.converted - found.digital)
        self._error("cell", found.real - found.converted)
        self._error("all", found.real - found.exact)
        self.clipped += taken.clipped.sum()
        self.inputs += x.numel()
        difference = taken.x_hat - x.float()
        self.input_error += _power(difference)
        self.clip_error += _power(difference * taken.clipped)
        counts = torch.bincount(taken.codes.flatten(), minlength=2**layer.act_bits)
        self.codes = counts if not len(self.codes) else self.codes + counts

    def _error(self, cause: str, difference: Tensor | None) -> None:
        before = self.errors[cause]
        self.errors[cause] = None if before is None or difference is None else before + _power(difference)

    def row(self, name: str, layer: MeasuredLayer, output_dbs: tuple[float, float, float]) -> DoctorRow:
        def ratio(cause: str) -> float:
            error = self.errors[cause]
            assert error is not None  # only that of the weights may be
            return _decibels(float(self.signal), float(error))

        known = {cause: ratio(cause) for cause in _CAUSES if self.errors[cause] is not None}
        return DoctorRow(
            layer=name,
            weight_bits=layer.weight_bits,
            act_bits=layer.act_bits,
            act_sqnr_db=known["act"],
            weight_sqnr_db=known.get("weight"),
            adc_sqnr_db=known["adc"],
            cell_sqnr_db=known["cell"],
            sqnr_db=ratio("all"),
            clipped_inputs=int(self.clipped) / max(1, self.inputs),
            clip_error=float(self.clip_error) / float(self.input_error) if self.input_error else 0.0,
            used_input_codes=float((self.codes > 0).double().mean()),
            output_sqnr_db=output_dbs[0],
            output_without_adc_db=output_dbs[1],
            output_without_cell_db=output_dbs[2],
            cause=min(known, key=lambda cause: known[cause]),
        )


def _scores(output: Any) -> Tensor:
    return logits_of(output, "doctor compares one tensor: pass forward_fn(model, batch) that gives it").float()


def _power(values: Tensor) -> Tensor:
    return values.double().square().sum()


def _sqnr(expected: list[Tensor], got: list[Tensor]) -> float:
    signal = error = 0.0
    for y, wanted in zip(got, expected, strict=False):  # `got` may be of the first batches only
        signal += float(_power(wanted))
        error += float(_power(y - wanted))
    return _decibels(signal, error)


def _decibels(signal: float, error: float) -> float:
    if error == 0.0:
        return math.inf
    return 10 * math.log10(signal / error) if signal > 0 else -math.inf
