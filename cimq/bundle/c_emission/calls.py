"""The C call of a node, one function per kind of node; docs/bundle.md has what they compute."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from cimq.bundle.c_emission.simulator import SimulatedLayer
from cimq.bundle.c_emission.source_text import c_float, c_sizes, c_string
from cimq.bundle.c_emission.weights import WeightFile
from cimq.mapping import act_range

Node = Mapping[str, Any]
Shape = Sequence[int]


@dataclasses.dataclass(frozen=True)
class Values:
    """What the calls refer to.

    Attributes:
        shapes: Name of a value -> its shape, without the batch.
        places: Name of a value -> C expression of its first element.
        weights: Tensors.
        layers: Name of a crossbar layer -> how the simulator gets it.
    """

    shapes: Mapping[str, tuple[int, ...]]
    places: Mapping[str, str]
    weights: WeightFile
    layers: Mapping[str, SimulatedLayer]

    def input(self, node: Node, index: int = 0) -> str:
        """C expression of an input of a node."""
        return self.places[node["inputs"][index]]

    def input_shape(self, node: Node, index: int = 0) -> tuple[int, ...]:
        """Its shape."""
        return self.shapes[node["inputs"][index]]

    def result(self, node: Node) -> str:
        """C expression of where its result goes."""
        return self.places[node["name"]]

    def floats(self, node: Node, role: str) -> str:
        """C expression of a float32 tensor of a node; NULL if it has none."""
        return self.weights.floats(node["tensors"][role]) if role in node["tensors"] else "NULL"


def call_of(node: Node, values: Values) -> list[str]:
    """Statements that compute a node.

    Raises:
        ValueError: For an operation that has no C; names the node and what there is.
    """
    write = _CALLS.get(node["op"])
    if write is None:
        raise ValueError(
            f"emit_c: node '{node['name']}' is the operation '{node['op']}', which has no C. There is "
            f"{', '.join(sorted(_CALLS))}: replace it in the model, or run the bundle with cimq run or cimq-run"
        )
    return write(node, values)


def _window(node: Node, values: Values) -> str:
    """The window of a node, whatever it states of it."""
    attrs = node["attrs"]
    channels, height, width = values.input_shape(node)
    kernel, stride, dilation = (attrs.get(key, (1, 1)) for key in ("kernel", "stride", "dilation"))
    padding = attrs.get("padding", (0, 0))
    top, left = (padding[2], padding[0]) if len(padding) == 4 else padding
    sizes = (channels, height, width, *node["shape"][1:], *kernel, *stride, top, left, *dilation)
    return "{" + ", ".join(str(size) for size in sizes) + "}"


def _crossbar(node: Node, values: Values) -> list[str]:
    simulated = values.layers[node["layer_name"]]
    zero = node.get("act_zero", 0)
    low, high = act_range(node["act_bits"], node["act_signed"])
    conv = node["op"] == "crossbar_conv2d"
    tile_outputs, tile_inputs = simulated.tile
    fields = {
        "name": c_string(node["layer_name"]),
        "config": c_string(simulated.text),
        "scale": c_float(values.weights.number(node["tensors"]["x_scale"])),
        "low": c_float(low + zero),
        "high": c_float(high + zero),
        "zero": zero,
        "shift": simulated.shift,
        "groups": node["repeats"],
        "outputs": node["outputs"],
        "inputs": node["inputs_per_output"],
        "tile_outputs": tile_outputs,
        "tile_inputs": tile_inputs,
        "vectors": node["invocations"],
        "is_conv": int(conv),
        "weight": values.weights.integers(node["tensors"]["weight"]),
        "multiplier": values.floats(node, "multiplier"),
        "bias": values.floats(node, "bias"),
    }
    if conv:
        fields["window"] = _window(node, values)
    return [
        "const cimq_layer layer = {",
        *(f"    .{key} = {value}," for key, value in fields.items()),
        "};",
        f"wrong = cimq_crossbar(&layer, {values.input(node)}, {values.result(node)}, observer, context);",
    ]


def _conv2d_f32(node: Node, values: Values) -> list[str]:
    groups = node["attrs"]["groups"]
    tensors = f"{values.floats(node, 'weight')}, {values.floats(node, 'bias')}"
    rest = f"{groups}, {node['shape'][0] // groups}, {values.result(node)}"
    return _with_window(node, values, f"cimq_conv2d_f32({values.input(node)}, {tensors}, &window, {rest});")


def _linear_f32(node: Node, values: Values) -> list[str]:
    shape = values.input_shape(node)
    tensors = f"{values.floats(node, 'weight')}, {values.floats(node, 'bias')}"
    sizes = f"{math.prod(shape[:-1])}, {shape[-1]}, {node['shape'][-1]}"
    return [f"cimq_linear_f32({values.input(node)}, {tensors}, {sizes}, {values.result(node)});"]


def _with_window(node: Node, values: Values, call: str) -> list[str]:
    return [f"const cimq_window window = {_window(node, values)};", call]


def _max_pool2d(node: Node, values: Values) -> list[str]:
    return _with_window(node, values, f"cimq_max_pool2d({values.input(node)}, &window, {values.result(node)});")


def _avg_pool2d(node: Node, values: Values) -> list[str]:
    counted = int(node["attrs"]["count_include_pad"])
    divisor = node["attrs"].get("divisor") or 0
    arguments = f"{values.input(node)}, &window, {counted}, {divisor}, {values.result(node)}"
    return _with_window(node, values, f"cimq_avg_pool2d({arguments});")


def _adaptive_pool2d(node: Node, values: Values) -> list[str]:
    maximum = int(node["op"] == "adaptive_max_pool2d")
    arguments = f"{values.input(node)}, &window, {maximum}, {values.result(node)}"
    return _with_window(node, values, f"cimq_adaptive_pool2d({arguments});")


def _mean(node: Node, values: Values) -> list[str]:
    shape = values.input_shape(node)
    strides = _strides(shape)
    summed = sorted(node["attrs"]["dims"])
    parts = []
    for dims in ([dim for dim in range(len(shape)) if dim not in summed], summed):
        sizes = c_sizes([shape[dim] for dim in dims]), c_sizes([strides[dim] for dim in dims])
        parts.append(f"{len(dims)}, {sizes[0]}, {sizes[1]}")
    return [f"cimq_mean({values.input(node)}, {parts[0]}, {parts[1]}, {values.result(node)});"]


def _clamp(node: Node, values: Values) -> list[str]:
    low, high = (0.0, None) if node["op"] == "relu" else (node["attrs"]["min"], node["attrs"]["max"])
    low, high = (-math.inf if low is None else low), (math.inf if high is None else high)
    bounds = f"{c_float(low)}, {c_float(high)}"
    return [f"cimq_clamp({values.input(node)}, {_size(node)}, {bounds}, {values.result(node)});"]


def _leaky_relu(node: Node, values: Values) -> list[str]:
    if node["op"] == "leaky_relu":
        slopes, channels = f"(const float[]){{{c_float(node['attrs']['slope'])}}}", 1
    else:
        slopes = values.floats(node, "weight")
        channels = values.weights.shape(node["tensors"]["weight"])[0]
    sizes = f"{channels}, {_size(node) // channels}"
    return [f"cimq_leaky_relu({values.input(node)}, {slopes}, {sizes}, {values.result(node)});"]


def _affine(node: Node, values: Values) -> list[str]:
    tensors = f"{values.floats(node, 'scale')}, {values.floats(node, 'shift')}"
    channels = node["shape"][0]
    sizes = f"{channels}, {_size(node) // channels}"
    return [f"cimq_affine({values.input(node)}, {tensors}, {sizes}, {values.result(node)});"]


def _binary(node: Node, values: Values) -> list[str]:
    shape = node["shape"]
    strides = []
    for index in range(2):
        operand = values.input_shape(node, index)
        strides.append([0 if size == 1 else stride for size, stride in zip(operand, _strides(operand), strict=True)])
    arguments = [
        f"CIMQ_{node['op'].upper()}",
        values.input(node),
        values.input(node, 1),
        str(len(shape)),
        *(c_sizes(sizes) for sizes in (shape, *strides)),
        values.result(node),
    ]
    return [f"cimq_binary({', '.join(arguments)});"]


def _copy(node: Node, values: Values) -> list[str]:
    return [f"cimq_copy({values.input(node)}, {_size(node)}, {values.result(node)});"]


def _constant(node: Node, values: Values) -> list[str]:
    return [f"cimq_copy({values.floats(node, 'value')}, {_size(node)}, {values.result(node)});"]


def _box(source: str, offset: int, shape: Shape, strides: tuple[Shape, Shape], target: str, at: int = 0) -> str:
    """Copies a box of `shape` from element `offset` on, to element `at` on; strides of the source and the target."""
    sizes = ", ".join(c_sizes(list(values)) for values in (shape, *strides))
    return f"cimq_box({source} + {offset}, {len(shape)}, {sizes}, {target} + {at});"


def _slice(node: Node, values: Values) -> list[str]:
    strides = _strides(values.input_shape(node))
    steps = [stride * step for stride, step in zip(strides, node["attrs"]["step"], strict=True)]
    offset = _dot(node["attrs"]["start"], strides)
    own = _strides(node["shape"])
    return [_box(values.input(node), offset, node["shape"], (steps, own), values.result(node))]


def _pad(node: Node, values: Values) -> list[str]:
    shape = values.input_shape(node)
    own = _strides(node["shape"])
    at = _dot(node["attrs"]["before"], own)
    return [
        f"cimq_fill({values.result(node)}, {_size(node)}, {c_float(node['attrs']['value'])});",
        _box(values.input(node), 0, shape, (_strides(shape), own), values.result(node), at),
    ]


def _transpose(node: Node, values: Values) -> list[str]:
    strides = _strides(values.input_shape(node))
    permuted = [strides[dim] for dim in node["attrs"]["perm"]]
    return [_box(values.input(node), 0, node["shape"], (permuted, _strides(node["shape"])), values.result(node))]


def _expand(node: Node, values: Values) -> list[str]:
    shape = values.input_shape(node)
    repeated = [0 if size == 1 else stride for size, stride in zip(shape, _strides(shape), strict=True)]
    return [_box(values.input(node), 0, node["shape"], (repeated, _strides(node["shape"])), values.result(node))]


def _flip(node: Node, values: Values) -> list[str]:
    shape = values.input_shape(node)
    own = _strides(shape)
    strides = list(own)
    offset = 0
    for dim in node["attrs"]["dims"]:
        offset += (shape[dim] - 1) * own[dim]
        strides[dim] = -own[dim]
    return [_box(values.input(node), offset, shape, (strides, own), values.result(node))]


def _cat(node: Node, values: Values) -> list[str]:
    dim = node["attrs"]["dim"]
    own = _strides(node["shape"])
    calls = []
    at = 0
    for index in range(len(node["inputs"])):
        shape = values.input_shape(node, index)
        boxes = (_strides(shape), own)
        calls.append(_box(values.input(node, index), 0, shape, boxes, values.result(node), at * own[dim]))
        at += shape[dim]
    return calls


def _size(node: Node) -> int:
    return math.prod(node["shape"])


def _strides(shape: Shape) -> list[int]:
    return [math.prod(shape[dim + 1 :]) for dim in range(len(shape))]


def _dot(a: Shape, b: Shape) -> int:
    return sum(x * y for x, y in zip(a, b, strict=True))


_CALLS: dict[str, Callable[[Node, Values], list[str]]] = {
    "crossbar_conv2d": _crossbar,
    "crossbar_linear": _crossbar,
    "conv2d_f32": _conv2d_f32,
    "linear_f32": _linear_f32,
    "relu": _clamp,
    "clamp": _clamp,
    "leaky_relu": _leaky_relu,
    "prelu": _leaky_relu,
    "affine": _affine,
    **dict.fromkeys(("add", "sub", "mul", "div", "minimum", "maximum"), _binary),
    "constant": _constant,
    "max_pool2d": _max_pool2d,
    "avg_pool2d": _avg_pool2d,
    "adaptive_avg_pool2d": _adaptive_pool2d,
    "adaptive_max_pool2d": _adaptive_pool2d,
    "mean": _mean,
    "flatten": _copy,
    "reshape": _copy,
    "slice": _slice,
    "pad": _pad,
    "cat": _cat,
    "transpose": _transpose,
    "expand": _expand,
    "flip": _flip,
}
