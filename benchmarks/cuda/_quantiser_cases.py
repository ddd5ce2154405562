"""Cases of fake quantisation, of `quantize` and of the convolution that quantises its input on the way."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from _cases import Case, Operands
from _claims import BANDWIDTH_CASE
from torch import Tensor
from torch.nn.grad import conv2d_input

# Of one value: a division, a rounding, two comparisons, a product; and of its gradients, as far as those need more.
FORWARD, BACKWARD = 5, 8
LARGE = (64, 64, 112, 112)  # activations of the first layers of ResNet-18, batch 64: 51 M values
WEIGHTS = (4096, 4096)
LIMITS = (0, 15)


def _values(shape: tuple[int, ...], seed: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def _text(shape: Sequence[int], dtype: torch.dtype) -> str:
    return "x".join(map(str, shape)) + ("" if dtype is torch.float32 else f" {str(dtype).removeprefix('torch.')}")


def _activations(small: bool, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor, int, int]:
    shape = (3, 5, 7, 9) if small else LARGE
    return _values(shape, 0, dtype), torch.tensor(0.07), *LIMITS


def _weights(small: bool) -> tuple[Tensor, Tensor, int, int, int]:
    shape = (7, 33) if small else WEIGHTS
    return _values(shape, 0), _values((shape[0],), 1).abs() * 0.02 + 0.01, -7, 7, 0


def _forward(small: bool, *, channels: bool = False, dtype: torch.dtype = torch.float32) -> Operands:
    given = _weights(small) if channels else _activations(small, dtype)
    x = given[0]
    return Operands(given, _text(x.shape, dtype), {"float32": FORWARD * x.numel()})


def _backward(small: bool, *, channels: bool = False) -> Operands:
    given = _weights(small) if channels else _activations(small)
    x = given[0]
    return Operands((_values(tuple(x.shape), 2), *given), _text(x.shape, x.dtype), {"float32": BACKWARD * x.numel()})


def _scale_terms(x: Tensor, step: Tensor, low: int, high: int) -> Tensor:
    """What the gradient of each value is multiplied by in that of its step."""
    position = x.double() / step
    return torch.where(position < low, low, torch.where(position > high, high, position.round() - position))


def _scale_slack(arguments: Sequence[Any], results: Sequence[Tensor]) -> list[Tensor | None]:
    """The sum behind a scale's gradient: 2^-17 of the sum of the magnitudes (docs/cuda.md); the others are exact."""
    grad, x, scale, low, high, *axis = arguments
    step = scale.double() if not axis else scale.double().reshape([-1 if d == axis[0] else 1 for d in range(x.dim())])
    magnitudes = (grad.double() * _scale_terms(x, step, low, high)).abs()
    per_scale = magnitudes.sum() if not axis else magnitudes.flatten(1).sum(1)
    factor = (x.numel() / scale.numel() * high) ** -0.5
    return [None, (2.0**-17 * factor * per_scale).reshape(results[1].shape)]


def _convolution(small: bool) -> tuple[tuple[Any, ...], str, int]:
    """fake_quantized_conv2d: a 3x3 layer of ResNet-18 with 4 bits, its weights on their grid."""
    batch, channels, size = (2, 4, 6) if small else (64, 128, 28)
    x = _values((batch, channels, size, size), 0)
    w_scale = torch.full((channels,), 0.125)
    generator = torch.Generator().manual_seed(1)
    w = torch.randint(-7, 8, (channels, channels, 3, 3), generator=generator) * w_scale[0]
    geometry = ([1, 1], [1, 1, 1, 1], [1, 1], 1)
    given = (x, torch.tensor(0.25), *LIMITS, w, w_scale)
    products = x.numel() * channels * 9
    return (given, geometry), f"{batch}x{channels}x{channels} 3x3 on {size}x{size}", products


def _conv_forward(small: bool) -> Operands:
    (given, geometry), shape, products = _convolution(small)
    return Operands((*given, None, *geometry, 1.0), shape, {"int8": 2 * products})


def _conv_backward(small: bool) -> Operands:
    (given, geometry), shape, products = _convolution(small)
    grad = _values(tuple(given[0].shape), 3)
    return Operands((grad, *given, *geometry, 1.0, True, False), shape, {"float32": 2 * 2 * products})


def _sums_slack(arguments: Sequence[Any], results: Sequence[Tensor]) -> list[Tensor | None]:
    """Sums of floats in an order that a device chooses: 1e-5 of the largest value."""
    return [1e-5 * result.abs().max().double() if result.numel() else None for result in results]


def _conv_slack(arguments: Sequence[Any], results: Sequence[Tensor]) -> list[Tensor | None]:
    """As _sums_slack; the step's gradient is a sum of terms that cancel, 2^-17 of their magnitudes besides."""
    grad, x, scale, low, high, w, _, stride, sides, dilation, groups, factor = arguments[:12]
    padding = (sides[2], sides[0])
    upstream = conv2d_input(x.shape, w.double(), grad.double(), stride, padding, dilation, groups)
    magnitudes = (upstream * _scale_terms(x, scale.double(), low, high)).abs().sum()
    slack = _sums_slack(arguments, results)
    slack[1] = (2.0**-17 * factor * magnitudes).reshape(results[1].shape)
    return slack


CASES = [
    Case(BANDWIDTH_CASE, "fake_quantize", ("fake_quantize_forward",), _forward),
    Case(
        "fake_quantize: activations, bfloat16",
        "fake_quantize",
        ("fake_quantize_forward",),
        lambda small: _forward(small, dtype=torch.bfloat16),
    ),
    Case(
        "fake_quantize: weights, a scale per output",
        "fake_quantize",
        ("fake_quantize_forward",),
        lambda small: _forward(small, channels=True),
    ),
    Case(
        "fake_quantize_backward: activations",
        "fake_quantize_backward",
        ("fake_quantize_backward_pass", "fake_quantize_scale_gradient"),
        _backward,
        _scale_slack,
    ),
    Case(
        "fake_quantize_backward: weights, a scale per output",
        "fake_quantize_backward",
        ("fake_quantize_backward_pass", "fake_quantize_scale_gradient"),
        lambda small: _backward(small, channels=True),
        _scale_slack,
    ),
    Case("quantize: activations", "quantize", ("quantize_values",), _forward),
    Case(
        "fake_quantized_conv2d: 4 bits",
        "fake_quantized_conv2d",
        ("narrow_channels", "integer_products"),
        _conv_forward,
        _sums_slack,
    ),
    Case("fake_quantized_conv2d_backward: 4 bits", "fake_quantized_conv2d_backward", (), _conv_backward, _conv_slack),
]
