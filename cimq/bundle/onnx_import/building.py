"""The network that is being made of an ONNX graph, and one node of the graph as its handler sees it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from onnx import TensorProto, helper

from cimq.bundle.network import CrossbarFacts, Node
from cimq.bundle.onnx_import.values import BATCH, MAX_CONSTANT, Array, Constant, Known, Levels, Value, type_name
from cimq.bundle.operations.registry import RefusedError

_MAX_NAME = 200
Shape = tuple[int, ...]


class Builder:
    """Nodes in order of execution.

    Attributes:
        nodes: What has been made.
        batch: Number of samples that the graph is written for, None where it may be any.
        in_float32: Layer or product that no crossbar computes -> why.
        widened: Layer whose weights need another form than they are stored in -> which.
    """

    def __init__(self, batch: int | None, input_name: str) -> None:
        self.nodes: list[Node] = []
        self.batch = batch
        self.in_float32: dict[str, str] = {}
        self.widened: dict[str, str] = {}
        self._names: set[str] = {input_name}
        self._layer_names: set[str] = set()
        self._computed: dict[Value, Value] = {}

    def emit(
        self,
        op: str,
        inputs: Sequence[Value],
        shape: Sequence[int],
        attrs: Mapping[str, Any] | None = None,
        *,
        hint: str,
        tensors: Mapping[str, Any] | None = None,
        crossbar: CrossbarFacts | None = None,
    ) -> Value:
        """Adds a node; its name is `hint`, or begins with it."""
        shape = tuple(int(size) for size in shape)
        check_size(shape)
        values = {role: torch.from_numpy(np.array(value, order="C")) for role, value in (tensors or {}).items()}
        name = _free(hint, self._names)
        names = tuple(value.name for value in inputs)
        self.nodes.append(Node(name, op, names, shape, dict(attrs or {}), values, crossbar))
        return Value(name, shape)

    def rename(self, first: int, value: Value, name: str) -> Value:
        """Gives the node of `value` the name of what it is in the graph, if it is one of the nodes from `first` on."""
        nodes = self.nodes[first:]
        long = len(name.encode()) > _MAX_NAME
        if long or name in self._names or all(node.name != value.name for node in nodes):
            return value
        self._names.add(name)
        for place, node in enumerate(nodes, first):
            inputs = tuple(name if entry == value.name else entry for entry in node.inputs)
            own = name if node.name == value.name else node.name
            self.nodes[place] = dataclasses.replace(node, name=own, inputs=inputs)
        for key, known in self._computed.items():
            if known.name == value.name:
                self._computed[key] = dataclasses.replace(known, name=name)
        return dataclasses.replace(value, name=name)

    def computed(self, value: Value) -> Value:
        """The value itself: where it is quantised, a node that does so."""
        if value.grid is None:
            return value
        if value not in self._computed:
            grid, source = value.grid, Value(value.name, value.shape)
            attrs = {"low": grid.low, "high": grid.high}
            scale = {"scale": np.float32(grid.scale)}
            hint = f"{value.name}.quantized"
            result = self.emit("fake_quantize", [source], value.shape, attrs, hint=hint, tensors=scale)
            self._computed[value] = dataclasses.replace(result, batch_axis=value.batch_axis)
        return self._computed[value]

    def constant(self, array: Array, hint: str) -> Value:
        """A node with a value that is the same for every sample; `array` has no batch."""
        stored = np.asarray(array, np.float32)
        if not np.isfinite(stored).all():
            raise RefusedError("a constant must be finite; write masks with a large negative number, not infinity")
        return self.emit("constant", [], stored.shape, hint=hint, tensors={"value": stored})

    @property
    def layers(self) -> int:
        """Layers on crossbars so far."""
        return sum(node.crossbar is not None for node in self.nodes)

    def layer_name(self, name: str) -> str:
        """A name for a layer of the policy that no other has."""
        return _free(name, self._layer_names)

    def is_batch(self, size: int) -> bool:
        """Whether a size in the graph stands for the number of samples."""
        return size == BATCH or (self.batch is not None and size == self.batch)


def check_size(shape: Sequence[int]) -> None:
    """Refuses shapes that a bundle cannot hold, and those into which the batch has been multiplied."""
    count = 1
    for size in shape:
        if not 1 <= size <= MAX_CONSTANT // count:
            raise RefusedError(
                f"its result has the shape {[*shape]} per sample; a value has 1 to {MAX_CONSTANT} elements, and no "
                "size may depend on how many samples there are"
            )
        count *= size


def without_batch(array: Array, rank: int) -> Array:
    """A constant as an operand of values with `rank` dimensions per sample."""
    if array.ndim > rank + 1 or (array.ndim == rank + 1 and array.shape[0] != 1):
        raise RefusedError(
            f"a constant {[*array.shape]} does not fit values of {rank + 1} dimensions, the first of which is the batch"
        )
    array = array[0] if array.ndim == rank + 1 else array
    return array.reshape((1,) * (rank - array.ndim) + array.shape)


def _free(hint: str, taken: set[str]) -> str:
    short = hint if len(hint.encode()) <= _MAX_NAME else hint.encode()[-_MAX_NAME:].decode(errors="ignore")
    name, number = short, 1
    while not name or name in taken:
        number += 1
        name = f"{short}.{number}"
    taken.add(name)
    return name


@dataclasses.dataclass
class Operation:
    """One node of the graph.

    Attributes:
        node: As the file has it.
        opset: Version of the ONNX operators.
        inputs: What stands behind its inputs; None where one is left out.
        builder: What its handler adds to.
    """

    node: Any
    opset: int
    inputs: tuple[Known | None, ...]
    builder: Builder

    def __post_init__(self) -> None:
        self._attributes = {entry.name: entry for entry in self.node.attribute}
        self._read: set[str] = set()

    @property
    def name(self) -> str:
        """The node's name, or that of its result."""
        return str(self.node.name or self.node.output[0])

    @property
    def hint(self) -> str:
        """What nodes that are made of it are called."""
        return str(self.node.output[0])

    # ---- attributes ----

    def attribute(self, key: str, default: Any = None) -> Any:
        """An attribute as Python has it; `default` where it is left out."""
        self._read.add(key)
        if key not in self._attributes:
            return default
        value = helper.get_attribute_value(self._attributes[key])
        return value.decode(errors="replace") if isinstance(value, bytes) else value

    def only(self, key: str, *allowed: Any) -> Any:
        """An attribute that may have these values alone; the first is the default."""
        value = self.attribute(key, allowed[0])
        if value not in allowed:
            meant = " or ".join(repr(entry) for entry in allowed)
            raise RefusedError(f"attribute {key} must be {meant}, got {value!r}")
        return value

    def finish(self) -> None:
        """Refuses attributes that nobody has asked for: they could change the result."""
        for key in self._attributes:
            if key not in self._read:
                raise RefusedError(f"attribute {key} is not known for this operator")

    # ---- inputs ----

    def given(self, place: int) -> Known | None:
        """An input that may be left out."""
        return self.inputs[place] if place < len(self.inputs) else None

    def known(self, place: int) -> Known:
        """An input."""
        found = self.given(place)
        if found is None:
            raise RefusedError(f"input {place} is missing")
        return found

    def value(self, place: int = 0) -> Value:
        """An input that is a float32 value of the run, perhaps a quantised one."""
        found = self.moved(place)
        if found.zero is not None:
            raise RefusedError(
                f"input {place} holds the integers of QuantizeLinear; between it and DequantizeLinear only Clip, "
                "pooling by maximum and what moves values can stand"
            )
        return found

    def plain(self, place: int = 0) -> Value:
        """As `value`, computed."""
        return self.builder.computed(self.value(place))

    def moved(self, place: int = 0) -> Value:
        """As `value`, for what moves or compares values: also the integers between quantiser and dequantiser."""
        found = self.anywhere(place)
        if found.batch_axis:
            raise RefusedError(
                f"input {place} has the batch as dimension {found.batch_axis}; bring it to the front before"
            )
        return found

    def anywhere(self, place: int = 0) -> Value:
        """As `moved`, with the batch in any place."""
        found = self.known(place)
        if not isinstance(found, Value):
            raise RefusedError(
                f"input {place} is a constant, where a value that depends on the network's input is meant"
            )
        return found

    def constant(self, place: int) -> Constant:
        """An input that is known."""
        found = self.known(place)
        if not isinstance(found, Constant):
            raise RefusedError(f"input {place} must be a constant, but depends on the network's input or is quantised")
        return found

    def integers(self, place: int) -> tuple[int, ...]:
        """A known list of integers, or a known integer."""
        found = self.constant(place)
        if found.element not in (TensorProto.INT64, TensorProto.INT32) or found.array.ndim > 1:
            raise RefusedError(
                f"input {place} must be a list of integers, got {type_name(found.element)} {[*found.shape]}"
            )
        return tuple(int(entry) for entry in found.array.reshape(-1))

    def floats(self, place: int) -> Array:
        """A known float32 tensor; of a quantised one what it stands for."""
        found = self.known(place)
        if isinstance(found, Levels):
            return found.real()
        if not isinstance(found, Constant) or found.element != TensorProto.FLOAT:
            got = "a value of the run" if isinstance(found, Value) else type_name(found.element)
            raise RefusedError(f"input {place} must be a float32 constant, got {got}")
        return found.array

    def number(self, place: int) -> float:
        """A known float32 number."""
        array = self.floats(place)
        if array.size != 1:
            raise RefusedError(f"input {place} must be one number, got the shape {[*array.shape]}")
        return float(array.reshape(-1)[0])

    def axis(self, axis: int, rank: int) -> int:
        """A dimension counted from the front; `rank` counts the batch."""
        if not -rank <= axis < rank:
            raise RefusedError(f"axis {axis} is none of {rank} dimensions")
        return axis % rank

    def sample_axis(self, axis: int, x: Value) -> int:
        """A dimension of a value, counted without the batch."""
        place = self.axis(axis, len(x.shape) + 1)
        if place == x.batch_axis:
            raise RefusedError("works along the batch, which must be left alone")
        return place - int(place > x.batch_axis)

    # ---- results ----

    def emit(
        self,
        op: str,
        inputs: Sequence[Value],
        shape: Sequence[int],
        attrs: Mapping[str, Any] | None = None,
        tensors: Mapping[str, Any] | None = None,
    ) -> Value:
        """Adds a node of the bundle. The reader gives the last one the name of the result."""
        return self.builder.emit(op, inputs, shape, attrs, hint=f"{self.hint}.{op}", tensors=tensors)

    def move(self, op: str, x: Value, shape: Sequence[int], attrs: Mapping[str, Any] | None = None) -> Value:
        """Adds a node that moves or compares values: what is quantised after it is as if it had been before."""
        source = Value(x.name, x.shape)
        return dataclasses.replace(x, name=self.emit(op, [source], shape, attrs).name, shape=tuple(shape))

    def reshape(self, x: Value, shape: Sequence[int]) -> Value:
        """`x` in another shape, without a node where it is the same."""
        return x if tuple(shape) == x.shape else self.move("reshape", x, shape)
