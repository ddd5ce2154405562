"""What each operation of a converted model is in a bundle: a handler for every module and function that `cimq.convert`
leaves (cimq/quantization/normal_form.py has the list).
"""

from __future__ import annotations

import dataclasses
import operator
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from cimq import ops
from cimq.bundle.network import CrossbarFacts, Node, as_int8, window_shape
from cimq.quantization.converted import (
    Affine,
    Conv2dF32,
    CrossbarConv1d,
    CrossbarConv2d,
    CrossbarLayer,
    CrossbarLinear,
    LinearF32,
)
from cimq.quantization.exact import adaptive_avg_pool2d, adaptive_kernel, global_avg_pool2d


class RefusedError(Exception):
    """Why an operation has no form in a bundle."""


@dataclasses.dataclass(frozen=True)
class Call:
    """One operation of the graph, as its handler gets it.

    Attributes:
        name: Name of its result.
        inputs: Names of the values it takes.
        in_shape: Shape of the first of them, without the batch.
        shape: Shape of its result, without the batch.
        module: The module it calls, if it calls one.
        rest: Arguments after the first.
        args: All arguments.
    """

    name: str
    inputs: tuple[str, ...]
    in_shape: tuple[int, ...]
    shape: tuple[int, ...]
    module: Any
    rest: tuple[Any, ...]
    args: tuple[Any, ...]

    def node(self, op: str, attrs: dict[str, Any] | None = None, **changes: Any) -> list[Node]:
        """The operation as one node."""
        return [Node(self.name, op, self.inputs, self.shape, attrs or {}, **changes)]


def _pair(value: Any) -> tuple[int, int]:
    values = (value, value) if isinstance(value, int) else tuple(int(v) for v in value)
    return (values[0], values[-1])


def _conv_attrs(module: Any, kernel: tuple[int, int]) -> dict[str, Any]:
    stride, padding, dilation, groups = module.geometry
    return {
        "kernel": list(kernel),
        "stride": list(stride),
        "padding": list(padding),
        "dilation": list(dilation),
        "groups": groups,
    }


def _crossbar(call: Call) -> list[Node]:
    module: CrossbarLayer = call.module
    conv = isinstance(module, CrossbarConv2d)
    if isinstance(module, CrossbarConv1d) and len(call.in_shape) == 2:
        return _one_row(call)
    if conv and len(call.in_shape) != 3:
        raise RefusedError(f"a convolution needs [B, C, H, W], got {len(call.in_shape)} dimensions beside the batch")
    weight = as_int8(module.weight_q)
    groups = module.geometry.groups if isinstance(module, CrossbarConv2d) else 1
    invocations = 1
    for size in call.shape[1:] if conv else call.in_shape[:-1]:
        invocations *= size
    tensors = {
        "weight": weight,
        "x_scale": module.x_scale.float().reshape(()),
        "multiplier": module.multiplier.float(),
        "bias": module.bias.float(),
    }
    if module.adc_lsb is not None and module.adc_lo is not None:
        tensors["adc_lo"] = module.adc_lo.to(torch.int32)
        tensors["adc_lsb"] = module.adc_lsb.to(torch.float64)
    facts = CrossbarFacts(
        layer_name=module.layer_name,
        layer_index=module.layer_index,
        weight_bits=module.weight_bits,
        act_bits=module.act_bits,
        act_signed=module.act_signed,
        outputs=weight.shape[0] // groups,
        inputs_per_output=weight[0].numel(),
        invocations=invocations,
        repeats=groups,
        act_zero=module.act_zero,
    )
    attrs = _conv_attrs(module, _pair(weight.shape[-2:])) if conv else {}
    op = "crossbar_conv2d" if conv else "crossbar_linear"
    return call.node(op, attrs, tensors=tensors, crossbar=facts)


def _one_row(call: Call) -> list[Node]:
    """A 1-D convolution as the 2-D one of an image with one row."""
    (channels, length), (outputs, out_length) = call.in_shape, call.shape
    before = Node(f"{call.name}.row", "reshape", call.inputs, (channels, 1, length))
    name = f"{call.name}.conv"
    inner = dataclasses.replace(
        call, name=name, inputs=(before.name,), in_shape=before.shape, shape=(outputs, 1, out_length)
    )
    return [before, *_crossbar(inner), Node(call.name, "reshape", (name,), call.shape)]


def _dense(call: Call) -> list[Node]:
    module = call.module
    tensors = {"weight": module.weight.float()}
    if module.bias is not None:
        tensors["bias"] = module.bias.float()
    if isinstance(module, LinearF32):
        return call.node("linear_f32", tensors=tensors)
    if len(call.in_shape) != 3:
        raise RefusedError("a convolution needs [B, C, H, W]")
    return call.node("conv2d_f32", _conv_attrs(module, _pair(module.weight.shape[-2:])), tensors=tensors)


def _affine(call: Call) -> list[Node]:
    return call.node("affine", tensors={"scale": call.module.scale.float(), "shift": call.module.shift.float()})


def _relu(call: Call) -> list[Node]:
    return call.node("relu")


