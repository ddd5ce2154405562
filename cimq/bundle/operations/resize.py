"""Images of another size."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import torch

from cimq.bundle.network import Node
from cimq.bundle.operations.pooling import check_images, one_row
from cimq.bundle.operations.registry import UNIT_ROUNDOFF, Call, OnnxWriter, Operand, Operation, RefusedError
from cimq.ops.pooling import resize_geometry
from cimq.quantization.exact import windows


def _interpolate(call: Call) -> list[Node]:
    size, scale_factor, mode, align_corners, recompute = call.rest
    if len(call.in_shape) == 2:
        if mode not in ("nearest", "linear"):
            raise RefusedError(f"interpolation of [B, C, L] must be nearest or linear, got {mode!r}")
        wide = (1, call.shape[1]) if size is not None else None
        scale = None if scale_factor is None else (1.0, _only(scale_factor))
        mode = "bilinear" if mode == "linear" else mode
        row = dataclasses.replace(call, rest=(wide, scale, mode, align_corners, recompute))
        return one_row(row, _image)
    return _image(call)


def _only(value: float | Sequence[float]) -> float:
    return value[0] if isinstance(value, Sequence) else value


def _image(call: Call) -> list[Node]:
    size, scale_factor, mode, align_corners, recompute = call.rest
    check_images(call)
    if mode == "area":
        return call.node("adaptive_avg_pool2d", {"size": [*call.shape[1:]]})
    if mode not in ("nearest", "bilinear"):
        raise RefusedError(f"interpolation of [B, C, H, W] must be nearest, bilinear or area, got {mode!r}")
    x = torch.empty((1, *call.in_shape), device="meta")
    wanted, (row_step, column_step) = resize_geometry(x, size, scale_factor, bool(recompute))
    attrs = {"size": wanted, "row_step": row_step, "column_step": column_step}
    if mode == "nearest":
        return call.node("resize_nearest", attrs)
    return call.node("resize_bilinear", attrs | {"align_corners": bool(align_corners)})


def _nearest_places(size: int, out: int, step: float) -> list[int]:
    """Where the elements of an axis come from (csrc/kernels/formula/resize.h)."""
    if out == size:
        return list(range(size))
    if out == 2 * size:
        return [i // 2 for i in range(out)]
    position = np.arange(out, dtype=np.float32) * np.float32(step)
    return [min(int(value), size - 1) for value in np.floor(position)]


def _write_nearest(writer: OnnxWriter, node: Node) -> None:
    size, out = writer.shapes[node.inputs[0]][1:], node.attrs["size"]
    steps = (node.attrs["row_step"], node.attrs["column_step"])
    places = [_nearest_places(*axis) for axis in zip(size, out, steps, strict=True)]
    if all(axis == [i * have // len(axis) for i in range(len(axis))] for axis, have in zip(places, size, strict=True)):
        whole = all(want % have == 0 for want, have in zip(out, size, strict=True))
        if whole:  # every reader of ONNX computes the same places
            _write_resize(writer, node, mode="nearest", nearest_mode="floor", transformation="asymmetric")
            return
    # Places that depend on how a position is rounded are written down.
    rows = writer.constant(f"{node.name}.rows", np.array(places[0], np.int64))
    columns = writer.constant(f"{node.name}.columns", np.array(places[1], np.int64))
    narrow = writer.emit("Gather", [node.inputs[0], rows], f"{node.name}.taller", axis=2)
    writer.emit("Gather", [narrow, columns], node.name, axis=3)


def _write_bilinear(writer: OnnxWriter, node: Node) -> None:
    if node.attrs["align_corners"]:
        _write_resize(writer, node, mode="linear", transformation="align_corners")
        return
    size, out = writer.shapes[node.inputs[0]][1:], node.attrs["size"]
    steps = (node.attrs["row_step"], node.attrs["column_step"])
    if all(np.float32(have / want) == np.float32(step) for have, want, step in zip(size, out, steps, strict=True)):
        _write_resize(writer, node, mode="linear", transformation="half_pixel")
        return
    # The step is not that of the two sizes (a factor that does not give whole pixels): weights as matrices.
    rows, columns = (_weights(*axis) for axis in zip(size, out, steps, strict=True))
    right = writer.constant(f"{node.name}.columns", columns.T.copy())
    wider = writer.emit("MatMul", [node.inputs[0], right], f"{node.name}.wider")
    writer.emit("MatMul", [writer.constant(f"{node.name}.rows", rows), wider], node.name)


def _weights(size: int, out: int, step: float) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    """[out, size]: what each element of the result takes of the axis."""
    matrix = np.zeros((out, size), np.float32)
    for i in range(out):
        position = 0.0 if out == size else max(0.0, float(np.float32(step)) * (i + 0.5) - 0.5)
        first = i if out == size else min(int(position), size - 1)
        weight = 0.0 if out == size else min(position - first, 1.0)
        matrix[i, first] += 1.0 - weight
        matrix[i, min(first + 1, size - 1)] += weight
    return matrix


def _write_resize(writer: OnnxWriter, node: Node, transformation: str, **attributes: str) -> None:
    size = writer.constant(f"{node.name}.size", np.array(node.attrs["size"], np.int64))
    writer.emit(
        "Resize",
        [node.inputs[0], "", "", size],
        node.name,
        axes=[2, 3],
        coordinate_transformation_mode=transformation,
        **attributes,
    )


def _bilinear_bound(node: Node, operands: Sequence[Operand]) -> float:
    # A position is a float32 of up to the size of the image; its error is that of the weights.
    height, width = operands[0].values.shape[2:]
    return float(operands[0].error + UNIT_ROUNDOFF * (8 * (height + width) + 16) * operands[0].size)


ROWS: tuple[Operation, ...] = (
    Operation("resize_nearest", {windows.interpolate: _interpolate}, _write_nearest),
    Operation("resize_bilinear", {}, _write_bilinear, _bilinear_bound),
)
