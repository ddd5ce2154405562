"""What moves values: other shapes and orders of dimensions, parts, borders, repetition."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Sequence

import numpy as np
from onnx import TensorProto

from cimq.bundle.onnx_import.building import Operation, Shape, without_batch
from cimq.bundle.onnx_import.values import BATCH, Constant, Known, Value
from cimq.bundle.operations.registry import RefusedError

_MAX_PARTS = 256


def shape_of(op: Operation) -> Known:
    """The shape as a constant in which one number stands for the batch."""
    x = op.anywhere(0)
    full = (*x.shape[: x.batch_axis], BATCH, *x.shape[x.batch_axis :])
    start, end = op.attribute("start", 0), op.attribute("end", len(full))
    return Constant(np.array(full[slice(start, end)], np.int64), TensorProto.INT64)


# ---- other shapes ----


def reshape(op: Operation) -> Known:
    """Keeps the batch as first dimension."""
    x, target, keep_zeros = op.moved(0), op.integers(1), op.attribute("allowzero", 0)
    full = (BATCH, *x.shape)
    if not keep_zeros:
        if any(size == 0 and place >= len(full) for place, size in enumerate(target)):
            raise RefusedError(f"the shape {[*target]} copies a dimension that is not there")
        target = tuple(full[place] if size == 0 else size for place, size in enumerate(target))
    return op.reshape(x, _per_sample(op, x, target))


def _per_sample(op: Operation, x: Value, target: Shape) -> Shape:
    count = math.prod(x.shape)
    shown = ["batch" if size == BATCH else size for size in target]
    mixes = RefusedError(
        f"reshapes {['batch', *x.shape]} to {shown}; the first dimension must stay the batch (export with a batch of "
        "1, or with a batch of any size that the shape is computed from)"
    )
    if not target or target.count(-1) > 1 or min(target) < -1:
        raise mixes
    rest = target[1:]
    if op.builder.is_batch(target[0]):
        known = math.prod(size for size in rest if size != -1)
        if -1 in rest and known > 0 and count % known == 0:
            rest = tuple(count // known if size == -1 else size for size in rest)
    elif target[0] != -1:
        raise mixes
    if math.prod(rest) != count:
        raise mixes
    return rest


def flatten(op: Operation) -> Known:
    """All but the batch in one dimension."""
    x = op.moved(0)
    axis = op.axis(op.attribute("axis", 1), len(x.shape) + 2)  # one more is allowed: the end
    if axis != 1:
        raise RefusedError(f"attribute axis must be 1, so that samples stay apart, got {axis}")
    return op.reshape(x, (math.prod(x.shape),))


def squeeze(op: Operation) -> Known:
    """Leaves out dimensions of 1."""
    x = op.anywhere(0)
    if op.given(1) is None:
        raise RefusedError("needs axes: without them a batch of 1 would be left out as well")
    axes = {op.sample_axis(axis, x) for axis in op.integers(1)}
    if any(x.shape[axis] != 1 for axis in axes):
        raise RefusedError(f"axes {[*op.integers(1)]} of {['batch', *x.shape]} are not all 1")
    result = op.reshape(x, [size for axis, size in enumerate(x.shape) if axis not in axes])
    return _batch_moved(result, -sum(axis < x.batch_axis for axis in axes))


def _batch_moved(x: Value, by: int) -> Value:
    return dataclasses.replace(x, batch_axis=x.batch_axis + by)


def unsqueeze(op: Operation) -> Known:
    """Adds dimensions of 1."""
    x, axes = op.moved(0), op.integers(1)
    rank = len(x.shape) + 1 + len(axes)
    places = {op.axis(axis, rank) for axis in axes}
    if len(places) != len(axes) or 0 in places:
        raise RefusedError(f"axes {[*axes]} must be different ones behind the batch")
    sizes = iter(x.shape)
    return op.reshape(x, [1 if place in places else next(sizes) for place in range(1, rank)])


# ---- order ----


def transpose(op: Operation) -> Known:
    """The batch may go to another place: the network keeps it first."""
    x = op.anywhere(0)
    rank = len(x.shape) + 1
    perm = tuple(op.attribute("perm", range(rank)[::-1]))
    if sorted(perm) != list(range(rank)):
        raise RefusedError(f"attribute perm {[*perm]} is no order of {rank} dimensions")
    batch = perm.index(x.batch_axis)
    places = [place - int(place > x.batch_axis) for place in perm if place != x.batch_axis]
    x = _batch_moved(x, batch - x.batch_axis)
    if places == list(range(rank - 1)):
        return x
    return op.move("transpose", x, [x.shape[place] for place in places], {"perm": places})


def depth_to_space(op: Operation) -> Known:
    """Channels become pixels."""
    x, block = op.moved(0), op.attribute("blocksize")
    mode = op.only("mode", "DCR", "CRD")
    if len(x.shape) != 3 or block < 1 or x.shape[0] % block**2:
        raise RefusedError(f"{['batch', *x.shape]} cannot be taken apart in blocks of {block}")
    channels, height, width = x.shape
    inner = channels // block**2
    parts = (block, block, inner, height, width) if mode == "DCR" else (inner, block, block, height, width)
    perm = (2, 3, 0, 4, 1) if mode == "DCR" else (0, 3, 1, 4, 2)
    return _through(op, x, parts, perm, (inner, height * block, width * block))


def space_to_depth(op: Operation) -> Known:
    """Pixels become channels."""
    x, block = op.moved(0), op.attribute("blocksize")
    if len(x.shape) != 3 or block < 1 or x.shape[1] % block or x.shape[2] % block:
        raise RefusedError(f"{['batch', *x.shape]} cannot be taken apart in blocks of {block}")
    channels, height, width = x.shape
    parts = (channels, height // block, block, width // block, block)
    return _through(op, x, parts, (2, 4, 0, 1, 3), (channels * block**2, height // block, width // block))


def _through(op: Operation, x: Value, parts: Shape, perm: Shape, shape: Shape) -> Value:
    apart = op.reshape(x, parts)
    moved = op.move("transpose", apart, [parts[place] for place in perm], {"perm": [*perm]})
    return op.reshape(moved, shape)


# ---- parts ----


def _cut(op: Operation, x: Value, ranges: dict[int, range]) -> Value:
    """A part of some dimensions, all of the others."""
    entries = [ranges.get(axis, range(size)) for axis, size in enumerate(x.shape)]
    if any(len(entry) == 0 for entry in entries):
        raise RefusedError("takes a part without elements")
    if all(entry == range(size) for entry, size in zip(entries, x.shape, strict=True)):
        return x
    attrs = {
        "start": [entry[0] for entry in entries],
        "stop": [entry[-1] + 1 for entry in entries],
        "step": [entry.step for entry in entries],
    }
    return op.move("slice", x, [len(entry) for entry in entries], attrs)


def slice_(op: Operation) -> Known:
    """Parts with a positive step, and dimensions turned round."""
    x = op.anywhere(0)
    starts, ends = op.integers(1), op.integers(2)
    axes = tuple(range(len(starts))) if op.given(3) is None else op.integers(3)
    steps = (1,) * len(starts) if op.given(4) is None else op.integers(4)
    if not len(starts) == len(ends) == len(axes) == len(steps):
        raise RefusedError("starts, ends, axes and steps must be as many")
    ranges: dict[int, range] = {}
    turned: list[int] = []
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        if (
            op.axis(axis, len(x.shape) + 1) == x.batch_axis
            and start == 0
            and step == 1
            and (end >= BATCH or op.builder.is_batch(end))
        ):
            continue  # all samples
        place = op.sample_axis(axis, x)
        if place in ranges or step == 0:
            raise RefusedError("must name an axis once, with a step that is not 0")
        ranges[place] = range(*slice(start, end, step).indices(x.shape[place]))
        if step < 0:
            if len(ranges[place]) != x.shape[place]:
                raise RefusedError("a negative step is known for whole dimensions only")
            turned.append(place)
            ranges[place] = range(x.shape[place])
    x = _cut(op, x, ranges)
    return op.move("flip", x, x.shape, {"dims": turned}) if turned else x


def split(op: Operation) -> list[Known]:
    """Parts one after the other along a dimension."""
    x, count = op.anywhere(0), len(op.node.output)
    place = op.sample_axis(op.attribute("axis", 0), x)
    size = x.shape[place]
    op.attribute("num_outputs")
    part = -(-size // count)
    sizes = op.integers(1) if op.given(1) is not None else tuple(min(part, size - i * part) for i in range(count))
    if len(sizes) != count or sum(sizes) != size or min(sizes) < 1:
        raise RefusedError(f"{size} cannot be split into {count} parts of {[*sizes]}")
    starts = np.cumsum([0, *sizes])
    return [_cut(op, x, {place: range(int(a), int(b))}) for a, b in itertools.pairwise(starts)]


def gather(op: Operation) -> Known:
    """Known indices of a dimension."""
    x, known = op.anywhere(0), op.constant(1)
    if known.element not in (TensorProto.INT64, TensorProto.INT32):
        raise RefusedError("its indices must be integers")
    place = op.sample_axis(op.attribute("axis", 0), x)
    size = x.shape[place]
    indices = [int(index) for index in known.array.reshape(-1)]
    if not indices or any(not -size <= index < size for index in indices):
        raise RefusedError(f"its indices must be {-size} to {size - 1}, got {indices[:8]}")
    picked = _pick(op, x, place, [index % size for index in indices])
    result = op.reshape(picked, (*x.shape[:place], *known.shape, *x.shape[place + 1 :]))
    return _batch_moved(result, len(known.shape) - 1 if place < x.batch_axis else 0)


def _pick(op: Operation, x: Value, place: int, indices: Sequence[int]) -> Value:
    parts: list[range] = []
    for index in indices:  # runs with one step become one part
        last = parts[-1] if parts else None
        if last is not None and index > last[-1] and (len(last) == 1 or index - last[-1] == last.step):
            parts[-1] = range(last[0], index + 1, index - last[-1])
        else:
            parts.append(range(index, index + 1))
    if len(parts) > _MAX_PARTS:
        raise RefusedError(f"its indices are {len(parts)} separate parts; at most {_MAX_PARTS} are known")
    pieces = [_cut(op, x, {place: part}) for part in parts]
    return pieces[0] if len(pieces) == 1 else _joined(op, pieces, place)


def _joined(op: Operation, pieces: Sequence[Value], dim: int) -> Value:
    """Values with one grid stay quantised by it."""
    first = pieces[0]
    alike = all((p.grid, p.zero, p.element) == (first.grid, first.zero, first.element) for p in pieces)
    sources = [Value(p.name, p.shape) for p in pieces] if alike else [op.builder.computed(p) for p in pieces]
    shapes = {(*source.shape[:dim], *source.shape[dim + 1 :]) for source in sources}
    if len(shapes) != 1 or len({len(source.shape) for source in sources}) != 1:
        raise RefusedError(
            f"{[[*source.shape] for source in sources]} per sample cannot be joined along dimension {dim}"
        )
    shape = [*first.shape]
    shape[dim] = sum(source.shape[dim] for source in sources)
    result = op.emit("cat", sources, shape, {"dim": dim})
    if alike:
        return dataclasses.replace(first, name=result.name, shape=result.shape)
    return dataclasses.replace(result, batch_axis=first.batch_axis)


def concat(op: Operation) -> Known:
    """Values one after the other along a dimension; constants among them are the same for every sample."""
    values = [known for known in op.inputs if isinstance(known, Value)]
    rank = len(values[0].shape)
    dim = op.sample_axis(op.attribute("axis"), values[0])
    pieces = []
    for place, known in enumerate(op.inputs):
        if isinstance(known, Value):
            op.moved(place)  # refuses a batch elsewhere
            if known.zero is not None and len(values) != len(op.inputs):
                op.value(place)  # refuses integers beside constants
            pieces.append(known)
            continue
        array = op.floats(place)
        if array.ndim != rank + 1 or array.size == 0 or op.builder.batch != 1:
            raise RefusedError(
                f"input {place}, a constant {[*array.shape]}, would have to be repeated for every sample"
            )
        pieces.append(op.builder.constant(without_batch(array, rank), f"{op.hint}.{place}"))
    zeros = {(piece.zero is None) for piece in pieces}
    if len(zeros) != 1 or (not zeros.pop() and len({(p.grid, p.zero) for p in pieces}) != 1):
        raise RefusedError("joins integers of different quantisers; dequantise them first")
    return _joined(op, pieces, dim)


# ---- repetition and borders ----


def expand(op: Operation) -> Known:
    """Dimensions of 1 are repeated. A constant that is repeated for the batch is one for every sample."""
    target = op.integers(1)
    known = op.known(0)
    if not isinstance(known, Value):
        array = op.floats(0)
        if not target or not op.builder.is_batch(target[0]):
            raise RefusedError(f"repeats a constant {[*array.shape]} to {[*target]}")
        try:
            shape = np.broadcast_shapes(without_batch(array, len(target) - 1).shape, target[1:])
        except ValueError:
            raise RefusedError(f"{[*array.shape]} cannot be repeated to {[*target]}") from None
        whole = op.builder.constant(without_batch(array, len(target) - 1), f"{op.hint}.value")
        return whole if whole.shape == shape else op.emit("expand", [whole], shape)
    x = op.moved(0)
    if len(target) > len(x.shape) + 1:
        raise RefusedError(f"repeats {['batch', *x.shape]} in new dimensions before the batch")
    sizes = (1,) * (len(x.shape) + 1 - len(target)) + target
    if sizes[0] != 1 and not op.builder.is_batch(sizes[0]):
        raise RefusedError(f"repeats samples: {[*target]}")
    wanted = tuple(size if want == 1 else want for size, want in zip(x.shape, sizes[1:], strict=True))
    if any(size not in (1, want) for size, want in zip(x.shape, wanted, strict=True)):
        raise RefusedError(f"{['batch', *x.shape]} cannot be repeated to {[*target]}")
    return x if wanted == x.shape else op.move("expand", x, wanted)


def tile(op: Operation) -> Known:
    """All of a dimension again."""
    x, counts = op.moved(0), op.integers(1)
    if len(counts) != len(x.shape) + 1 or counts[0] != 1 or min(counts) < 1:
        raise RefusedError(f"its repeats must be one per dimension and 1 for the batch, got {[*counts]}")
    if set(counts) == {1}:
        return x
    apart = [part for size in x.shape for part in (1, size)]
    wide = [part for size, count in zip(x.shape, counts[1:], strict=True) for part in (count, size)]
    shape = [size * count for size, count in zip(x.shape, counts[1:], strict=True)]
    if len(apart) > 8:
        raise RefusedError("repeats values of more than five dimensions")
    return op.reshape(op.move("expand", op.reshape(x, apart), wide), shape)


def pad(op: Operation) -> Known:
    """Borders of a number, or made of the inside."""
    x, rank = op.moved(0), len(op.moved(0).shape) + 1
    amounts = op.integers(1)
    axes = range(rank) if op.given(3) is None else [op.axis(axis, rank) for axis in op.integers(3)]
    if len(amounts) != 2 * len(axes) or min(amounts, default=0) < 0:
        raise RefusedError(f"its pads must be two per dimension, none negative, got {[*amounts]}")
    before, after = [0] * rank, [0] * rank
    for i, axis in enumerate(axes):
        before[axis], after[axis] = amounts[i], amounts[i + len(axes)]
    if before[0] or after[0]:
        raise RefusedError("adds samples: its pads must leave the batch, the first dimension, alone")
    mode = op.only("mode", "constant", "reflect", "edge", "wrap")
    shape = [size + a + b for size, a, b in zip(x.shape, before[1:], after[1:], strict=True)]
    if [*shape] == [*x.shape]:
        return x
    attrs: dict[str, object] = {"before": before[1:], "after": after[1:]}
    if mode != "constant":
        return op.move(
            {"reflect": "reflection_pad", "edge": "replication_pad", "wrap": "circular_pad"}[mode], x, shape, attrs
        )
    if x.zero is not None:
        raise RefusedError("adds a border to integers; pad before QuantizeLinear or behind DequantizeLinear")
    value = 0.0 if op.given(2) is None else op.number(2)
    if not math.isfinite(value):
        raise RefusedError(f"its border must be a finite number, got {value}")
    attrs["value"] = value
    if value == 0.0 and x.grid is not None and x.grid.low <= 0 <= x.grid.high:
        return op.move("pad", x, shape, attrs)  # 0 is on the grid
    return op.emit("pad", [op.builder.computed(x)], shape, attrs)
