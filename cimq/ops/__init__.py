"""Operators: LSQ fake quantisation, crossbar products, and the float32 layers that executor and PyTorch share.

Each function wraps `torch.ops.cimq.<name>` (a registered operator with schema, fake kernel and autograd) and holds its
documentation. The numbers are defined in docs/numbers.md.
"""

from __future__ import annotations

from cimq.ops import _notices as _notices  # turns what operators have to say into warnings
from cimq.ops import fakes as fakes  # registers the fake kernels
from cimq.ops.caches import clear_caches
from cimq.ops.conversion_counts import AdcDiagnostics, ConversionCounts, crossbar_diagnostics
from cimq.ops.converter_ranges import calibrate_adc
from cimq.ops.crossbar import crossbar_conv2d, crossbar_mvm
from cimq.ops.layers import activation, conv2d_f32, linear_f32
from cimq.ops.normalization import group_norm, layer_norm, softmax
from cimq.ops.pooling import adaptive_avg_pool2d, avg_pool2d, mean, resize2d
from cimq.ops.quantizers import fake_quantize, quantize
from cimq.ops.training import fake_quantized_conv2d, has_integer_convolutions

__all__ = [
    "AdcDiagnostics",
    "ConversionCounts",
    "activation",
    "adaptive_avg_pool2d",
    "avg_pool2d",
    "calibrate_adc",
    "clear_caches",
    "conv2d_f32",
    "crossbar_conv2d",
    "crossbar_diagnostics",
    "crossbar_mvm",
    "fake_quantize",
    "fake_quantized_conv2d",
    "group_norm",
    "has_integer_convolutions",
    "layer_norm",
    "linear_f32",
    "mean",
    "quantize",
    "resize2d",
    "softmax",
]