def _clamp(call: Call) -> list[Node]:
    low, high = (*call.rest, None, None)[:2]
    for bound in (low, high):
        if bound is not None and not isinstance(bound, (int, float)):
            raise RefusedError("clamp needs numbers as bounds")
    # float32 bounds, as PyTorch applies them to float32 values.
    return call.node("clamp", {"min": _float32(low), "max": _float32(high)})


def _float32(value: float | None) -> float | None:
    return None if value is None else float(torch.tensor(float(value), dtype=torch.float32))


def _max_pool2d(call: Call) -> list[Node]:
    kernel, stride, padding, dilation, ceil_mode = call.rest
    kernel, stride, padding, dilation = _pair(kernel), _pair(stride), _pair(padding), _pair(dilation)
    _check_window(call, kernel, stride, padding, dilation, bool(ceil_mode))
    attrs = {"kernel": [*kernel], "stride": [*stride], "padding": [*padding], "dilation": [*dilation]}
    return call.node("max_pool2d", attrs)


def _check_window(
    call: Call,
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int],
    dilation: tuple[int, int],
    ceil_mode: bool,
) -> None:
    if len(call.in_shape) != 3:
        raise RefusedError(f"pooling needs [B, C, H, W], got {len(call.in_shape)} dimensions beside the batch")
    sides = (padding[1], padding[1], padding[0], padding[0])
    size = (call.in_shape[1], call.in_shape[2])
    if ceil_mode and window_shape(size, kernel, stride, sides, dilation) != call.shape[1:]:
        raise RefusedError("pooling with ceil_mode=True has no form in a bundle where it changes the size")


def _avg_pool2d(call: Call) -> list[Node]:
    defaults: tuple[Any, ...] = (None, 0, True)
    kernel, stride, padding, count_include_pad = call.rest + defaults[len(call.rest) - 1 :]
    kernel = _pair(kernel)
    stride = _pair(stride) if stride is not None else kernel
    padding = _pair(padding)
    _check_window(call, kernel, stride, padding, (1, 1), False)
    attrs = {
        "kernel": [*kernel],
        "stride": [*stride],
        "padding": [*padding],
        "count_include_pad": bool(count_include_pad),
    }
    return call.node("avg_pool2d", attrs)


def _global_avg_pool2d(call: Call) -> list[Node]:
    keepdim = bool(call.rest[0]) if call.rest else True
    if len(call.in_shape) != 3:
        raise RefusedError(f"a mean needs [B, C, H, W], got {len(call.in_shape)} dimensions beside the batch")
    channels, height, width = call.in_shape
    attrs = {"kernel": [height, width], "stride": [height, width], "padding": [0, 0], "count_include_pad": True}
    if keepdim:
        return call.node("avg_pool2d", attrs)
    pooled = Node(f"{call.name}.pooled", "avg_pool2d", call.inputs, (channels, 1, 1), attrs)
    return [pooled, Node(call.name, "flatten", (pooled.name,), call.shape)]


def _adaptive_avg_pool2d(call: Call) -> list[Node]:
    if len(call.in_shape) != 3:
        raise RefusedError(f"pooling needs [B, C, H, W], got {len(call.in_shape)} dimensions beside the batch")
    kernel = adaptive_kernel((call.in_shape[1], call.in_shape[2]), call.rest[0])
    if kernel is None:
        raise RefusedError(f"adaptive pooling of {list(call.in_shape[1:])} to {call.rest[0]} has windows that differ")
    return call.node(
        "avg_pool2d", {"kernel": [*kernel], "stride": [*kernel], "padding": [0, 0], "count_include_pad": True}
    )


def _reshape(call: Call) -> list[Node]:
    return call.node("flatten" if len(call.shape) == 1 else "reshape")


def _add(call: Call) -> list[Node]:
    a, b = call.args
    if not isinstance(a, Tensor) or not isinstance(b, Tensor) or a.shape != b.shape:
        raise RefusedError("add needs two tensors of one shape")
    return call.node("add")


def _mul(call: Call) -> list[Node]:
    a, b = call.args
    if not isinstance(a, Tensor) or not isinstance(b, Tensor) or a.dim() != b.dim():
        raise RefusedError("mul needs two tensors with as many dimensions")
    return call.node("mul")


def _activation(call: Call) -> list[Node]:
    return call.node(str(call.rest[0]))


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
    return call.node("pad", {"before": before, "after": after, "value": _float32(value or 0.0)})


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


HANDLERS: dict[Any, Callable[[Call], list[Node]]] = {
    CrossbarConv1d: _crossbar,
    CrossbarConv2d: _crossbar,
    CrossbarLinear: _crossbar,
    Conv2dF32: _dense,
    LinearF32: _dense,
    Affine: _affine,
    F.relu: _relu,
    torch.clamp: _clamp,
    F.max_pool2d: _max_pool2d,
    ops.avg_pool2d: _avg_pool2d,
    global_avg_pool2d: _global_avg_pool2d,
    adaptive_avg_pool2d: _adaptive_avg_pool2d,
    torch.flatten: _reshape,
    torch.reshape: _reshape,
    ops.activation: _activation,
    operator.add: _add,
    operator.mul: _mul,
    torch.cat: _cat,
    F.pad: _pad,
    operator.getitem: _slice,
}
