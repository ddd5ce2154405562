"""Layers with weights, on crossbars and in float32. Their ONNX nodes and bounds are in `onnx_model`, `onnx_check`."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch import Tensor

from cimq.bundle.network import CrossbarFacts, Node, as_int8
from cimq.bundle.operations.registry import Call, Operation, RefusedError, pair
from cimq.layer_machine import differing
from cimq.quantization.conversion.converted import CrossbarConv1d, CrossbarConv2d, CrossbarLayer, CrossbarLinear
from cimq.quantization.conversion.converted_attention import CrossbarMatmul
from cimq.quantization.conversion.fp32_layers import Conv2dF32, LinearF32
from cimq.quantization.layers.products import operand_multiplier


def _conv_attrs(module: Any, kernel: tuple[int, int]) -> dict[str, Any]:
    stride, padding, dilation, groups = module.geometry
    return {
        "kernel": list(kernel),
        "stride": list(stride),
        "padding": list(padding),
        "dilation": list(dilation),
        "groups": groups,
    }


def _crossbar(call: Call) -> list[Node]:
    module: CrossbarLayer = call.module
    conv = isinstance(module, CrossbarConv2d)
    if isinstance(module, CrossbarConv1d) and len(call.in_shape) == 2:
        return _one_row(call)
    if conv and len(call.in_shape) != 3:
        raise RefusedError(f"a convolution needs [B, C, H, W], got {len(call.in_shape)} dimensions beside the batch")
    weight = as_int8(module.weight_q)
    groups = module.geometry.groups if isinstance(module, CrossbarConv2d) else 1
    invocations = 1
    for size in call.shape[1:] if conv else call.in_shape[:-1]:
        invocations *= size
    tensors = {
        "weight": weight,
        "x_scale": module.x_scale.float().reshape(()),
        "multiplier": module.multiplier.float(),
        "bias": module.bias.float(),
    }
    tensors |= _ranges(module)
    facts = _facts(
        module,
        outputs=weight.shape[0] // groups,
        inputs_per_output=weight[0].numel(),
        invocations=invocations,
        repeats=groups,
    )
    attrs = _conv_attrs(module, pair(weight.shape[-2:])) if conv else {}
    op = "crossbar_conv2d" if conv else "crossbar_linear"
    return call.node(op, attrs, tensors=tensors, crossbar=facts)


def _facts(
    module: CrossbarLayer, *, outputs: int, inputs_per_output: int, invocations: int, repeats: int
) -> CrossbarFacts:
    """Of a layer whose product has these sizes."""
    return CrossbarFacts(
        layer_name=module.layer_name,
        layer_index=module.layer_index,
        weight_bits=module.weight_bits,
        act_bits=module.act_bits,
        act_signed=module.act_signed,
        outputs=outputs,
        inputs_per_output=inputs_per_output,
        invocations=invocations,
        repeats=repeats,
        act_zero=module.act_zero,
        machine=differing(module.network_hardware, module.layer_machine),
    )


def _ranges(module: CrossbarLayer) -> dict[str, Tensor]:
    """Of the converters, where they come from data."""
    if module.adc_lsb is None or module.adc_lo is None:
        return {}
    return {"adc_lo": module.adc_lo.to(torch.int32), "adc_lsb": module.adc_lsb.to(torch.float64)}


def _matmul(call: Call) -> list[Node]:
    module: CrossbarMatmul = call.module
    if len(call.inputs) != 2 or any(len(shape) != 3 for shape in call.shapes):
        raise RefusedError("a product of two values needs [B, heads, rows, inputs] and [B, heads, outputs, inputs]")
    factor = float(call.rest[1]) if len(call.rest) > 1 else 1.0
    tensors = {
        "x_scale": module.x_scale.float().reshape(()),
        "w_scale": module.w_scale.float().reshape(()),
        "multiplier": operand_multiplier(module.x_scale, module.w_scale, factor).reshape(()),
    }
    (repeats, invocations, inputs), (_, outputs, _) = call.shapes
    facts = _facts(
        module,
        outputs=outputs,
        inputs_per_output=inputs,
        invocations=invocations,
        repeats=repeats,
    )
    return call.node("crossbar_matmul", tensors=tensors | _ranges(module), crossbar=facts)


def _one_row(call: Call) -> list[Node]:
    """A 1-D convolution as the 2-D one of an image with one row."""
    (channels, length), (outputs, out_length) = call.in_shape, call.shape
    before = Node(f"{call.name}.row", "reshape", call.inputs, (channels, 1, length))
    name = f"{call.name}.conv"
    inner = dataclasses.replace(
        call, name=name, inputs=(before.name,), in_shape=before.shape, shape=(outputs, 1, out_length)
    )
    return [before, *_crossbar(inner), Node(call.name, "reshape", (name,), call.shape)]


def _dense(call: Call) -> list[Node]:
    module = call.module
    tensors = {"weight": module.weight.float()}
    if module.bias is not None:
        tensors["bias"] = module.bias.float()
    if isinstance(module, LinearF32):
        return call.node("linear_f32", tensors=tensors)
    if len(call.in_shape) != 3:
        raise RefusedError("a convolution needs [B, C, H, W]")
    return call.node("conv2d_f32", _conv_attrs(module, pair(module.weight.shape[-2:])), tensors=tensors)


ROWS: tuple[Operation, ...] = (
    Operation("crossbar_conv2d", {CrossbarConv2d: _crossbar, CrossbarConv1d: _crossbar}, bound=None),
    Operation("crossbar_linear", {CrossbarLinear: _crossbar}, bound=None),
    Operation("crossbar_matmul", {CrossbarMatmul: _matmul}, bound=None),
    Operation("conv2d_f32", {Conv2dF32: _dense}, bound=None),
    Operation("linear_f32", {LinearF32: _dense}, bound=None),
)
