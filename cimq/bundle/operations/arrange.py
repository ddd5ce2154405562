"""Operations that arrange values anew: dimensions exchanged, repeated, turned round."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
import torch

from cimq.bundle.network import Node
from cimq.bundle.operations.registry import Call, OnnxWriter, Operation, RefusedError, finite_constant, place_of
from cimq.quantization.graph import shape_functions

# ---- dimensions exchanged ----


def _exchanging(function: Callable[..., torch.Tensor]) -> Callable[[Call], list[Node]]:
    def handler(call: Call) -> list[Node]:
        # Dimensions told apart by their sizes show where the function takes each of them.
        probe = torch.empty([2 + i for i in range(len(call.in_shape) + 1)], device="meta")
        order = [size - 2 for size in function(probe, *call.rest).shape]
        if order[0] != 0:
            raise RefusedError(f"the order of dimensions must leave the batch first, got {order}")
        return call.node("transpose", {"perm": [place - 1 for place in order[1:]]})

    return handler


def _through(call: Call, parts: Sequence[int], perm: Sequence[int]) -> list[Node]:
    """Reshape to `parts`, transpose, reshape to the result."""
    apart = Node(f"{call.name}.apart", "reshape", call.inputs, tuple(parts))
    moved = Node(f"{call.name}.moved", "transpose", (apart.name,), tuple(parts[p] for p in perm), {"perm": list(perm)})
    return [apart, moved, Node(call.name, "reshape", (moved.name,), call.shape)]


def _images(call: Call) -> tuple[int, int, int]:
    if len(call.in_shape) != 3:
        raise RefusedError(f"needs [B, C, H, W], got {len(call.in_shape)} dimensions beside the batch")
    channels, height, width = call.in_shape
    return channels, height, width


def _channel_shuffle(call: Call) -> list[Node]:
    groups = int(call.rest[0])
    rest = call.in_shape[1:]
    return _through(call, (groups, call.in_shape[0] // groups, *rest), (1, 0, *range(2, 2 + len(rest))))


def _pixel_shuffle(call: Call) -> list[Node]:
    (channels, height, width), r = _images(call), int(call.rest[0])
    return _through(call, (channels // r**2, r, r, height, width), (0, 3, 1, 4, 2))


def _pixel_unshuffle(call: Call) -> list[Node]:
    (channels, height, width), r = _images(call), int(call.rest[0])
    return _through(call, (channels, height // r, r, width // r, r), (0, 2, 4, 1, 3))


# ---- repeated, turned round ----


def _one_for_all(call: Call) -> list[Node]:
    """A parameter that every sample gets, a class token: [1, ...]."""
    value = finite_constant(call.args[0])
    if value.dim() != len(call.shape) + 1 or value.shape[0] != 1:
        raise RefusedError(f"a constant must be [1, ...], the same for every sample, got {[*value.shape]}")
    if 0 in value.shape:
        raise RefusedError(f"a constant must have values, got shape {[*value.shape]}")
    shape = tuple(value.shape[1:])
    name = call.name if shape == call.shape else f"{call.name}.one"
    return [Node(name, "constant", (), shape, {}, {"value": value[0]})]


def _expand(call: Call) -> list[Node]:
    if call.operands[0] is None:
        (constant,) = _one_for_all(call)
        if constant.shape == call.shape:
            return [constant]
        return [constant, Node(call.name, "expand", (constant.name,), call.shape)]
    if len(call.shape) != len(call.in_shape):
        raise RefusedError("expand must not add dimensions before the batch")
    return dataclasses.replace(call, inputs=call.inputs[:1]).node("expand")


def _repeated(call: Call, counts: Sequence[int], inner: bool) -> list[Node]:
    """Dimension i `counts[i]` times: all of it again (`inner` false), or each element again."""
    parts: list[int] = []
    wide: list[int] = []
    for size, count in zip(call.in_shape, counts, strict=True):
        if count == 1:
            parts, wide = [*parts, size], [*wide, size]
        else:
            parts += [size, 1] if inner else [1, size]
            wide += [size, count] if inner else [count, size]
    apart = Node(f"{call.name}.apart", "reshape", call.inputs, tuple(parts))
    again = Node(f"{call.name}.again", "expand", (apart.name,), tuple(wide))
    return [apart, again, Node(call.name, "reshape", (again.name,), call.shape)]


def _tile(call: Call) -> list[Node]:
    rank = len(call.in_shape) + 1
    counts = [int(count) for count in call.rest[0]]
    counts = [1] * (rank - len(counts)) + counts
    if call.operands[0] is None:
        if any(count != 1 for count in counts[1:]):
            raise RefusedError(f"a parameter can be repeated for every sample only, got {counts}")
        return _one_for_all(call)
    if len(counts) != rank or counts[0] != 1 or min(counts) < 1:
        raise RefusedError(f"repeat must leave the batch alone and repeat at least once, got {counts}")
    return _repeated(call, counts[1:], inner=False)


def _repeat_interleave(call: Call) -> list[Node]:
    count, dim = call.rest
    if call.operands[0] is None:
        raise RefusedError("repeat_interleave needs a value that is computed from the input")
    if not isinstance(count, int) or dim is None:
        raise RefusedError("repeat_interleave needs an integer and a dimension")
    place = place_of(int(dim), len(call.in_shape) + 1, "repeat_interleave")
    counts = [count if i == place else 1 for i in range(len(call.in_shape))]
    return _repeated(call, counts, inner=True)


def _flip(call: Call) -> list[Node]:
    rank = len(call.in_shape) + 1
    return call.node("flip", {"dims": [place_of(int(dim), rank, "flip") for dim in call.rest[0]]})


# ---- ONNX ----


def _write_transpose(writer: OnnxWriter, node: Node) -> None:
    writer.emit("Transpose", [node.inputs[0]], node.name, perm=[0, *(place + 1 for place in node.attrs["perm"])])


def _write_expand(writer: OnnxWriter, node: Node) -> None:
    # The 1 stands for the batch: Expand repeats on both sides.
    shape = writer.constant(f"{node.name}.shape", np.array([1, *node.shape], np.int64))
    writer.emit("Expand", [node.inputs[0], shape], node.name)


def _write_flip(writer: OnnxWriter, node: Node) -> None:
    dims = np.array([dim + 1 for dim in node.attrs["dims"]], np.int64)
    edges = [("start", np.full_like(dims, -1)), ("stop", np.full_like(dims, np.iinfo(np.int64).min))]
    columns = [writer.constant(f"{node.name}.{key}", value) for key, value in edges]
    columns.append(writer.constant(f"{node.name}.axes", dims))
    columns.append(writer.constant(f"{node.name}.step", np.full_like(dims, -1)))
    writer.emit("Slice", [node.inputs[0], *columns], node.name)


ROWS: tuple[Operation, ...] = (
    Operation(
        "transpose",
        {
            **{
                function: _exchanging(function)
                for function in (torch.transpose, torch.permute, torch.movedim, shape_functions.transposed)
            },
            torch.channel_shuffle: _channel_shuffle,
            torch.pixel_shuffle: _pixel_shuffle,
            torch.pixel_unshuffle: _pixel_unshuffle,
        },
        _write_transpose,
    ),
    Operation(
        "expand",
        {
            torch.broadcast_to: _expand,
            shape_functions.expand_as: _expand,
            torch.tile: _tile,
            torch.repeat_interleave: _repeat_interleave,
        },
        _write_expand,
        takes_constants=True,
        of_constants=True,
    ),
    Operation("flip", {torch.flip: _flip}, _write_flip),
)
