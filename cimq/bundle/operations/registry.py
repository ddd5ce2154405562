"""What a bundle must know of an operation: one row each (`Operation`), in the file of its subject."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy.typing as npt
import torch

from cimq.bundle.network import Node

UNIT_ROUNDOFF = 2.0**-24  # of float32


class RefusedError(Exception):
    """Why an operation has no form in a bundle."""


@dataclasses.dataclass(frozen=True)
class Call:
    """One operation of the graph, as its handler gets it.

    Attributes:
        name: Name of its result.
        inputs: Names of the values among its arguments, in their order, also of those in lists.
        in_shape: Shape of the first of them, without the batch.
        shape: Shape of its result, without the batch.
        module: The module it calls, if it calls one.
        rest: Arguments after the first.
        args: All arguments; parameters and what is computed from them are tensors among them.
        operands: For each argument the name of the value it is, None where it is none.
        shapes: Shapes of `inputs`, without the batch.
    """

    name: str
    inputs: tuple[str, ...]
    in_shape: tuple[int, ...]
    shape: tuple[int, ...]
    module: Any
    rest: tuple[Any, ...]
    args: tuple[Any, ...]
    operands: tuple[str | None, ...]
    shapes: tuple[tuple[int, ...], ...]

    def node(self, op: str, attrs: dict[str, Any] | None = None, **changes: Any) -> list[Node]:
        """The operation as one node."""
        return [Node(self.name, op, self.inputs, self.shape, attrs or {}, **changes)]


class OnnxWriter(Protocol):
    """What a row writes its ONNX nodes with.

    Attributes:
        shapes: Name of a value of the network -> its shape, without the batch.
        constants: Names of values that depend on no input: they have a batch of 1.
    """

    shapes: dict[str, tuple[int, ...]]
    constants: set[str]

    def emit(self, op: str, inputs: list[str], output: str, **attributes: Any) -> str:
        """Adds an ONNX node with one output; returns the output's name."""

    def constant(self, name: str, value: npt.NDArray[Any]) -> str:
        """Adds an initializer; returns its name."""


@dataclasses.dataclass(frozen=True)
class Operand:
    """An input of a node in the check of model.onnx.

    Attributes:
        size: The largest magnitude that occurs.
        error: The bound of its error.
        values: What onnxruntime computed, [B, ...].
    """

    size: float
    error: float
    values: npt.NDArray[Any]


def passes_on(node: Node, operands: Sequence[Operand]) -> float:
    """The bound of operations that move or compare values, or have a slope of at most one, and round nothing."""
    return max(operand.error for operand in operands)


@dataclasses.dataclass(frozen=True)
class Operation:
    """A row: one `op` of layers.json.

    Attributes:
        op: Its name.
        targets: Modules and functions of a converted graph (cimq/quantization/graph/normal_form.py) -> what makes their
            nodes. A handler may make nodes of several operations; it stands in one of their rows.
        write: Writes the ONNX nodes, the last of which has the node's name; None for layers with weights, which
            `onnx_model` writes.
        takes_constants: Whether its handlers know what to do with a parameter or buffer among the arguments; the reader
            refuses one anywhere else.
        of_constants: Whether it may have no value among its arguments at all: a constant becomes one for every sample.
        bound: Bound of the difference between onnxruntime's result and the model's, from that of the inputs; None for
            layers with weights, which `onnx_check` bounds.
        rounds_once: Every result is the correctly rounded one of one operation of float32 numbers, whoever computes it.
    """

    op: str
    targets: Mapping[Any, Callable[[Call], list[Node]]] = dataclasses.field(default_factory=dict)
    write: Callable[[OnnxWriter, Node], Any] | None = None
    bound: Callable[[Node, Sequence[Operand]], float] | None = passes_on
    takes_constants: bool = False
    of_constants: bool = False
    rounds_once: bool = False

    @property
    def exact(self) -> bool:
        """Whether every runtime gives the same bits."""
        return self.rounds_once or self.bound is passes_on


def pair(value: Any) -> tuple[int, int]:
    """(vertical, horizontal) of one value or two."""
    values = (value, value) if isinstance(value, int) else tuple(int(v) for v in value)
    return (values[0], values[-1])


def place_of(dim: int, rank: int, what: str) -> int:
    """The number of a dimension without the batch; `rank` is the number of dimensions with it.

    Raises:
        RefusedError: For the batch; names `what`.
    """
    if dim % rank == 0:
        raise RefusedError(f"{what} must leave the batch alone")
    return dim % rank - 1


def float32(value: float | None) -> float | None:
    """The float32 number that PyTorch makes of a Python number where it meets float32 values."""
    return None if value is None else float(torch.tensor(float(value), dtype=torch.float32))


def finite_constant(value: torch.Tensor) -> torch.Tensor:
    """A parameter or buffer as a bundle stores it, float32; RefusedError where it is not finite."""
    stored = value.detach().float()
    if not bool(torch.isfinite(stored).all()):
        raise RefusedError("a parameter, buffer or number must be finite")
    return stored
