"""An fp32 model quantised as a converted one is: with its scales, bits, converter ranges and integer weights."""

from __future__ import annotations

import copy
import warnings
from typing import Any

import torch
from torch import Tensor, nn

from cimq.errors import CimqWarning
from cimq.quantization import CrossbarMatmul, QuantLayer, prepare, quant_layers
from cimq.quantization.conversion.converted import CrossbarLayer


def quantised_like(reference: nn.Module, converted: list[tuple[str, CrossbarLayer]]) -> nn.Module:
    """A copy of `reference`, prepared, whose layers quantise as those of the same names in a converted model do.

    Raises:
        ValueError: If `reference` lacks a layer, or one has another shape; names it.
    """
    if any(isinstance(module, QuantLayer) for module in reference.modules()):
        work = copy.deepcopy(reference)
    else:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", CimqWarning)  # what it leaves in fp32 was said of the converted model
            work = prepare(reference)
    own = dict(quant_layers(work))
    missing = [name for name, _ in converted if name not in own]
    if missing:
        raise ValueError(f"doctor: reference has no layer {', '.join(missing)}; it has {', '.join(own)}")
    for name, layer in converted:
        _take(own[name], layer)
    return work.eval()


@torch.no_grad()
def _take(layer: QuantLayer, source: CrossbarLayer) -> None:
    w, a = source.weight_bits - 1, source.act_bits - 1
    layer.weight_bits, layer.act_bits = source.weight_bits, source.act_bits
    layer.layer_index, layer.chip_seed = source.layer_index, source.chip_seed
    layer._adc_sample = None
    layer.set_hardware(source.network_hardware, machine=source.layer_machine)
    layer.act_scales[a] = source.x_scale
    layer._set_act_signed(source.act_signed)
    offsets: Any = None
    if source.correction is not None:
        offsets = nn.Parameter(torch.full_like(layer.act_scales, float(source.act_zero)))
    layer.register_parameter("act_offsets", offsets)
    if source.adc_lo is not None and source.adc_lsb is not None:
        slices = len(source.adc_lsb)
        layer.adc_ranges[w, a, 0, :slices], layer.adc_ranges[w, a, 1, :slices] = source.adc_lo, source.adc_lsb
        if layer.adc_lsb is not None:
            layer.adc_lsb[w, a, :slices] = source.adc_lsb
    if isinstance(source, CrossbarMatmul):
        layer.weight_scales[w] = source.w_scale
        return
    if source.weight_q.numel() != layer.weight.numel() or len(source.weight_q) != len(layer.weight):
        raise ValueError(
            f"doctor: layer {layer.layer_name!r} has a weight {list(layer.weight.shape)} in the reference and "
            f"{list(source.weight_q.shape)} in the model"
        )
    layer.weight_scales = nn.Parameter(layer.weight_scales.new_zeros(len(layer.weight_scales), len(source.w_scale)))
    layer.weight_scales[w] = source.w_scale
    integers = source.weight_q.reshape(layer.weight.shape)

    def integer_weight(weight: Tensor | None = None) -> Tensor:
        """Those of the converted model, whatever the reference's weights are."""
        return integers

    layer.integer_weight = integer_weight  # type: ignore[method-assign]
