"""Float32 layers around the crossbars, with one order of summation: PyTorch and the executor give the same bits."""

from __future__ import annotations

import torch
from torch import Tensor

from cimq.ops.geometry import four_paddings, pair


def activation(x: Tensor, kind: str, alpha: float = 1.0) -> Tensor:
    """An activation function whose bits do not depend on the machine.

    "sigmoid", "silu", "tanh", "gelu" (x times the normal distribution), "gelu_tanh" (its approximation by tanh) and
    "elu" (alpha * (exp(x) - 1) where x is not positive) are computed in float64 from additions, multiplications and
    divisions alone and rounded to float32 once; "hardsigmoid" is min(max(x + 3, 0), 6) / 6 and "hardswish"
    x * min(max(x + 3, 0), 6) / 6, in float32 from left to right.

    Args:
        x: Any shape, float32.
        kind: One of the names above.
        alpha: Of "elu"; the others have none.

    Returns:
        `x`'s shape, float32. Differentiable, as PyTorch's functions are.

    Raises:
        ValueError: For another kind, or an alpha that is no finite float32.
        TypeError: For another type than float32.

    Example:
        >>> import torch, cimq
        >>> cimq.ops.activation(torch.tensor([-4.0, 0.0, 3.0]), "hardsigmoid")
        tensor([0.0000, 0.5000, 1.0000])
    """
    out: Tensor = torch.ops.cimq.activation(x, kind, alpha)
    return out


def linear_f32(x: Tensor, w: Tensor, bias: Tensor | None = None) -> Tensor:
    """`x @ w.T + bias`, summed in double over ascending inputs and rounded to float32 once.

    Args:
        x: `[..., n]`, float32.
        w: `[m, n]`, float32.
        bias: `[m]`, float32, or None.

    Returns:
        `[..., m]`, float32. Differentiable.

    Raises:
        ValueError: For shapes that do not fit.
        TypeError: For another type than float32.

    Example:
        >>> import torch, cimq
        >>> cimq.ops.linear_f32(torch.ones(2, 3), torch.ones(4, 3)).shape
        torch.Size([2, 4])
    """
    out: Tensor = torch.ops.cimq.linear_f32(x, w, bias)
    return out


def conv2d_f32(
    x: Tensor,
    w: Tensor,
    bias: Tensor | None = None,
    *,
    stride: int | tuple[int, int] = 1,
    padding: int | tuple[int, int] | tuple[int, int, int, int] = 0,
    dilation: int | tuple[int, int] = 1,
    groups: int = 1,
) -> Tensor:
    """2-D convolution, summed in double over channel, kernel row, kernel column and rounded to float32 once.

    Args:
        x: `[N, C, H, W]`, float32.
        w: `[O, C/groups, kh, kw]`, float32.
        bias: `[O]`, float32, or None.
        stride: One value or (vertical, horizontal).
        padding: One value, (vertical, horizontal), or (left, right, top, bottom).
        dilation: One value or (vertical, horizontal).
        groups: Groups of channels.

    Returns:
        `[N, O, H', W']`, float32. Differentiable.

    Raises:
        ValueError: For impossible geometry.
        TypeError: For another type than float32.

    Example:
        >>> import torch, cimq
        >>> cimq.ops.conv2d_f32(torch.ones(1, 2, 5, 5), torch.ones(3, 2, 3, 3), padding=1).shape
        torch.Size([1, 3, 5, 5])
    """
    out: Tensor = torch.ops.cimq.conv2d_f32(
        x, w, bias, pair(stride, "conv2d_f32: stride"), four_paddings(padding), pair(dilation, "conv2d_f32: dilation"),
        groups,
    )  # fmt: skip
    return out
