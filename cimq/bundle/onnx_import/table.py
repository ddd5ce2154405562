"""The operators that can be read -> what makes nodes of a bundle of them."""

from __future__ import annotations

from collections.abc import Callable

from cimq.bundle.onnx_import import elementwise, layers, normalization, pooling, quantise, shapes
from cimq.bundle.onnx_import.building import Operation
from cimq.bundle.onnx_import.values import Known

Handler = Callable[[Operation], Known | list[Known]]

HANDLERS: dict[str, Handler] = {
    "QuantizeLinear": quantise.quantize,
    "DequantizeLinear": quantise.dequantize,
    "com.microsoft.QuantizeLinear": quantise.quantize,
    "com.microsoft.DequantizeLinear": quantise.dequantize,
    # layers
    "Conv": layers.conv,
    "Gemm": layers.gemm,
    "MatMul": layers.matmul,
    # single values
    "Identity": elementwise.same,
    "Dropout": elementwise.dropout,
    "Cast": elementwise.cast,
    "Relu": elementwise.relu,
    "Clip": elementwise.clip,
    "Sigmoid": elementwise.function("sigmoid"),
    "Tanh": elementwise.function("tanh"),
    "Erf": elementwise.function("erf"),
    "Sqrt": elementwise.function("sqrt"),
    "HardSigmoid": elementwise.hard_sigmoid,
    "HardSwish": elementwise.function("hardswish"),
    "LeakyRelu": elementwise.leaky_relu,
    "PRelu": elementwise.prelu,
    "Elu": elementwise.elu,
    "Gelu": elementwise.gelu,
    "com.microsoft.Gelu": elementwise.gelu,
    "Swish": elementwise.swish,
    "Neg": elementwise.negated,
    "Abs": elementwise.absolute,
    "Reciprocal": elementwise.reciprocal,
    "Pow": elementwise.power,
    # two values, or several
    "Add": elementwise.binary("add"),
    "Sub": elementwise.binary("sub"),
    "Mul": elementwise.binary("mul"),
    "Div": elementwise.binary("div"),
    "Sum": elementwise.binary("add"),
    "Max": elementwise.binary("maximum"),
    "Min": elementwise.binary("minimum"),
    # normalisation
    "BatchNormalization": normalization.batch_norm,
    "LayerNormalization": normalization.layer_norm,
    "GroupNormalization": normalization.group_norm,
    "InstanceNormalization": normalization.instance_norm,
    "Softmax": normalization.softmax,
    "LogSoftmax": normalization.softmax,
    # pooling and reductions
    "MaxPool": pooling.max_pool,
    "AveragePool": pooling.average_pool,
    "GlobalAveragePool": pooling.global_average_pool,
    "GlobalMaxPool": pooling.global_max_pool,
    "ReduceMean": pooling.reduce_mean,
    "ReduceSum": pooling.reduce_sum,
    "ReduceMax": pooling.reduce_max,
    "Resize": pooling.resize,
    # what moves values
    "Shape": shapes.shape_of,
    "Reshape": shapes.reshape,
    "Flatten": shapes.flatten,
    "Squeeze": shapes.squeeze,
    "Unsqueeze": shapes.unsqueeze,
    "Transpose": shapes.transpose,
    "DepthToSpace": shapes.depth_to_space,
    "SpaceToDepth": shapes.space_to_depth,
    "Slice": shapes.slice_,
    "Split": shapes.split,
    "Gather": shapes.gather,
    "Concat": shapes.concat,
    "Expand": shapes.expand,
    "Tile": shapes.tile,
    "Pad": shapes.pad,
}

TAKES_CONSTANTS = frozenset({"Expand"})
"""Those that also know what to do where no input depends on the run."""

_QDQ = "quantise to the QDQ format (onnxruntime: quant_format=QuantFormat.QDQ), which keeps Conv, Gemm and MatMul"
_STATIC = "quantise statically, with calibrated scales"

ADVICE: dict[str, str] = {
    "QLinearConv": _QDQ,
    "QLinearMatMul": _QDQ,
    "ConvInteger": _QDQ,
    "MatMulInteger": _QDQ,
    "DynamicQuantizeLinear": _STATIC,
    "com.microsoft.QLinearAdd": _QDQ,
    "com.microsoft.QGemm": _QDQ,
    "com.microsoft.MatMulNBits": "write weights as DequantizeLinear (quant_format=QDQ) with one scale per output",
    "com.microsoft.FusedConv": "save the model before it is optimised",
    "com.microsoft.FastGelu": "write it as Gelu with approximate='tanh' (opset 20)",
    "Attention": "export with opset 22 or less, which writes products, softmax and scaling one by one",
    "ConvTranspose": "crossbars hold convolutions; upsample with Resize and a Conv",
    "If": "export the model without branches",
    "Loop": "export the model without loops",
    "Scan": "export the model without loops",
    "LSTM": "recurrent layers have no form in a bundle",
    "GRU": "recurrent layers have no form in a bundle",
    "RNN": "recurrent layers have no form in a bundle",
}
"""What to do about operators that people meet."""
