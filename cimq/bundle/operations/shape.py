"""Operations that move values: their shapes, parts, borders, and several in one."""

from __future__ import annotations

import dataclasses
import operator
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from cimq.bundle.network import Node
from cimq.bundle.operations.registry import Call, OnnxWriter, Operation, RefusedError, float32, place_of
from cimq.quantization.graph import shape_functions


def _reshape(call: Call) -> list[Node]:
    return call.node("flatten" if len(call.shape) == 1 else "reshape")


def _cat(call: Call) -> list[Node]:
    dim = int(call.rest[0]) if call.rest else 0
    dim = dim % (len(call.shape) + 1)
    if dim == 0:
        raise RefusedError("cat must not be along the batch")
    return call.node("cat", {"dim": dim - 1})


def _squeeze(call: Call) -> list[Node]:
    if not call.rest:
        raise RefusedError("squeeze without a dimension takes a batch of 1 away; name the dimensions")
    dims = call.rest[0]
    for dim in (dims,) if isinstance(dims, int) else dims:
        place_of(dim, len(call.in_shape) + 1, "squeeze")
    return call.node("reshape")


def _unsqueeze(call: Call) -> list[Node]:
    place_of(int(call.rest[0]), len(call.in_shape) + 2, "unsqueeze")
    return call.node("reshape")


def _unflatten(call: Call) -> list[Node]:
    place_of(int(call.rest[0]), len(call.in_shape) + 1, "unflatten")
    return call.node("reshape")


def _view_as(call: Call) -> list[Node]:
    return dataclasses.replace(call, inputs=call.inputs[:1]).node("reshape")


def _stack(call: Call) -> list[Node]:
    dim = place_of(int(call.rest[0]), len(call.shape) + 1, "stack")
    one = (*call.shape[:dim], 1, *call.shape[dim + 1 :])
    parts = [Node(f"{call.name}.{i}", "reshape", (value,), one) for i, value in enumerate(call.inputs)]
    return [*parts, Node(call.name, "cat", tuple(part.name for part in parts), call.shape, {"dim": dim})]


def _roll(call: Call) -> list[Node]:
    shifts, dims = (value if isinstance(value, (tuple, list)) else (value,) for value in call.rest)
    nodes: list[Node] = []
    source = call.inputs[0]
    turns = [
        (int(shift), place_of(int(dim), len(call.in_shape) + 1, "roll"))
        for shift, dim in zip(shifts, dims, strict=True)
    ]
    turns = [(shift % call.in_shape[place], place) for shift, place in turns if shift % call.in_shape[place]]
    for i, (shift, place) in enumerate(turns):
        size = call.in_shape[place]
        name = call.name if i == len(turns) - 1 else f"{call.name}.{i}"
        tail = cut(f"{name}.tail", source, call.in_shape, {place: (size - shift, size, 1)})
        head = cut(f"{name}.head", source, call.in_shape, {place: (0, size - shift, 1)})
        nodes += [tail, head, Node(name, "cat", (tail.name, head.name), call.shape, {"dim": place})]
        source = name
    return nodes or call.node("reshape")


# ---- parts ----


