"""An ONNX file as a network of a bundle."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import onnx

from cimq.bundle.network import Network
from cimq.bundle.onnx_import.building import Builder, Operation
from cimq.bundle.onnx_import.folding import fold
from cimq.bundle.onnx_import.model_file import DOMAINS, opset_of, read_model
from cimq.bundle.onnx_import.table import ADVICE, HANDLERS, TAKES_CONSTANTS
from cimq.bundle.onnx_import.values import MAX_CONSTANT, Known, Value, constant_of, type_name
from cimq.bundle.operations.registry import RefusedError
from cimq.errors import CimqWarning, some_names


def read_onnx(path: str | Path, *, input_shape: Sequence[int] | None = None, output: str | None = None) -> Network:
    """Reads a quantised ONNX model (docs/onnx.md); warns of layers left in float32, and of weights that need more bits.

    Args:
        path: The file.
        input_shape: Of one sample, where the file leaves sizes open.
        output: Which output to compute, where there are several.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is damaged, or something in it has no form in a bundle: names node, operator and attribute,
            and what to do.
    """
    path = Path(path)
    model = read_model(path)
    try:
        reader = _Reader(model, input_shape, output)
        network = reader.read()
    except RefusedError as error:
        raise ValueError(f"ONNX model {path}: {error}") from None
    for remark in _remarks(reader.builder):
        warnings.warn(f"ONNX model {path}: {remark}", CimqWarning, stacklevel=3)
    return network


class _Reader:
    def __init__(self, model: onnx.ModelProto, input_shape: Sequence[int] | None, output: str | None) -> None:
        self.graph, self.opset = model.graph, opset_of(model)
        if self.graph.sparse_initializer:
            raise RefusedError("has sparse initializers; store weights dense")
        self.tensors = {tensor.name: tensor for tensor in self.graph.initializer}
        self.output = self._chosen(output)
        self.needed = self._needed()
        entry = self._input()
        batch, shape = _input_shape(entry, input_shape)
        self.builder = Builder(batch, entry.name)
        self.known: dict[str, Known] = {entry.name: Value(entry.name, shape)}
        self.input = Value(entry.name, shape)

    def read(self) -> Network:
        for node in self.needed:
            self._compute(node)
        result = self.known.get(self.output)
        if not isinstance(result, Value):
            raise RefusedError(f"output {self.output!r} does not depend on the input")
        if result.zero is not None:
            raise RefusedError(f"output {self.output!r} holds integers; end with DequantizeLinear")
        if result.batch_axis:
            raise RefusedError(f"output {self.output!r} has the batch as dimension {result.batch_axis}, not first")
        result = self.builder.computed(result)
        if result.name == self.input.name:
            raise RefusedError(f"output {self.output!r} is the input itself")
        network = Network(self.input.name, self.input.shape, result.name, _used(self.builder, result.name))
        if not network.crossbar_nodes():
            raise RefusedError(_nothing_quantised(self.builder))
        return network

    # ---- what is computed ----

    def _chosen(self, output: str | None) -> str:
        names = [entry.name for entry in self.graph.output]
        if output is None and len(names) == 1:
            return str(names[0])
        if output is None:
            raise RefusedError(f"has {len(names)} outputs; say which with output=: {some_names(names)}")
        if output not in names:
            raise RefusedError(f"has no output {output!r}; it has {some_names(names)}")
        return output

    def _needed(self) -> list[Any]:
        """Nodes that the output depends on, in the order of the file, which is one of execution."""
        wanted, nodes = {self.output}, []
        for node in reversed(self.graph.node):
            if wanted.intersection(node.output):
                nodes.append(node)
                wanted.update(name for name in node.input if name)
        self.wanted = wanted
        return nodes[::-1]

    def _input(self) -> Any:
        entries = [entry for entry in self.graph.input if entry.name not in self.tensors]
        used = [entry for entry in entries if entry.name in self.wanted]
        if len(used) != 1:
            raise RefusedError(
                f"has {len(used)} inputs that {self.output!r} depends on ({some_names([e.name for e in used])}); one "
                "is known, a float32 tensor with the batch first"
            )
        return used[0]

    def _compute(self, node: Any) -> None:
        kind = _kind(node)
        first = len(self.builder.nodes)
        try:
            results = self._results(node, kind)
        except RefusedError as error:
            name = node.name or (node.output[0] if node.output else "")
            raise RefusedError(f"node {name!r} ({kind}): {error}") from None
        for name, result in zip(node.output, results, strict=False):
            if name and isinstance(result, Value):
                result = self.builder.rename(first, result, name)
            if name:
                self.known[name] = result
        for name in node.output[len(results) :]:
            if name and name in self.wanted:
                raise RefusedError(f"node {node.name!r} ({kind}): its output {name!r} is used; only the first is known")

    def _results(self, node: Any, kind: str) -> list[Known]:
        if not node.output or not node.output[0]:
            raise RefusedError("has no output")
        inputs = tuple(self._value_of(name) if name else None for name in node.input)
        op = Operation(node, self.opset, inputs, self.builder)
        constant = not any(isinstance(known, Value) for known in inputs)
        if constant and kind not in TAKES_CONSTANTS:
            result: Known | list[Known] = fold(op)
        elif kind in HANDLERS:
            result = HANDLERS[kind](op)
        else:
            raise RefusedError(f"this operator is not supported; {ADVICE.get(kind, 'docs/onnx.md lists what is')}")
        op.finish()
        return result if isinstance(result, list) else [result]

    def _value_of(self, name: str) -> Known:
        if name not in self.known:
            if name not in self.tensors:
                raise RefusedError(f"its input {name!r} is computed by no node before it")
            self.known[name] = constant_of(self.tensors[name])
        return self.known[name]


def _kind(node: Any) -> str:
    domain = DOMAINS.get(node.domain, node.domain)
    return f"{domain}.{node.op_type}" if domain else str(node.op_type)


def _input_shape(entry: Any, stated: Sequence[int] | None) -> tuple[int | None, tuple[int, ...]]:
    """The batch, None where it is open, and the shape of a sample."""
    kind = entry.type.tensor_type
    if not entry.type.HasField("tensor_type") or kind.elem_type != onnx.TensorProto.FLOAT:
        got = type_name(kind.elem_type) if entry.type.HasField("tensor_type") else "no tensor"
        raise RefusedError(f"input {entry.name!r} must be a float32 tensor, got {got}")
    if not kind.HasField("shape") or len(kind.shape.dim) < 2:
        raise RefusedError(f"input {entry.name!r} must have a batch dimension and at least one more")
    sizes = [int(dim.dim_value) if dim.HasField("dim_value") else None for dim in kind.shape.dim]
    batch, shape = sizes[0], sizes[1:]
    if stated is not None:
        given = [int(size) for size in stated]
        fits = len(given) == len(shape) and all(a in (None, b) for a, b in zip(shape, given, strict=False))
        if not fits:
            shown = ["?" if size is None else size for size in shape]
            raise RefusedError(f"input_shape {given} does not fit the input {entry.name!r}, {shown} per sample")
        shape = [*given]
    if any(size is None for size in shape):
        shown = ["?" if size is None else size for size in shape]
        raise RefusedError(f"input {entry.name!r} leaves sizes open, {shown} per sample; give input_shape=")
    result = tuple(size for size in shape if size is not None)
    if batch is not None and batch < 1:
        raise RefusedError(f"input {entry.name!r} has the batch {batch}; it must be at least 1, or open")
    if min(result) < 1 or math.prod(result) > MAX_CONSTANT:
        raise RefusedError(f"input {entry.name!r} has the shape {[*result]} per sample; 1 to {MAX_CONSTANT} elements")
    return batch, result


def _used(builder: Builder, output: str) -> tuple[Any, ...]:
    """Without nodes that nothing reads."""
    wanted, nodes = {output}, []
    for node in reversed(builder.nodes):
        if node.name in wanted:
            nodes.append(node)
            wanted.update(node.inputs)
    return tuple(reversed(nodes))


def _nothing_quantised(builder: Builder) -> str:
    reasons = [f"{name!r} ({why})" for name, why in builder.in_float32.items()]
    text = "has no layer that could be on a crossbar: a Conv, Gemm or MatMul whose input and weight are quantised"
    return f"{text}; it has {some_names(reasons, 3)}" if reasons else text


def _remarks(builder: Builder) -> tuple[str, ...]:
    remarks = []
    if builder.in_float32:
        entries = [f"{name!r} ({why})" for name, why in builder.in_float32.items()]
        remarks.append(f"left in float32: {some_names(entries, 5)}")
    if builder.widened:
        entries = [f"{name!r} ({what})" for name, what in builder.widened.items()]
        text = "crossbars hold weights symmetrically, -(2^(w-1) - 1) .. 2^(w-1) - 1"
        remarks.append(f"{text}; quantise without the lowest integer to save them: {some_names(entries, 5)}")
    return tuple(remarks)
