"""The forms of pooling, resizing and shape operations in a traced graph (cimq/quantization/graph/normal_form.py).

| node | form |
| --- | --- |
| call_function | windows.avg_pool2d(x, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor), |
|  | where it is more than `ops.avg_pool2d`; .avg_pool1d, .adaptive_avg_pool2d, .adaptive_avg_pool1d(x, output_size) |
| call_function | F.max_pool1d, F.max_pool2d(x, kernel_size, stride, padding, dilation, ceil_mode) |
| call_function | F.adaptive_max_pool2d(x, output_size), F.adaptive_max_pool1d(x, output_size) |
| call_function | windows.mean(x, dim, keepdim), .total(x, dim, keepdim): sums |
| call_function | windows.interpolate(x, size, scale_factor, mode, align_corners, recompute_scale_factor) |
| call_function | torch.transpose, permute, movedim; squeeze, unsqueeze, unflatten; channel_shuffle, pixel_shuffle, |
|  | pixel_unshuffle; chunk, split, tensor_split, unbind (then operator.getitem); select, narrow, stack, flip, roll, |
|  | tile, repeat_interleave, broadcast_to: with positional arguments |

None of them depends on the size of an image: the functions look at the input that they get.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import fx, nn

from cimq import ops
from cimq.quantization.exact import windows
from cimq.quantization.exact.operations import global_avg_pool2d
from cimq.quantization.graph import shape_functions

Form = tuple[Callable[..., Any], tuple[Any, ...]]


def _avg_pool2d(
    input: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Form:
    if not ceil_mode and divisor_override is None:
        return ops.avg_pool2d, (input, kernel_size, stride or kernel_size, padding, count_include_pad)
    rest = (kernel_size, stride or kernel_size, padding, ceil_mode, count_include_pad, divisor_override)
    return windows.avg_pool2d, (input, *rest)


def _avg_pool1d(
    input: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Form:
    return windows.avg_pool1d, (input, kernel_size, stride, padding, ceil_mode, count_include_pad)


def _max_pool(function: Callable[..., Any]) -> Callable[..., Form | None]:
    def form(
        input: Any,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        dilation: Any = 1,
        ceil_mode: bool = False,
        return_indices: bool = False,
    ) -> Form | None:
        if return_indices:
            return None
        return function, (input, kernel_size, stride or kernel_size, padding, dilation, ceil_mode)

    return form


def _max_pool_module(function: Callable[..., Any]) -> Callable[[Any, Any], Form | None]:
    form = _max_pool(function)
    return lambda m, x: form(x, m.kernel_size, m.stride, m.padding, m.dilation, m.ceil_mode, m.return_indices)


def _adaptive_avg_pool2d(input: Any, output_size: Any) -> Form:
    return windows.adaptive_avg_pool2d, (input, output_size)


def _adaptive_avg_pool1d(input: Any, output_size: Any) -> Form:
    return windows.adaptive_avg_pool1d, (input, output_size)


def _adaptive_max_pool(function: Callable[..., Any]) -> Callable[..., Form | None]:
    def form(input: Any, output_size: Any, return_indices: bool = False) -> Form | None:
        return None if return_indices else (function, (input, output_size))

    return form


def _mean(input: Any, dim: Any = None, keepdim: bool = False, **kwargs: Any) -> Form | None:
    dim = kwargs.pop("axis", dim)
    if kwargs or not isinstance(keepdim, bool) or dim is None or isinstance(dim, fx.Node):
        return None
    dims = (dim,) if isinstance(dim, int) else tuple(dim)
    if not dims or not all(isinstance(d, int) for d in dims):  # no dimension: over the batch too
        return None
    if set(dims) in ({2, 3}, {-1, -2}):  # of images: their pooling; which of them it is, the rank of the input decides
        return global_avg_pool2d, (input, keepdim, dims)
    return windows.mean, (input, dims, keepdim)


def _total(input: Any, dim: Any = None, keepdim: bool = False, **kwargs: Any) -> Form | None:
    form = _mean(input, dim, keepdim, **kwargs)
    if form is None:
        return None
    dim = kwargs.get("axis", dim)
    return windows.total, (input, (dim,) if isinstance(dim, int) else tuple(dim), keepdim)


def _interpolate(
    input: Any,
    size: Any = None,
    scale_factor: Any = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
    recompute_scale_factor: bool | None = None,
    antialias: bool = False,
) -> Form | None:
    if antialias or mode not in ("nearest", "linear", "bilinear", "area"):
        return None
    return windows.interpolate, (input, size, scale_factor, mode, align_corners, recompute_scale_factor)


def _pad(input: Any, padding: Any, mode: str, value: float | None = None) -> Form:
    return F.pad, (input, padding, mode, value)


def _positional(function: Callable[..., Any], *names: str, **defaults: Any) -> Callable[..., Form | None]:
    """`function` with its arguments after the first in the order of `names`; those in `defaults` may be left out."""

    def form(input: Any, *args: Any, **kwargs: Any) -> Form | None:
        if len(args) > len(names):
            return None
        given = dict(zip(names, args, strict=False))
        if kwargs.keys() & given.keys() or not kwargs.keys() <= set(names):
            return None
        given |= kwargs
        values = [given.get(name, defaults.get(name)) for name in names]
        if any(name not in given and name not in defaults for name in names):
            return None
        return function, (input, *values)

    return form


def _listed(function: Callable[..., Any], name: str) -> Callable[..., Form | None]:
    """`function(x, sizes)` from calls with the sizes one by one or as a list."""

    def form(input: Any, *args: Any, **kwargs: Any) -> Form | None:
        values = args or kwargs.pop(name, None)
        if kwargs or values is None:
            return None
        whole = values[0] if isinstance(values, tuple) and len(values) == 1 else values
        if isinstance(whole, fx.Node):  # a whole shape: x.expand(y.shape)
            return function, (input, whole)
        return function, (input, (whole,) if isinstance(whole, int) else tuple(whole))

    return form


def _squeeze(input: Any, dim: Any = None) -> Form:
    return torch.squeeze, (input,) if dim is None else (input, dim)


def _unflatten(input: Any, dim: Any, sizes: Any) -> Form:
    return torch.unflatten, (input, dim, sizes)


def _stack(tensors: Any, dim: int = 0) -> Form:
    return torch.stack, (tensors, dim)


def _repeat(input: Any, *repeats: Any, **kwargs: Any) -> Form | None:
    made = _listed(torch.tile, "repeats")(input, *repeats, **kwargs)
    return made if made is not None and isinstance(made[1][1], tuple) else None


def _expand_as(input: Any, other: Any) -> Form:
    return shape_functions.expand_as, (input, other)


def _view_as(input: Any, other: Any) -> Form:
    return shape_functions.view_as, (input, other)


def _attribute(input: Any, name: str, *default: Any) -> Form | None:
    """x.T, x.mT: torch.fx records them as getattr."""
    return (shape_functions.transposed, (input, name)) if name in ("T", "mT") and not default else None


_transpose = _positional(torch.transpose, "dim0", "dim1")
_swapaxes = _positional(torch.transpose, "axis0", "axis1")
_movedim = _positional(torch.movedim, "source", "destination")
_permute = _listed(torch.permute, "dims")
_chunk = _positional(torch.chunk, "chunks", "dim", dim=0)
_split = _positional(torch.split, "split_size_or_sections", "dim", dim=0)
_split_method = _positional(torch.split, "split_size", "dim", dim=0)
_split_sizes = _positional(torch.split, "split_sizes", "dim", dim=0)
_tensor_split = _positional(torch.tensor_split, "indices_or_sections", "dim", dim=0)
_unbind = _positional(torch.unbind, "dim", dim=0)
_select = _positional(torch.select, "dim", "index")
_narrow = _positional(torch.narrow, "dim", "start", "length")
_unsqueeze = _positional(torch.unsqueeze, "dim")
_roll = _positional(torch.roll, "shifts", "dims")  # without dims it rolls the flattened tensor, batch and all
_channel_shuffle = _positional(torch.channel_shuffle, "groups")
_pixel_shuffle = _positional(torch.pixel_shuffle, "upscale_factor")
_pixel_unshuffle = _positional(torch.pixel_unshuffle, "downscale_factor")
_repeat_interleave = _positional(torch.repeat_interleave, "repeats", "dim")
_flip = _listed(torch.flip, "dims")
_broadcast_to = _listed(torch.broadcast_to, "size")

_PADDINGS: dict[Any, str] = {
    nn.ReflectionPad1d: "reflect",
    nn.ReflectionPad2d: "reflect",
    nn.ReflectionPad3d: "reflect",
    nn.ReplicationPad1d: "replicate",
    nn.ReplicationPad2d: "replicate",
    nn.ReplicationPad3d: "replicate",
    nn.CircularPad1d: "circular",
    nn.CircularPad2d: "circular",
    nn.CircularPad3d: "circular",
}
_CONSTANT_PADDINGS = (
    nn.ZeroPad1d, nn.ZeroPad2d, nn.ZeroPad3d, nn.ConstantPad1d, nn.ConstantPad2d, nn.ConstantPad3d,
)  # fmt: skip

# Module type -> (module, input) -> form. Subclasses have forwards of their own and are not meant.
MODULES: dict[Any, Callable[[Any, Any], Form | None]] = {
    nn.Upsample: lambda m, x: _interpolate(
        x, m.size, m.scale_factor, m.mode, m.align_corners, m.recompute_scale_factor
    ),
    nn.ChannelShuffle: lambda m, x: _channel_shuffle(x, m.groups),
    nn.PixelShuffle: lambda m, x: _pixel_shuffle(x, m.upscale_factor),
    nn.PixelUnshuffle: lambda m, x: _pixel_unshuffle(x, m.downscale_factor),
    nn.Unflatten: lambda m, x: _unflatten(x, m.dim, m.unflattened_size),
    nn.AvgPool2d: lambda m, x: _avg_pool2d(
        x, m.kernel_size, m.stride, m.padding, m.ceil_mode, m.count_include_pad, m.divisor_override
    ),
    nn.AvgPool1d: lambda m, x: _avg_pool1d(x, m.kernel_size, m.stride, m.padding, m.ceil_mode, m.count_include_pad),
    nn.MaxPool1d: _max_pool_module(F.max_pool1d),
    nn.MaxPool2d: _max_pool_module(F.max_pool2d),
    nn.AdaptiveAvgPool2d: lambda m, x: _adaptive_avg_pool2d(x, m.output_size),
    nn.AdaptiveAvgPool1d: lambda m, x: _adaptive_avg_pool1d(x, m.output_size),
    nn.AdaptiveMaxPool2d: lambda m, x: None if m.return_indices else (F.adaptive_max_pool2d, (x, m.output_size)),
    nn.AdaptiveMaxPool1d: lambda m, x: None if m.return_indices else (F.adaptive_max_pool1d, (x, m.output_size)),
    **{
        kind: lambda m, x: _pad(x, m.padding, "constant", getattr(m, "value", 0.0))  # ZeroPad has none in some versions
        for kind in _CONSTANT_PADDINGS
    },
    **{kind: lambda m, x, mode=mode: _pad(x, m.padding, mode) for kind, mode in _PADDINGS.items()},  # type: ignore[misc]
}
MODULES[nn.UpsamplingNearest2d] = MODULES[nn.UpsamplingBilinear2d] = MODULES[nn.Upsample]

_BOTH: dict[str, Callable[..., Any]] = {  # functions of torch that are methods too, with the same arguments
    "mean": _mean,
    "sum": _total,
    "transpose": _transpose,
    "swapdims": _transpose,
    "swapaxes": _swapaxes,
    "permute": _permute,
    "movedim": _movedim,
    "moveaxis": _movedim,
    "chunk": _chunk,
    "unsafe_chunk": _chunk,
    "split_with_sizes": _split_sizes,
    "tensor_split": _tensor_split,
    "unbind": _unbind,
    "select": _select,
    "narrow": _narrow,
    "squeeze": _squeeze,
    "unsqueeze": _unsqueeze,
    "unflatten": _unflatten,
    "roll": _roll,
    "flip": _flip,
    "repeat_interleave": _repeat_interleave,
    "broadcast_to": _broadcast_to,
}
FUNCTIONS: dict[Any, Callable[..., Any]] = {
    **{getattr(torch, name): form for name, form in _BOTH.items()},
    F.interpolate: _interpolate,
    F.avg_pool2d: _avg_pool2d,
    F.avg_pool1d: _avg_pool1d,
    F.max_pool1d: _max_pool(F.max_pool1d),
    torch.max_pool1d: _max_pool(F.max_pool1d),
    F.max_pool2d: _max_pool(F.max_pool2d),
    torch.max_pool2d: _max_pool(F.max_pool2d),
    F.adaptive_avg_pool2d: _adaptive_avg_pool2d,
    F.adaptive_avg_pool1d: _adaptive_avg_pool1d,
    F.adaptive_max_pool2d: _adaptive_max_pool(F.adaptive_max_pool2d),
    F.adaptive_max_pool1d: _adaptive_max_pool(F.adaptive_max_pool1d),
    torch.split: _split,
    torch.stack: _stack,
    torch.channel_shuffle: _channel_shuffle,
    F.channel_shuffle: _channel_shuffle,
    F.pixel_shuffle: _pixel_shuffle,
    F.pixel_unshuffle: _pixel_unshuffle,
    torch.tile: _listed(torch.tile, "dims"),
    getattr: _attribute,
}
METHODS: dict[str, Callable[..., Any]] = {
    **_BOTH,
    "split": _split_method,
    "expand": _broadcast_to,
    "expand_as": _expand_as,
    "view_as": _view_as,
    "reshape_as": _view_as,
    "repeat": _repeat,
    "tile": _listed(torch.tile, "dims"),
}
