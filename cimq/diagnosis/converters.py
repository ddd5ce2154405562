"""What the converters of a prepared or converted model do with data: one row per layer and weight slice."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from cimq.hardware import Hardware
from cimq.ops.conversion_counts import ConversionCounts, count_product
from cimq.quantization.conversion.converted import CrossbarLayer
from cimq.quantization.graph.refusals import check_device_of_quantised
from cimq.quantization.inspection import converted_layers
from cimq.quantization.layers.numbering import quant_layers
from cimq.quantization.layers.quant_layer import QuantLayer
from cimq.torch_tools.batches import ForwardFn, kept_random_state
from cimq.torch_tools.forward import default_forward
from cimq.torch_tools.modes import in_evaluation


@dataclass(frozen=True)
class AdcRow:
    """Converters of one weight slice of one layer.

    Attributes:
        layer: Name of the layer, as in a policy.
        slice: Weight slice; 0 holds the lowest bits.
        weight_bits: Bits of the layer's weight.
        act_bits: Bits of the layer's input.
        conversions: Conversions that were counted.
        clip_low: Share of them whose code was raised to the smallest.
        clip_high: Share of them whose code was lowered to the largest.
        used_codes: Share of the codes that occur.
        current_min: Smallest current in level steps.
        current_max: Largest current in level steps.
        conversion_mse: Mean squared error of a conversion in squared level steps.
        error_share: Share of the layer's conversion errors, squared and in units of the result, that this slice makes;
            0 without any.
        layer_mse: Mean squared difference of the layer's integer result and the digital value; the same in all rows
            of a layer.
        layer_max_error: Largest such difference.
        layer_sqnr_db: Signal-to-quantisation-noise ratio of the layer's integer result; inf without any difference.
    """

    layer: str
    slice: int
    weight_bits: int
    act_bits: int
    conversions: int
    clip_low: float
    clip_high: float
    used_codes: float
    current_min: float
    current_max: float
    conversion_mse: float
    error_share: float
    layer_mse: float
    layer_max_error: float
    layer_sqnr_db: float


@torch.no_grad()
def adc_diagnostics(
    model: nn.Module, loader: Iterable[Any], *, batches: int = 8, forward_fn: ForwardFn | None = None
) -> list[AdcRow]:
    """Runs data through a prepared or converted model in evaluation and counts what every converter does.

    The model computes as it would in evaluation, so that each layer sees the errors of those before it. Its mode and
    the user's random state are kept.

    Args:
        model: A prepared and calibrated model, or a converted one, on hardware with converters.
        loader: Batches; see `calibrate`.
        batches: How many to use at most.
        forward_fn: See `calibrate`.

    Returns:
        One row per layer, in policy order, and weight slice. A layer that is called several times is one layer.

    Raises:
        ValueError: If the loader is empty, a layer is never called, or converters are ideal; names the layer.

    Example:
        >>> import torch, cimq
        >>> from cimq.quantization import adc_diagnostics
        >>> hw = cimq.Hardware.preset("paper").replace(adc={"bits": 8})
        >>> x = torch.rand(16, 4)
        >>> q = cimq.prepare(torch.nn.Linear(4, 2), cimq.Policy.uniform(4, 4), hw, example_inputs=x)
        >>> [(row.layer, row.slice, row.conversions, row.clip_high) for row in adc_diagnostics(q, [(x, None)])]
        [('model', 0, 128, 0.0)]
    """
    check_device_of_quantised(model, "adc_diagnostics")
    layers: Sequence[tuple[str, QuantLayer | CrossbarLayer]] = converted_layers(model) or quant_layers(model)
    ideal = [name for name, layer in layers if layer.hardware.adc.bits is None]
    if ideal:
        raise ValueError(f"adc_diagnostics: the hardware has ideal converters (adc.bits None) in {', '.join(ideal)}")
    found: dict[int, ConversionCounts] = {}

    def probe(
        layer: QuantLayer | CrossbarLayer,
        x: Tensor,
        w: Tensor,
        machine: Hardware,
        arguments: dict[str, Any],
        y: Tensor,
    ) -> None:
        counts = count_product(x, w, machine, arguments, y)
        if id(layer) in found:
            found[id(layer)].add(counts)
        else:
            found[id(layer)] = counts

    used = 0
    try:
        for _, layer in layers:
            layer._probe = probe
        with in_evaluation(model), kept_random_state(model, loaders=[loader]):
            for batch in itertools.islice(loader, batches):
                (forward_fn or default_forward)(model, batch)
                used += 1
    finally:
        for _, layer in layers:
            layer._probe = None
    if used == 0:
        raise ValueError("adc_diagnostics: the loader is empty")
    unused = [name for name, layer in layers if id(layer) not in found]
    if unused:
        raise ValueError(f"adc_diagnostics: the model does not call {', '.join(unused)}")
    return [row for name, layer in layers for row in _rows(name, layer, found[id(layer)])]


def _rows(name: str, layer: QuantLayer | CrossbarLayer, counts: ConversionCounts) -> list[AdcRow]:
    # A level of slice s is worth 2^(cell_bits * s) in the result.
    worth = 4.0 ** (layer.hardware.cell_bits * torch.arange(len(counts.clipped), dtype=torch.float64))
    errors = counts.conversion_mse.cpu() * worth
    shares = errors / errors.sum().clamp_min(1e-300)
    return [
        AdcRow(
            layer=name,
            slice=s,
            weight_bits=layer.weight_bits,
            act_bits=layer.act_bits,
            conversions=counts.conversions,
            clip_low=float(counts.clip_low[s]),
            clip_high=float(counts.clip_high[s]),
            used_codes=float(counts.used_codes[s]),
            current_min=float(counts.currents[s, 0]),
            current_max=float(counts.currents[s, 1]),
            conversion_mse=float(counts.conversion_mse[s]),
            error_share=float(shares[s]),
            layer_mse=counts.mse,
            layer_max_error=counts.largest_error,
            layer_sqnr_db=counts.sqnr_db,
        )
        for s in range(len(counts.clipped))
    ]
