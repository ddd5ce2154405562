"""Cases of the operators around the crossbars: products in which nothing is lost, float32 layers, pooling, functions.

Functions are computed in float64 (docs/numbers.md); of their operations only those of the polynomial are counted, so
that the floor stays one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from _cases import Case, Operands
from torch import Tensor

POLYNOMIAL = 26  # of degree 13
IMAGES, SMALL_IMAGES = (64, 64, 56, 56), (2, 4, 7, 9)
SAME = ([1, 1], [1, 1, 1, 1], [1, 1])  # stride, padding and dilation of windows of 3x3 that keep the size
TOKENS, SMALL_TOKENS = (64, 197, 768), (2, 5, 12)  # of ViT-B, batch 64


def _random(shape: Sequence[int], seed: int = 0) -> Tensor:
    return torch.randn(tuple(shape), generator=torch.Generator().manual_seed(seed))


def _integers(shape: Sequence[int], low: int, high: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(low, high + 1, tuple(shape), generator=generator).float()


def _text(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape))


def _of_values(shape: Sequence[int], more: tuple[Any, ...], each: dict[str, int]) -> Operands:
    """An operator that does the same with every value."""
    x = _random(shape)
    return Operands((x, *more), _text(shape), {kind: count * x.numel() for kind, count in each.items()})


def _images(small: bool) -> tuple[int, ...]:
    return SMALL_IMAGES if small else IMAGES


def _tokens(small: bool) -> tuple[int, ...]:
    return SMALL_TOKENS if small else TOKENS


def _activation(kind: str, small: bool) -> Operands:
    cheap = kind == "hardswish"  # sum, two comparisons, product, division
    return _of_values(_images(small), (kind, 1.0), {"float32": 5} if cheap else {"float64": POLYNOMIAL})


def _layer_norm(small: bool) -> Operands:
    shape = _tokens(small)
    width = shape[-1]
    # Two sums, a difference and its square, difference and product; a product and a sum with the parameters.
    return _of_values(shape, ([width], _random([width], 1), _random([width], 2)), {"float64": 8})


def _group_norm(small: bool) -> Operands:
    shape = _images(small)
    return _of_values(shape, (4, _random([shape[1]], 1), _random([shape[1]], 2)), {"float64": 8})


def _pooled(small: bool) -> Operands:
    """Windows of 3x3, stride 2, padding 1: what they cover of the image, a sum each, and the divisions."""
    shape = _images(small)
    rows, columns = (_covered(size, window=3, stride=2, padding=1) for size in shape[2:])
    outputs = shape[0] * shape[1]
    for size in shape[2:]:
        outputs *= (size + 2 - 3) // 2 + 1
    operations = shape[0] * shape[1] * rows * columns + outputs
    return Operands((_random(shape), [3, 3], [2, 2], [1, 1]), _text(shape), {"float32": operations})


def _covered(size: int, *, window: int, stride: int, padding: int) -> int:
    """Elements of a line in all windows, those of the padding left out."""
    starts = range(-padding, size + padding - window + 1, stride)
    return sum(min(start + window, size) - max(start, 0) for start in starts)


def _adaptive(small: bool) -> Operands:
    shape = (2, 4, 6, 9) if small else (64, 512, 7, 7)
    x = _random(shape)
    return Operands((x, [1, 1]), _text(shape), {"float32": x.numel() + shape[0] * shape[1]})


def _resize(small: bool) -> Operands:
    shape = _images(small)
    size = [2 * side for side in shape[2:]]
    # Three interpolations of a difference of weights, two products and a sum.
    operations = 3 * 3 * shape[0] * shape[1] * size[0] * size[1]
    return Operands((_random(shape), size, [0.5, 0.5], "bilinear"), _text(shape) + " to twice", {"float32": operations})


def _linear(small: bool) -> Operands:
    batch, inputs, outputs = (5, 37, 11) if small else (256, 512, 1000)
    given = (_random([batch, inputs]), _random([outputs, inputs], 1), _random([outputs], 2))
    return Operands(given, f"{batch}x{inputs}x{outputs}", {"float64": 2 * batch * inputs * outputs})


def _conv(small: bool) -> Operands:
    """The first layer of ResNet-18, which policies may keep in float32."""
    batch, channels, size, kernel = (2, 8, 9, 3) if small else (64, 64, 224, 7)
    pad = kernel // 2
    outputs = (size + 2 * pad - kernel) // 2 + 1
    given = (_random([batch, 3, size, size]), _random([channels, 3, kernel, kernel], 1), None, [2, 2], [pad] * 4)
    covered = _covered(size, window=kernel, stride=2, padding=pad) ** 2
    shape = f"{batch}x3x{channels} {kernel}x{kernel} to {outputs}x{outputs}"
    return Operands(given, shape, {"float64": 2 * batch * channels * 3 * covered})


def _digital_matmul(small: bool) -> Operands:
    batch, inputs, outputs = (7, 45, 19) if small else (16384, 1152, 512)
    given = (_integers([batch, inputs], 0, 15, 0), _integers([outputs, inputs], -7, 7, 1), 4, 4, False)
    return Operands(given, f"{batch}x{inputs}x{outputs}", {"int8": 2 * batch * inputs * outputs})


def _digital_conv(small: bool) -> Operands:
    batch, channels, size = (2, 5, 6) if small else (64, 128, 28)
    x = _integers([batch, channels, size, size], 0, 15, 0)
    w = _integers([channels, channels, 3, 3], -7, 7, 1)
    covered = _covered(size, window=3, stride=1, padding=1) ** 2
    operations = {"int8": 2 * batch * channels * channels * covered}
    return Operands((x, w, 4, 4, False, *SAME, 1), f"{batch}x{channels}x{channels} 3x3 on {size}x{size}", operations)


def _depthwise(small: bool, *, integers: bool) -> Operands:
    """A filter of its own for every channel."""
    batch, channels, size = (2, 5, 6) if small else (64, 128, 28)
    operations = 2 * batch * channels * _covered(size, window=3, stride=1, padding=1) ** 2
    shape = f"{batch}x{channels} 3x3 on {size}x{size}"
    if integers:
        x, w = _integers([batch, channels, size, size], 0, 15, 0), _integers([channels, 1, 3, 3], -7, 7, 1)
        return Operands((x, w, 4, 4, False, *SAME, channels), shape, {"int8": operations})
    x, w = _random([batch, channels, size, size]), _random([channels, 1, 3, 3], 1)
    return Operands((x, w, None, *SAME, channels), shape, {"float64": operations})


def _softmax(small: bool) -> Operands:
    shape = (2, 3, 5, 7) if small else (64, 12, 197, 197)
    return _of_values(shape, (-1,), {"float64": POLYNOMIAL})


def _softmax_of_channels(small: bool) -> Operands:
    return _of_values(_images(small), (1,), {"float64": POLYNOMIAL})


def _mean(small: bool, *, dim: int) -> Operands:
    return _of_values(_tokens(small), ([dim],), {"float64": 1})


def _nearest(small: bool) -> Operands:
    shape = _images(small)
    size = [2 * side for side in shape[2:]]
    return Operands((_random(shape), size, [0.5, 0.5], "nearest"), _text(shape) + " to twice")


INTEGERS = ("narrow_channels", "integer_products")
CASES = [
    Case("digital_matmul: 4 bits", "digital_matmul", INTEGERS, _digital_matmul),
    Case("digital_conv2d: 4 bits, ResNet-18 layer 2", "digital_conv2d", INTEGERS, _digital_conv),
    Case(
        "digital_conv2d: depthwise",
        "digital_conv2d",
        ("convolve_few_outputs",),
        lambda small: _depthwise(small, integers=True),
    ),
    Case("linear_f32", "linear_f32", ("sum_products",), _linear),
    Case("conv2d_f32: ResNet-18 conv1", "conv2d_f32", ("sum_products",), _conv),
    Case("conv2d_f32: depthwise", "conv2d_f32", ("sum_few_products",), lambda small: _depthwise(small, integers=False)),
    Case("activation: silu", "activation", ("activation_values",), lambda small: _activation("silu", small)),
    Case("activation: gelu", "activation", ("activation_values",), lambda small: _activation("gelu", small)),
    Case("activation: hardswish", "activation", ("activation_values",), lambda small: _activation("hardswish", small)),
    Case("softmax: attention of ViT-B", "softmax", ("softmax_rows",), _softmax),
    Case("softmax: over channels", "softmax", ("softmax_columns",), _softmax_of_channels),
    Case("layer_norm: ViT-B", "layer_norm", ("normalise_rows",), _layer_norm),
    Case("group_norm", "group_norm", ("normalise_rows",), _group_norm),
    Case("avg_pool2d: 3x3, stride 2", "avg_pool2d", ("average_windows",), _pooled),
    Case("adaptive_avg_pool2d: 1x1", "adaptive_avg_pool2d", ("average_adaptive_windows",), _adaptive),
    Case("mean: over tokens", "mean", ("average_columns",), lambda small: _mean(small, dim=1)),
    Case("mean: over features", "mean", ("average_rows",), lambda small: _mean(small, dim=2)),
    Case("resize2d: bilinear", "resize2d", ("resize_bilinear",), _resize),
    Case("resize2d: nearest", "resize2d", ("resize_nearest",), _nearest),
]
