"""Quantisation of PyTorch models for crossbars.

The way through, each step usable on its own:

    q = cimq.prepare(model, cimq.Policy.uniform(4, 4), hardware="paper")   # nn.Conv2d, nn.Linear -> quantised layers
    cimq.calibrate(q, loader)                        # activation scales and signs from data, for all bit widths
    cimq.set_policy(q, policy)                       # switch bits, as often as wanted
    optimizer = torch.optim.SGD(cimq.param_groups(q, lr=0.01, weight_decay=1e-4), momentum=0.9)
    ...                                              # any training loop; or cimq.finetune(q, loader, ...)
    cimq.reestimate_bn(q, loader)                    # batch statistics of the trained network
    integer_model = cimq.convert(q, sample_input=x)  # batch normalisation folded, integer products

What is where, each knowing only those before it: `quantisers` (scales, zero points, ranges of converters), `exact` (the
operations whose order of additions is fixed), `layers` (the quantised layers and their integer products), `graph` (what
torch.fx reads of a model, and its one form), `conversion` (the integer model); then `inspection` (what can be asked of
a prepared model and switched in it), `calibration` (scales from data), `batch_statistics` and `preparation` (the
replacement). What converters do with data is in `cimq.diagnosis`, and handed on here.

A prepared model in evaluation gives what `convert` gives, bit for bit (float32, called through its root, not
compiled). In evaluation it needs no gradient; run it under `torch.no_grad()`, or it computes a second, differentiable
product for each layer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cimq.quantization.batch_statistics import reestimate_bn
from cimq.quantization.calibration import calibrate, calibrate_converters
from cimq.quantization.conversion.converted import CrossbarConv1d, CrossbarConv2d, CrossbarLinear
from cimq.quantization.conversion.converted_attention import CrossbarMatmul, CrossbarMultiheadAttention
from cimq.quantization.conversion.rewriting import convert, layer_outputs
from cimq.quantization.inspection import get_policy, layer_shapes, param_groups, set_chip, set_hardware, set_policy
from cimq.quantization.layers.attention import QuantMultiheadAttention
from cimq.quantization.layers.matmul import QuantMatmul
from cimq.quantization.layers.numbering import quant_layers
from cimq.quantization.layers.quant_layer import QuantLayer
from cimq.quantization.layers.weighted import QuantConv1d, QuantConv2d, QuantLinear
from cimq.quantization.preparation import prepare

if TYPE_CHECKING:
    from cimq.diagnosis.converters import AdcRow as AdcRow
    from cimq.diagnosis.converters import adc_diagnostics as adc_diagnostics

__all__ = [
    "AdcRow",
    "CrossbarConv1d",
    "CrossbarConv2d",
    "CrossbarLinear",
    "CrossbarMatmul",
    "CrossbarMultiheadAttention",
    "QuantConv1d",
    "QuantConv2d",
    "QuantLayer",
    "QuantLinear",
    "QuantMatmul",
    "QuantMultiheadAttention",
    "adc_diagnostics",
    "calibrate",
    "calibrate_converters",
    "convert",
    "get_policy",
    "layer_outputs",
    "layer_shapes",
    "param_groups",
    "prepare",
    "quant_layers",
    "reestimate_bn",
    "set_chip",
    "set_hardware",
    "set_policy",
]


def __getattr__(name: str) -> Any:
    if name in ("AdcRow", "adc_diagnostics"):  # on demand: diagnosis stands above this package
        from cimq.diagnosis import converters

        return getattr(converters, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
