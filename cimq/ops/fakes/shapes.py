"""Rules of shapes that several fake kernels share."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor


def conv_shape(
    x: Tensor, w: Tensor, stride: Sequence[int], padding: Sequence[int], dilation: Sequence[int]
) -> list[int]:
    """[N, O, OH, OW] of a convolution; padding is (left, right, top, bottom)."""
    sums = (padding[2] + padding[3], padding[0] + padding[1])
    size = [(x.shape[2 + i] + sums[i] - dilation[i] * (w.shape[2 + i] - 1) - 1) // stride[i] + 1 for i in range(2)]
    return [x.shape[0], w.shape[0], *size]
