"""Softmax, layer and group normalisation with one order of summation: PyTorch and the executor give the same bits."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def softmax(x: Tensor, dim: int, logarithm: bool = False) -> Tensor:
    """Softmax, or its logarithm, along one dimension.

    With m the largest value of a line: exp(x - m) / sum of exp(x - m), or (x - m) - ln(sum of exp(x - m)); in float64
    from additions, multiplications and divisions alone, the sum in ascending order, rounded to float32 once.

    Args:
        x: At least one dimension, float32.
        dim: The dimension; negative ones count from the end.
        logarithm: Gives log_softmax.

    Returns:
        `x`'s shape, float32. Differentiable.

    Raises:
        ValueError: For a dimension that `x` does not have.
        TypeError: For another type than float32.

    Example:
        >>> import torch, cimq
        >>> cimq.ops.softmax(torch.zeros(1, 4), 1)
        tensor([[0.2500, 0.2500, 0.2500, 0.2500]])
    """
    out: Tensor = torch.ops.cimq.softmax(x, dim, logarithm)
    return out


def layer_norm(
    x: Tensor,
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    """Layer normalisation over the last dimensions.

    In float64 and ascending order: mean = sum / n; var = (sum of (x - mean)^2) / n; r = 1 / sqrt(var + eps);
    ((x - mean) * r) * weight + bias, rounded to float32 once.

    Args:
        x: `[..., *normalized_shape]`, float32.
        normalized_shape: The dimensions that are normalised together.
        weight: `normalized_shape`, float32, or None for 1.
        bias: `normalized_shape`, float32, or None for 0.
        eps: Added to the variance, at least 0.

    Returns:
        `x`'s shape, float32. Differentiable.

    Raises:
        ValueError: For shapes that do not fit or an impossible `eps`.
        TypeError: For another type than float32.

    Example:
        >>> import torch, cimq
        >>> cimq.ops.layer_norm(torch.tensor([[1.0, 3.0]]), (2,), eps=0.0)
        tensor([[-1.,  1.]])
    """
    out: Tensor = torch.ops.cimq.layer_norm(x, list(normalized_shape), weight, bias, eps)
    return out


def group_norm(
    x: Tensor, groups: int, weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5
) -> Tensor:
    """Group normalisation: of each sample, the channels of a group with all their positions together.

    The arithmetic is that of `layer_norm`, with weight and bias per channel.

    Args:
        x: `[N, C, ...]`, float32.
        groups: Number of groups, a divisor of C.
        weight: `[C]`, float32, or None for 1.
        bias: `[C]`, float32, or None for 0.
        eps: Added to the variance, at least 0.

    Returns:
        `x`'s shape, float32. Differentiable.

    Raises:
        ValueError: For shapes that do not fit, groups that do not divide the channels, or an impossible `eps`.
        TypeError: For another type than float32.

    Example:
        >>> import torch, cimq
        >>> cimq.ops.group_norm(torch.randn(2, 6, 5, 5), 3).shape
        torch.Size([2, 6, 5, 5])
    """
    out: Tensor = torch.ops.cimq.group_norm(x, groups, weight, bias, eps)
    return out
