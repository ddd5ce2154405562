"""Pooling, means and images of another size, with one order of operations: PyTorch and the executor agree in bits."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from cimq.ops.geometry import pair


def avg_pool2d(
    x: Tensor,
    kernel_size: int | tuple[int, int],
    stride: int | tuple[int, int] | None = None,
    padding: int | tuple[int, int] = 0,
    count_include_pad: bool = True,
    ceil_mode: bool = False,
    divisor_override: int | None = None,
) -> Tensor:
    """Average pooling: the sum in float32 over kernel rows, then columns, ascending; then one division.

    Args:
        x: `[N, C, H, W]`, float32.
        kernel_size: One value or (vertical, horizontal).
        stride: Likewise; None for the kernel size.
        padding: Zeros on both sides, at most half the kernel.
        count_include_pad: Divide by the size of the window with its padding.
        ceil_mode: A last window that hangs over the image counts too, if it starts inside the image or its left
            padding; it divides by what it covers of the padded image.
        divisor_override: What is divided by instead.

    Returns:
        `[N, C, H', W']`, float32. Differentiable.

    Raises:
        ValueError: For impossible sizes.
        TypeError: For another type than float32.

    Example:
        >>> import torch, cimq
        >>> cimq.ops.avg_pool2d(torch.ones(1, 1, 4, 4), 2).shape
        torch.Size([1, 1, 2, 2])
    """
    kernel = pair(kernel_size, "avg_pool2d: kernel_size")
    steps = kernel if stride is None else pair(stride, "avg_pool2d: stride")
    sides = pair(padding, "avg_pool2d: padding")
    out: Tensor = torch.ops.cimq.avg_pool2d(x, kernel, steps, sides, count_include_pad, ceil_mode, divisor_override)
    return out


def adaptive_avg_pool2d(x: Tensor, output_size: int | Sequence[int | None]) -> Tensor:
    """Average pooling to a size: window i of n is floor(i * size / n) to ceil((i + 1) * size / n).

    Sum and division are those of `avg_pool2d`.

    Args:
        x: `[N, C, H, W]`, float32.
        output_size: One value or (height, width); None keeps the size of `x`.

    Returns:
        `[N, C, *output_size]`, float32. Differentiable.

    Raises:
        ValueError: For impossible sizes.
        TypeError: For another type than float32.

    Example:
        >>> import torch, cimq
        >>> cimq.ops.adaptive_avg_pool2d(torch.arange(5.0).reshape(1, 1, 1, 5), (1, 3))
        tensor([[[[0.5000, 2.0000, 3.5000]]]])
    """
    out: Tensor = torch.ops.cimq.adaptive_avg_pool2d(x, adaptive_size(x, output_size))
    return out


def adaptive_size(x: Tensor, output_size: int | Sequence[int | None]) -> list[int]:
    """Height and width that adaptive pooling of `x` gives."""
    sizes = (output_size, output_size) if isinstance(output_size, int) else tuple(output_size)
    if len(sizes) == 1:
        sizes *= 2
    if len(sizes) != 2:
        raise ValueError(f"adaptive_avg_pool2d: output_size must be one value or two, got {list(sizes)}")
    return [int(have) if size is None else int(size) for size, have in zip(sizes, x.shape[-2:], strict=True)]


def resize2d(
    x: Tensor,
    size: int | Sequence[int] | None = None,
    scale_factor: float | Sequence[float] | None = None,
    mode: str = "nearest",
    align_corners: bool = False,
    recompute_scale_factor: bool = False,
) -> Tensor:
    """Images of another size: `torch.nn.functional.interpolate` with bits that do not depend on the machine.

    Nearest gives exactly PyTorch's values. Bilinear is computed in float32 from left to right: rows are interpolated
    between their two columns, then the result between its two rows; it differs from PyTorch's by rounding alone
    (docs/numbers.md).

    Args:
        x: `[N, C, H, W]`, float32.
        size: Size of the result, one value or (height, width).
        scale_factor: Instead of `size`: how many times larger, one value or two; rounded down to whole pixels.
        mode: "nearest" or "bilinear".
        align_corners: Bilinear: the centres of the outer pixels fall on each other.
        recompute_scale_factor: With `scale_factor`: positions follow from the two sizes, not from the factor.

    Returns:
        `[N, C, H', W']`, float32. Differentiable.

    Raises:
        ValueError: For impossible sizes, for both or none of `size` and `scale_factor`, for another mode.
        TypeError: For another type than float32.

    Example:
        >>> import torch, cimq
        >>> cimq.ops.resize2d(torch.tensor([[[[1.0, 2.0]]]]), scale_factor=2)
        tensor([[[[1., 1., 2., 2.],
                  [1., 1., 2., 2.]]]])
    """
    wanted, step = resize_geometry(x, size, scale_factor, recompute_scale_factor)
    out: Tensor = torch.ops.cimq.resize2d(x, wanted, step, mode, align_corners)
    return out


def resize_geometry(
    x: Tensor,
    size: int | Sequence[int] | None,
    scale_factor: float | Sequence[float] | None,
    recompute_scale_factor: bool = False,
) -> tuple[list[int], list[float]]:
    """Size of a resized image, and rows and columns of `x` per row and column of it (float32 numbers)."""
    if (size is None) == (scale_factor is None):
        raise ValueError(f"resize2d: one of size and scale_factor must be given, got {size} and {scale_factor}")
    have = [int(value) for value in x.shape[-2:]]
    if size is not None:
        wanted = [int(value) for value in _two(size, "size")]
    else:
        factors = [float(value) for value in _two(scale_factor, "scale_factor")]
        if any(not 0.0 < factor < math.inf for factor in factors):
            raise ValueError(f"resize2d: scale_factor must be positive and finite, got {scale_factor}")
        wanted = [math.floor(count * factor) for count, factor in zip(have, factors, strict=True)]
    if any(value < 1 for value in wanted):
        raise ValueError(f"resize2d: the result must have at least one row and column, got {wanted}")
    if scale_factor is not None and not recompute_scale_factor:
        return wanted, [_float32(1.0 / factor) for factor in factors]
    # float32(in) / float32(out), rounded once: both are exact in double for images below 2^24.
    return wanted, [_float32(_float32(a) / _float32(b)) for a, b in zip(have, wanted, strict=True)]


def _two(value: object, name: str) -> Sequence[float]:
    values = tuple(value) if isinstance(value, Sequence) else (value, value)
    if len(values) != 2:
        raise ValueError(f"resize2d: {name} must be one value or two, got {list(values)}")
    return values


def _float32(value: float) -> float:
    return float(torch.tensor(value, dtype=torch.float32))


def mean(x: Tensor, dim: int | Sequence[int], keepdim: bool = False) -> Tensor:
    """Mean over dimensions: the sum in float64 in the order of memory, one division, one rounding to float32.

    Args:
        x: Any shape, float32.
        dim: Dimensions to average; negative ones count from the end.
        keepdim: Keep them with size 1.

    Returns:
        float32. Differentiable.

    Raises:
        ValueError: For dimensions that `x` does not have, named twice, or without elements.
        TypeError: For another type than float32.

    Example:
        >>> import torch, cimq
        >>> cimq.ops.mean(torch.arange(6.0).reshape(2, 3), 1)
        tensor([1., 4.])
    """
    out: Tensor = torch.ops.cimq.mean(x, [dim] if isinstance(dim, int) else list(dim), keepdim)
    return out