def cut(name: str, source: str, shape: Sequence[int], ranges: Mapping[int, tuple[int, int, int]]) -> Node:
    """A slice of a value of `shape`: start, stop and step of some dimensions, all of the others."""
    entries = [ranges.get(place, (0, size, 1)) for place, size in enumerate(shape)]
    if any(step < 1 or start >= stop for start, stop, step in entries):
        raise RefusedError("a slice must keep something and have a positive step")
    attrs = {key: [entry[i] for entry in entries] for i, key in enumerate(("start", "stop", "step"))}
    kept = tuple((stop - start - 1) // step + 1 for start, stop, step in entries)
    return Node(name, "slice", (source,), kept, attrs)


def _then_reshaped(call: Call, part: Node) -> list[Node]:
    """`part` in the shape of the result, under the name of the result."""
    if part.shape == call.shape:
        return [dataclasses.replace(part, name=call.name)]
    return [part, Node(call.name, "reshape", (part.name,), call.shape)]


def _index(call: Call) -> list[Node]:
    index = call.rest[0] if isinstance(call.rest[0], tuple) else (call.rest[0],)
    if any(isinstance(e, bool) or not (e is None or e is Ellipsis or isinstance(e, (int, slice))) for e in index):
        raise RefusedError("indexing must use slices, integers and None only")
    rank = len(call.in_shape) + 1
    missing = rank - sum(entry is not None and entry is not Ellipsis for entry in index)
    if Ellipsis not in index:
        index = (*index, Ellipsis)
    at = index.index(Ellipsis)
    index = (*index[:at], *([slice(None)] * missing), *index[at + 1 :])
    if index[0] != slice(None):
        raise RefusedError("indexing must leave the batch alone")
    ranges = {}
    for place, entry in enumerate([entry for entry in index if entry is not None][1:]):
        size = call.in_shape[place]
        ranges[place] = entry.indices(size) if isinstance(entry, slice) else (entry % size, entry % size + 1, 1)
    return _then_reshaped(call, cut(f"{call.name}.part", call.inputs[0], call.in_shape, ranges))


def _select(call: Call) -> list[Node]:
    place = place_of(int(call.rest[0]), len(call.in_shape) + 1, "select")
    at = int(call.rest[1]) % call.in_shape[place]
    return _then_reshaped(call, cut(f"{call.name}.part", call.inputs[0], call.in_shape, {place: (at, at + 1, 1)}))


def _narrow(call: Call) -> list[Node]:
    dim, start, length = (int(value) for value in call.rest)
    place = place_of(dim, len(call.in_shape) + 1, "narrow")
    start %= call.in_shape[place]
    return [cut(call.name, call.inputs[0], call.in_shape, {place: (start, start + length, 1)})]


TAKING_APART: dict[Any, int] = {torch.chunk: 1, torch.split: 1, torch.tensor_split: 1, torch.unbind: 0}
"""Functions with several results -> which argument after the first names the dimension."""


@dataclasses.dataclass(frozen=True)
class Parts:
    """The results of such a function.

    Attributes:
        source: Name of the value that was taken apart.
        dim: Along which dimension, counted with the batch.
        sizes: Its sizes in the results.
    """

    source: str
    dim: int
    sizes: tuple[int, ...]


def part_of(call: Call, parts: Parts) -> list[Node]:
    """The one of the results that `call.rest` names.

    Raises:
        RefusedError: For the batch.
    """
    place = place_of(parts.dim, len(call.in_shape) + 1, "taking apart")
    index = int(call.rest[0]) % len(parts.sizes)
    start = sum(parts.sizes[:index])
    ranges = {place: (start, start + parts.sizes[index], 1)}
    return _then_reshaped(call, cut(f"{call.name}.part", call.inputs[0], call.in_shape, ranges))


# ---- borders ----

_BORDERS = {"reflect": "reflection_pad", "replicate": "replication_pad", "circular": "circular_pad"}


def _pad(call: Call) -> list[Node]:
    pad, mode, value = call.rest
    rank = len(call.in_shape)
    if mode != "constant" and mode not in _BORDERS:
        raise RefusedError(f"pad must have mode 'constant', 'reflect', 'replicate' or 'circular', got {mode!r}")
    if isinstance(pad, int):  # of a module that takes one amount for all sides
        pad = [pad] * (2 * (rank - 1))
    if len(pad) > 2 * rank or any(amount < 0 for amount in pad):
        raise RefusedError(f"pad must be amounts >= 0 that leave the batch alone, got {list(pad)}")
    amounts = [*pad, *([0] * (2 * rank - len(pad)))]
    before = [int(amount) for amount in amounts[0::2]][::-1]
    after = [int(amount) for amount in amounts[1::2]][::-1]
    attrs: dict[str, Any] = {"before": before, "after": after}
    if mode == "constant":
        return call.node("pad", attrs | {"value": float32(value or 0.0)})
    return call.node(_BORDERS[mode], attrs)


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


def _write_border(writer: OnnxWriter, node: Node) -> None:
    mode = {"reflection_pad": "reflect", "replication_pad": "edge", "circular_pad": "wrap"}[node.op]
    pads = np.array([0, *node.attrs["before"], 0, *node.attrs["after"]], np.int64)
    writer.emit("Pad", [node.inputs[0], writer.constant(f"{node.name}.pads", pads)], node.name, mode=mode)


def _write_cat(writer: OnnxWriter, node: Node) -> None:
    inputs = list(node.inputs)
    computed = [name for name in inputs if name not in writer.constants]
    for i, name in enumerate(inputs):
        if computed and name in writer.constants:  # Concat repeats nothing
            batch = writer.emit("Shape", [computed[0]], f"{node.name}.{i}.batch", start=0, end=1)
            rest = writer.constant(f"{node.name}.{i}.rest", np.array(writer.shapes[name], np.int64))
            shape = writer.emit("Concat", [batch, rest], f"{node.name}.{i}.shape", axis=0)
            inputs[i] = writer.emit("Expand", [name, shape], f"{node.name}.{i}.for_all")
    writer.emit("Concat", inputs, node.name, axis=node.attrs["dim"] + 1)


ROWS: tuple[Operation, ...] = (
    Operation("flatten", {torch.flatten: _reshape, torch.reshape: _reshape}, _write_reshape),
    Operation(
        "reshape",
        {
            torch.squeeze: _squeeze,
            torch.unsqueeze: _unsqueeze,
            torch.unflatten: _unflatten,
            shape_functions.view_as: _view_as,
        },
        _write_reshape,
    ),
    Operation("slice", {operator.getitem: _index, torch.select: _select, torch.narrow: _narrow}, _write_slice),
    Operation("pad", {F.pad: _pad}, _write_pad),
    Operation("reflection_pad", {}, _write_border),
    Operation("replication_pad", {}, _write_border),
    Operation("circular_pad", {}, _write_border),
    Operation("cat", {torch.cat: _cat, torch.stack: _stack, torch.roll: _roll}, _write_cat),
)
