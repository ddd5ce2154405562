"""Operations that move values: their shapes, parts, borders, and several in one."""

from __future__ import annotations

import operator

import numpy as np
import torch
import torch.nn.functional as F

from cimq.bundle.network import Node
from cimq.bundle.operations.registry import Call, OnnxWriter, Operation, RefusedError, float32


def _reshape(call: Call) -> list[Node]:
    return call.node("flatten" if len(call.shape) == 1 else "reshape")


def _cat(call: Call) -> list[Node]:
    dim = int(call.rest[0]) if call.rest else 0
    dim = dim % (len(call.shape) + 1)
    if dim == 0:
        raise RefusedError("cat must not be along the batch")
    return call.node("cat", {"dim": dim - 1})


def _pad(call: Call) -> list[Node]:
    pad, mode, value = call.rest
    rank = len(call.in_shape)
    if mode != "constant":
        raise RefusedError(f"pad must have mode 'constant', got {mode!r}")
    if len(pad) > 2 * rank or any(amount < 0 for amount in pad):
        raise RefusedError(f"pad must be amounts >= 0 that leave the batch alone, got {list(pad)}")
    amounts = [*pad, *([0] * (2 * rank - len(pad)))]
    before = [int(amount) for amount in amounts[0::2]][::-1]
    after = [int(amount) for amount in amounts[1::2]][::-1]
    return call.node("pad", {"before": before, "after": after, "value": float32(value or 0.0)})


def _slice(call: Call) -> list[Node]:
    index = call.rest[0] if isinstance(call.rest[0], tuple) else (call.rest[0],)
    rank = len(call.in_shape) + 1
    if any(not isinstance(entry, slice) and entry is not Ellipsis for entry in index):
        raise RefusedError("indexing must use slices only")
    if Ellipsis in index:
        at = index.index(Ellipsis)
        index = (*index[:at], *([slice(None)] * (rank - len(index) + 1)), *index[at + 1 :])
    index = (*index, *([slice(None)] * (rank - len(index))))
    if index[0] != slice(None):
        raise RefusedError("indexing must leave the batch alone")
    ranges = [entry.indices(size) for entry, size in zip(index[1:], call.in_shape, strict=True)]
    if any(step < 1 or start >= stop for start, stop, step in ranges):
        raise RefusedError("a slice must keep something and have a positive step")
    attrs = {key: [entry[i] for entry in ranges] for i, key in enumerate(("start", "stop", "step"))}
    return call.node("slice", attrs)


def _write_reshape(writer: OnnxWriter, node: Node) -> None:
    # 0 keeps the batch dimension of the input.
    shape = writer.constant(f"{node.name}.shape", np.array([0, *node.shape], np.int64))
    writer.emit("Reshape", [node.inputs[0], shape], node.name)


def _write_slice(writer: OnnxWriter, node: Node) -> None:
    axes = np.arange(1, len(node.shape) + 1, dtype=np.int64)
    columns = [writer.constant(f"{node.name}.{key}", np.array(node.attrs[key], np.int64)) for key in ("start", "stop")]
    columns.append(writer.constant(f"{node.name}.axes", axes))
    columns.append(writer.constant(f"{node.name}.step", np.array(node.attrs["step"], np.int64)))
    writer.emit("Slice", [node.inputs[0], *columns], node.name)


def _write_pad(writer: OnnxWriter, node: Node) -> None:
    pads = np.array([0, *node.attrs["before"], 0, *node.attrs["after"]], np.int64)
    inputs = [writer.constant(f"{node.name}.pads", pads)]
    inputs.append(writer.constant(f"{node.name}.value", np.float32(node.attrs["value"])))
    writer.emit("Pad", [node.inputs[0], *inputs], node.name)


def _write_cat(writer: OnnxWriter, node: Node) -> None:
    writer.emit("Concat", [*node.inputs], node.name, axis=node.attrs["dim"] + 1)


ROWS: tuple[Operation, ...] = (
    Operation("flatten", {torch.flatten: _reshape, torch.reshape: _reshape}, _write_reshape),
    Operation("reshape", {}, _write_reshape),
    Operation("slice", {operator.getitem: _slice}, _write_slice),
    Operation("pad", {F.pad: _pad}, _write_pad),
    Operation("cat", {torch.cat: _cat}, _write_cat),
)
