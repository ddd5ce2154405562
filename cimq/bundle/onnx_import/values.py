"""What stands behind a name in an ONNX graph: a constant, integers with their scale, or a value of the run."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import TensorProto, numpy_helper

from cimq.bundle.operations.registry import RefusedError

Array = npt.NDArray[Any]

BATCH = 2**31 - 1
"""What `Shape` says for the batch. Prime, and larger than any dimension can be: whatever a graph computes from it that
is not the batch itself is no size that could be meant."""

MAX_CONSTANT = 2**28
"""Elements of a constant at most, as of a value in a bundle."""

_UINT2, _INT2 = 25, 26  # older releases of onnx have no name for them

INTEGER_RANGES: dict[int, tuple[int, int]] = {
    _INT2: (-2, 1),
    _UINT2: (0, 3),
    TensorProto.INT4: (-8, 7),
    TensorProto.UINT4: (0, 15),
    TensorProto.INT8: (-128, 127),
    TensorProto.UINT8: (0, 255),
    TensorProto.INT16: (-32768, 32767),
    TensorProto.UINT16: (0, 65535),
    TensorProto.INT32: (-(2**31), 2**31 - 1),
}
"""Types of quantised values -> the integers that they hold."""

_PACKED = {TensorProto.INT4: 4, TensorProto.UINT4: 4, _INT2: 2, _UINT2: 2}


def type_name(element: int) -> str:
    """Name of an element type, for messages."""
    return str(TensorProto.DataType.Name(element)) if element in TensorProto.DataType.values() else f"type {element}"


@dataclasses.dataclass(frozen=True)
class Constant:
    """A tensor that is known.

    Attributes:
        array: Its elements; those of 2 and 4 bits as int8 or uint8.
        element: Its type in the graph (TensorProto.DataType).
        bounds: Of integers that a `Clip` has bounded, those bounds.
    """

    array: Array
    element: int
    bounds: tuple[int, int] | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the whole tensor: constants have no batch."""
        return tuple(self.array.shape)


@dataclasses.dataclass(frozen=True)
class Levels:
    """A known tensor behind `DequantizeLinear`: scale * integers.

    Attributes:
        integers: int32, zero points subtracted.
        scale: float32, one or as many as dimension `axis` has entries.
        axis: None for one scale.
        low: The smallest integer that type, `Clip` and zero point allow.
        high: The largest.
    """

    integers: Array
    scale: Array
    axis: int | None
    low: int
    high: int

    def real(self) -> Array:
        """The numbers that it stands for, float32: one product each."""
        scale = self.scale
        if self.axis is not None:
            scale = scale.reshape([-1 if i == self.axis else 1 for i in range(self.integers.ndim)])
        return np.asarray(self.integers.astype(np.float32) * scale, np.float32)


@dataclasses.dataclass(frozen=True)
class Grid:
    """What a quantiser makes of numbers: scale * clamp(rint(x / scale), low, high), zero points subtracted."""

    scale: float
    low: int
    high: int

    def within(self, low: int | None, high: int | None) -> Grid:
        """The grid behind a further clamp of its integers."""
        lower = -(2**40) if low is None else low
        upper = 2**40 if high is None else high
        return Grid(self.scale, *(min(max(bound, lower), upper) for bound in (self.low, self.high)))


@dataclasses.dataclass(frozen=True)
class Value:
    """A float32 value of the run.

    Attributes:
        name: Node of the network (or its input).
        shape: Without the batch.
        grid: The value is that of the node, quantised so. Nothing has been computed yet: a crossbar layer quantises its
            input itself, and what moves or compares values may come first.
        zero: Between `QuantizeLinear` and `DequantizeLinear`, where the graph has integers: the zero point.
        element: Type of those integers.
        batch_axis: Where the graph has the batch. The network has it first in any case; graphs move it away when they
            take queries, keys and values out of one tensor, and back.
    """

    name: str
    shape: tuple[int, ...]
    grid: Grid | None = None
    zero: int | None = None
    element: int = TensorProto.FLOAT
    batch_axis: int = 0


Known = Constant | Levels | Value


def constant_of(tensor: Any) -> Constant:
    """A tensor of the file.

    Raises:
        RefusedError: Where elements and shape do not fit, or the type is none of numbers.
    """
    count = 1
    for dim in tensor.dims:
        count *= int(dim)
        if dim < 0 or count > MAX_CONSTANT:
            raise RefusedError(
                f"tensor {tensor.name!r} has the shape {[*tensor.dims]}; at most {MAX_CONSTANT} elements can be held"
            )
    if tensor.data_type in (TensorProto.STRING, TensorProto.UNDEFINED):
        raise RefusedError(f"tensor {tensor.name!r} is {type_name(tensor.data_type)}, which is no number")
    try:
        if tensor.data_type in _PACKED:
            return Constant(_unpacked(tensor, count), tensor.data_type)
        return Constant(numpy_helper.to_array(tensor), tensor.data_type)
    except (ValueError, TypeError, KeyError) as error:
        raise RefusedError(
            f"tensor {tensor.name!r} ({type_name(tensor.data_type)} {[*tensor.dims]}) is damaged: {error}"
        ) from None


def _unpacked(tensor: Any, count: int) -> Array:
    """Elements of less than a byte: the first in the lowest bits."""
    bits = _PACKED[tensor.data_type]
    per_byte = 8 // bits
    data = np.frombuffer(tensor.raw_data, np.uint8)
    if not tensor.HasField("raw_data"):
        data = np.array(tensor.int32_data, np.int64).astype(np.uint8)
    if len(data) != -(-count // per_byte):
        raise ValueError(f"{len(data)} bytes, {-(-count // per_byte)} are needed")
    shifts = np.arange(per_byte, dtype=np.uint8) * np.uint8(bits)
    fields = ((data[:, None] >> shifts) & np.uint8(2**bits - 1)).reshape(-1)[:count].reshape([*tensor.dims])
    low, high = INTEGER_RANGES[tensor.data_type]
    if low == 0:
        return np.asarray(fields, np.uint8)
    signed = fields.astype(np.int16)
    return np.asarray(np.where(signed > high, signed - 2**bits, signed), np.int8)
