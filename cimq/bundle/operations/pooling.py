"""Pooling."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch.nn.functional as F

from cimq import ops
from cimq.bundle.network import Node, window_shape
from cimq.bundle.operations.registry import UNIT_ROUNDOFF, Call, OnnxWriter, Operand, Operation, RefusedError, pair
from cimq.quantization.exact import adaptive_avg_pool2d, adaptive_kernel, global_avg_pool2d


def _max_pool2d(call: Call) -> list[Node]:
    kernel, stride, padding, dilation, ceil_mode = call.rest
    kernel, stride, padding, dilation = pair(kernel), pair(stride), pair(padding), pair(dilation)
    _check_window(call, kernel, stride, padding, dilation, bool(ceil_mode))
    attrs = {"kernel": [*kernel], "stride": [*stride], "padding": [*padding], "dilation": [*dilation]}
    return call.node("max_pool2d", attrs)


def _check_window(
    call: Call,
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int],
    dilation: tuple[int, int],
    ceil_mode: bool,
) -> None:
    if len(call.in_shape) != 3:
        raise RefusedError(f"pooling needs [B, C, H, W], got {len(call.in_shape)} dimensions beside the batch")
    sides = (padding[1], padding[1], padding[0], padding[0])
    size = (call.in_shape[1], call.in_shape[2])
    if ceil_mode and window_shape(size, kernel, stride, sides, dilation) != call.shape[1:]:
        raise RefusedError("pooling with ceil_mode=True has no form in a bundle where it changes the size")


def _avg_pool2d(call: Call) -> list[Node]:
    defaults: tuple[Any, ...] = (None, 0, True)
    kernel, stride, padding, count_include_pad = call.rest + defaults[len(call.rest) - 1 :]
    kernel = pair(kernel)
    stride = pair(stride) if stride is not None else kernel
    padding = pair(padding)
    _check_window(call, kernel, stride, padding, (1, 1), False)
    attrs = {
        "kernel": [*kernel],
        "stride": [*stride],
        "padding": [*padding],
        "count_include_pad": bool(count_include_pad),
    }
    return call.node("avg_pool2d", attrs)


def _global_avg_pool2d(call: Call) -> list[Node]:
    keepdim = bool(call.rest[0]) if call.rest else True
    if len(call.in_shape) != 3:
        raise RefusedError(f"a mean needs [B, C, H, W], got {len(call.in_shape)} dimensions beside the batch")
    channels, height, width = call.in_shape
    attrs = {"kernel": [height, width], "stride": [height, width], "padding": [0, 0], "count_include_pad": True}
    if keepdim:
        return call.node("avg_pool2d", attrs)
    pooled = Node(f"{call.name}.pooled", "avg_pool2d", call.inputs, (channels, 1, 1), attrs)
    return [pooled, Node(call.name, "flatten", (pooled.name,), call.shape)]


def _adaptive_avg_pool2d(call: Call) -> list[Node]:
    if len(call.in_shape) != 3:
        raise RefusedError(f"pooling needs [B, C, H, W], got {len(call.in_shape)} dimensions beside the batch")
    kernel = adaptive_kernel((call.in_shape[1], call.in_shape[2]), call.rest[0])
    if kernel is None:
        raise RefusedError(f"adaptive pooling of {list(call.in_shape[1:])} to {call.rest[0]} has windows that differ")
    return call.node(
        "avg_pool2d", {"kernel": [*kernel], "stride": [*kernel], "padding": [0, 0], "count_include_pad": True}
    )


def _write_max_pool2d(writer: OnnxWriter, node: Node) -> None:
    _write_pool(writer, "MaxPool", node, dilations=node.attrs["dilation"])


def _write_avg_pool2d(writer: OnnxWriter, node: Node) -> None:
    _write_pool(writer, "AveragePool", node, count_include_pad=int(node.attrs["count_include_pad"]))


def _write_pool(writer: OnnxWriter, op: str, node: Node, **attributes: Any) -> None:
    top, left = node.attrs["padding"]
    writer.emit(
        op,
        [node.inputs[0]],
        node.name,
        kernel_shape=node.attrs["kernel"],
        strides=node.attrs["stride"],
        pads=[top, left, top, left],
        **attributes,
    )


def _avg_pool2d_bound(node: Node, operands: Sequence[Operand]) -> float:
    count = node.attrs["kernel"][0] * node.attrs["kernel"][1]
    return float(operands[0].error + UNIT_ROUNDOFF * (count + 4) * operands[0].size)


ROWS: tuple[Operation, ...] = (
    Operation("max_pool2d", {F.max_pool2d: _max_pool2d}, _write_max_pool2d),
    Operation(
        "avg_pool2d",
        {ops.avg_pool2d: _avg_pool2d, global_avg_pool2d: _global_avg_pool2d, adaptive_avg_pool2d: _adaptive_avg_pool2d},
        _write_avg_pool2d,
        _avg_pool2d_bound,
    ),
)
