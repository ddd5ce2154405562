"""Quantisation of PyTorch models for crossbars.

The way through, each step usable on its own:

    q = cimq.prepare(model, cimq.Policy.uniform(4, 4), hardware="paper")   # nn.Conv2d, nn.Linear -> quantised layers
    cimq.calibrate(q, loader)                        # activation scales and signs from data, for all bit widths
    cimq.set_policy(q, policy)                       # switch bits, as often as wanted
    optimizer = torch.optim.SGD(cimq.param_groups(q, lr=0.01, weight_decay=1e-4), momentum=0.9)
    ...                                              # any training loop; or cimq.finetune(q, loader, ...)
    cimq.reestimate_bn(q, loader)                    # batch statistics of the trained network
    integer_model = cimq.convert(q, sample_input=x)  # batch normalisation folded, integer products

What is where: `quantizers` has ranges and the scale search, `offsets` zero points, `layer_scales` the scales of a
layer, `quant_layer` its computation, `layers` the quantised layers, `attention` the products of two activations,
`functional` products made by function calls, `products` the integer products, `preparation` the replacement,
`calibration` scales from data, `inspection` what can be asked of a prepared model and switched in it, `diagnostics`
what its converters do with data, `exact` the operations whose order of additions is fixed.

A prepared model in evaluation gives what `convert` gives, bit for bit (float32 on the CPU, called through its root, not
compiled). In evaluation it needs no gradient; run it under `torch.no_grad()`, or it computes a second, differentiable
product for each layer.
"""

from __future__ import annotations

from cimq.quantization.attention import QuantMatmul, QuantMultiheadAttention
from cimq.quantization.calibration import calibrate, calibrate_converters, reestimate_bn
from cimq.quantization.conversion import convert, layer_outputs
from cimq.quantization.converted import CrossbarConv1d, CrossbarConv2d, CrossbarLinear
from cimq.quantization.converted_attention import CrossbarMatmul, CrossbarMultiheadAttention
from cimq.quantization.diagnostics import AdcRow, adc_diagnostics
from cimq.quantization.inspection import (
    get_policy,
    layer_shapes,
    param_groups,
    quant_layers,
    set_chip,
    set_hardware,
    set_policy,
)
from cimq.quantization.layers import QuantConv1d, QuantConv2d, QuantLinear
from cimq.quantization.preparation import prepare
from cimq.quantization.quant_layer import QuantLayer

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
