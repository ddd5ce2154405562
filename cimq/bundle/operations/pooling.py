"""Pooling and means."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

from cimq import ops
from cimq.bundle.network import Node
from cimq.bundle.operations.registry import UNIT_ROUNDOFF, Call, OnnxWriter, Operand, Operation, RefusedError, pair
from cimq.quantization.exact import windows
from cimq.quantization.exact.operations import global_avg_pool2d


def check_images(call: Call) -> None:
    """Refuses everything but [B, C, H, W]."""
    if len(call.in_shape) != 3:
        raise RefusedError(f"pooling needs [B, C, H, W], got {len(call.in_shape)} dimensions beside the batch")


def one_row(call: Call, make: Callable[[Call], list[Node]]) -> list[Node]:
    """An operation on signals [B, C, L] as `make` has it for images with one row."""
    if len(call.in_shape) != 2:
        raise RefusedError(f"pooling needs [B, C, L], got {len(call.in_shape)} dimensions beside the batch")
    (channels, length), (_, out_length) = call.in_shape, call.shape
    before = Node(f"{call.name}.row", "reshape", call.inputs, (channels, 1, length))
    name = f"{call.name}.image"
    inner = dataclasses.replace(
        call, name=name, inputs=(before.name,), in_shape=before.shape, shape=(channels, 1, out_length)
    )
    return [before, *make(inner), Node(call.name, "reshape", (name,), call.shape)]


def _first(value: Any) -> Any:
    return value if value is None or isinstance(value, int) else value[0]


# ---- windows that slide ----


def _max_pool2d(call: Call) -> list[Node]:
    kernel, stride, padding, dilation, ceil_mode = call.rest
    check_images(call)
    attrs = {
        "kernel": [*pair(kernel)],
        "stride": [*pair(stride)],
        "padding": [*pair(padding)],
        "dilation": [*pair(dilation)],
    }
    return call.node("max_pool2d", attrs | ({"ceil_mode": True} if ceil_mode else {}))


def _max_pool1d(call: Call) -> list[Node]:
    kernel, stride, padding, dilation = ((1, _first(value)) for value in call.rest[:4])
    row = (kernel, stride, (0, padding[1]), dilation, call.rest[4])
    return one_row(dataclasses.replace(call, rest=row), _max_pool2d)


def _averages(
    call: Call,
    kernel: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor: int | None = None,
) -> list[Node]:
    check_images(call)
    attrs: dict[str, Any] = {
        "kernel": [*pair(kernel)],
        "stride": [*pair(kernel if stride is None else stride)],
        "padding": [*pair(padding)],
        "count_include_pad": bool(count_include_pad),
    }
    if ceil_mode:
        attrs["ceil_mode"] = True
    if divisor is not None:
        attrs["divisor"] = int(divisor)
    return call.node("avg_pool2d", attrs)


def _ops_avg_pool2d(call: Call) -> list[Node]:
    kernel, stride, padding, count_include_pad = (*call.rest, None, 0, True)[:4] if len(call.rest) == 1 else call.rest
    return _averages(call, kernel, stride, padding, False, count_include_pad)


def _avg_pool2d(call: Call) -> list[Node]:
    return _averages(call, *call.rest)


def _avg_pool1d(call: Call) -> list[Node]:
    kernel, stride, padding, ceil_mode, count_include_pad = call.rest
    kernel = _first(kernel)
    rest = ((1, kernel), (1, _first(stride) or kernel), (0, _first(padding)), ceil_mode, count_include_pad)
    return one_row(dataclasses.replace(call, rest=rest), _avg_pool2d)


# ---- windows that share out an image ----


def _adaptive(op: str) -> Callable[[Call], list[Node]]:
    def handler(call: Call) -> list[Node]:
        check_images(call)
        if op == "adaptive_avg_pool2d" and call.shape[1:] == (1, 1):  # the same sums, and what older readers know
            return _averages(call, call.in_shape[1:])
        return call.node(op, {"size": [*call.shape[1:]]})

    return handler


def _adaptive_row(op: str) -> Callable[[Call], list[Node]]:
    return lambda call: one_row(call, _adaptive(op))


# ---- means ----


def _global_avg_pool2d(call: Call) -> list[Node]:
    keepdim, dims = call.rest
    return _mean_over(call, dims, bool(keepdim))


def _mean(call: Call) -> list[Node]:
    dims, keepdim = call.rest
    return _mean_over(call, (dims,) if isinstance(dims, int) else dims, bool(keepdim))


def _total(call: Call) -> list[Node]:
    """The mean, times the number of elements."""
    dims, keepdim = call.rest
    sizes = (0, *call.in_shape)  # that of the batch is not asked for: its mean is refused
    mean = dataclasses.replace(call, name=f"{call.name}.mean")
    count = torch.full((1,) * len(call.shape), float(math.prod(sizes[dim] for dim in dims)))
    factor = Node(f"{call.name}.count", "constant", (), tuple(count.shape), {}, {"value": count})
    nodes = _mean_over(mean, dims, bool(keepdim))
    return [*nodes, factor, Node(call.name, "mul", (mean.name, factor.name), call.shape)]


def _mean_over(call: Call, dims: Sequence[int], keepdim: bool) -> list[Node]:
    rank = len(call.in_shape) + 1
    places = sorted(dim % rank for dim in dims)
    if places[0] == 0:
        raise RefusedError("a mean must leave the batch alone")
    if places != [2, 3] or rank != 4:
        return call.node("mean", {"dims": [place - 1 for place in places]})
    channels, height, width = call.in_shape
    if keepdim:
        return _averages(call, (height, width))
    pooled = dataclasses.replace(call, name=f"{call.name}.pooled", shape=(channels, 1, 1))
    return [*_averages(pooled, (height, width)), Node(call.name, "flatten", (pooled.name,), call.shape)]


# ---- ONNX ----


def _window_ends(writer: OnnxWriter, node: Node) -> tuple[list[int], list[int]]:
    """Padding before and after, with which pooling that rounds down has the windows of `node`."""
    attrs, size = node.attrs, writer.shapes[node.inputs[0]][1:]
    after = []
    for axis in range(2):
        reach = attrs.get("dilation", [1, 1])[axis] * (attrs["kernel"][axis] - 1) + 1
        end = (node.shape[1 + axis] - 1) * attrs["stride"][axis] + reach
        after.append(max(attrs["padding"][axis], end - size[axis] - attrs["padding"][axis]))
    return list(attrs["padding"]), after


def _write_max_pool2d(writer: OnnxWriter, node: Node) -> None:
    x, (before, after) = node.inputs[0], _window_ends(writer, node)
    if any(pad >= kernel for pad, kernel in zip(after, node.attrs["kernel"], strict=True)):
        # onnxruntime refuses such padding, which windows with gaps may need.
        inputs = [writer.constant(f"{node.name}.pads", np.array([0, 0, *before, 0, 0, *after], np.int64))]
        inputs.append(writer.constant(f"{node.name}.lowest", np.float32(-np.inf)))
        x, before, after = writer.emit("Pad", [x, *inputs], f"{node.name}.padded"), [0, 0], [0, 0]
    _write_pool(writer, "MaxPool", node, x, node.name, before, after, dilations=node.attrs["dilation"])


def _write_avg_pool2d(writer: OnnxWriter, node: Node) -> None:
    """Windows that hang over the image become padding at its end.

    What a runtime makes of `ceil_mode`, above all of the elements to divide by, differs from version to version.
    """
    attrs, x, name = node.attrs, node.inputs[0], node.name
    before, after = _window_ends(writer, node)
    divisor = attrs.get("divisor")
    if divisor is not None:
        total = writer.constant(f"{name}.window", np.float32(attrs["kernel"][0] * attrs["kernel"][1] / divisor))
        mean = _write_pool(writer, "AveragePool", node, x, f"{name}.mean", before, after, count_include_pad=1)
        writer.emit("Mul", [mean, total], name)
        return
    if after == before or not attrs["count_include_pad"]:
        counts = int(attrs["count_include_pad"])
        _write_pool(writer, "AveragePool", node, x, name, before, after, count_include_pad=counts)
        return
    # The padding that counts becomes part of the image, the rest of the windows does not count.
    pads = np.array([0, 0, *before, 0, 0, *before], np.int64)
    padded = writer.emit("Pad", [x, writer.constant(f"{name}.pads", pads)], f"{name}.padded")
    rest = [end - start for start, end in zip(before, after, strict=True)]
    _write_pool(writer, "AveragePool", node, padded, name, [0, 0], rest, count_include_pad=0)


def _write_pool(
    writer: OnnxWriter, op: str, node: Node, x: str, name: str, before: list[int], after: list[int], **attributes: Any
) -> str:
    attrs = node.attrs
    return writer.emit(
        op, [x], name, kernel_shape=attrs["kernel"], strides=attrs["stride"], pads=[*before, *after], **attributes
    )


def _adaptive_windows(size: int, out: int) -> list[tuple[int, int]]:
    return [(i * size // out, -((i + 1) * -size // out)) for i in range(out)]


def _averaging_matrix(size: int, out: int) -> npt.NDArray[Any]:
    """[out, size]: row i averages window i."""
    matrix = np.zeros((out, size), np.float32)
    for row, (begin, end) in zip(matrix, _adaptive_windows(size, out), strict=True):
        row[begin:end] = 1.0 / (end - begin)
    return matrix


def _write_adaptive_avg_pool2d(writer: OnnxWriter, node: Node) -> None:
    size, out = writer.shapes[node.inputs[0]][1:], node.attrs["size"]
    if all(have % want == 0 for have, want in zip(size, out, strict=True)):
        kernel = [have // want for have, want in zip(size, out, strict=True)]
        writer.emit("AveragePool", [node.inputs[0]], node.name, kernel_shape=kernel, strides=kernel)
        return
    # ONNX has no such pooling; a mean over a window is a product with a row of its own.
    rows = writer.constant(f"{node.name}.rows", _averaging_matrix(size[0], out[0]))
    columns = writer.constant(f"{node.name}.columns", _averaging_matrix(size[1], out[1]).T.copy())
    narrow = writer.emit("MatMul", [node.inputs[0], columns], f"{node.name}.narrow")
    writer.emit("MatMul", [rows, narrow], node.name)


def _write_adaptive_max_pool2d(writer: OnnxWriter, node: Node) -> None:
    """Per axis: the elements of every window side by side, then their maximum."""
    value = node.inputs[0]
    for axis, (size, out) in enumerate(zip(writer.shapes[value][1:], node.attrs["size"], strict=True)):
        windows = _adaptive_windows(size, out)
        longest = max(end - begin for begin, end in windows)
        places = np.array([[min(begin + i, end - 1) for i in range(longest)] for begin, end in windows], np.int64)
        index = writer.constant(f"{node.name}.windows{axis}", places)
        parts = writer.emit("Gather", [value, index], f"{node.name}.parts{axis}", axis=2 + axis)
        dims = writer.constant(f"{node.name}.dims{axis}", np.array([3 + axis], np.int64))
        name = node.name if axis == 1 else f"{node.name}.rows"
        value = writer.emit("ReduceMax", [parts, dims], name, keepdims=0)


def _write_mean(writer: OnnxWriter, node: Node) -> None:
    dims = writer.constant(f"{node.name}.dims", np.array([dim + 1 for dim in node.attrs["dims"]], np.int64))
    keeps = len(node.shape) == len(writer.shapes[node.inputs[0]])
    writer.emit("ReduceMean", [node.inputs[0], dims], node.name, keepdims=int(keeps))


def _sum_bound(count: int, operands: Sequence[Operand], factor: float = 1.0) -> float:
    """Of a mean of `count` values, times `factor`."""
    return float(factor * (operands[0].error + UNIT_ROUNDOFF * (count + 4) * operands[0].size))


def _avg_pool2d_bound(node: Node, operands: Sequence[Operand]) -> float:
    count = node.attrs["kernel"][0] * node.attrs["kernel"][1]
    divisor = node.attrs.get("divisor")
    return _sum_bound(count, operands, 1.0 if divisor is None else max(1.0, 2 * count / divisor))


def _adaptive_bound(node: Node, operands: Sequence[Operand]) -> float:
    count = 1
    for size, out in zip(operands[0].values.shape[2:], node.attrs["size"], strict=True):
        count *= max(end - begin for begin, end in _adaptive_windows(size, out))
    return _sum_bound(2 * count, operands)  # both sides add in float32


def _mean_bound(node: Node, operands: Sequence[Operand]) -> float:
    return _sum_bound(math.prod(operands[0].values.shape[dim + 1] for dim in node.attrs["dims"]), operands)


ROWS: tuple[Operation, ...] = (
    Operation("max_pool2d", {F.max_pool2d: _max_pool2d, F.max_pool1d: _max_pool1d}, _write_max_pool2d),
    Operation(
        "avg_pool2d",
        {
            ops.avg_pool2d: _ops_avg_pool2d,
            windows.avg_pool2d: _avg_pool2d,
            windows.avg_pool1d: _avg_pool1d,
            global_avg_pool2d: _global_avg_pool2d,
        },
        _write_avg_pool2d,
        _avg_pool2d_bound,
    ),
    Operation(
        "adaptive_avg_pool2d",
        {
            windows.adaptive_avg_pool2d: _adaptive("adaptive_avg_pool2d"),
            windows.adaptive_avg_pool1d: _adaptive_row("adaptive_avg_pool2d"),
        },
        _write_adaptive_avg_pool2d,
        _adaptive_bound,
    ),
    Operation(
        "adaptive_max_pool2d",
        {
            F.adaptive_max_pool2d: _adaptive("adaptive_max_pool2d"),
            F.adaptive_max_pool1d: _adaptive_row("adaptive_max_pool2d"),
        },
        _write_adaptive_max_pool2d,
    ),
    Operation("mean", {windows.mean: _mean, windows.total: _total}, _write_mean, _mean_bound),
)
