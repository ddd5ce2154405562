"""Fake kernels of pooling, resizing and means."""

from __future__ import annotations

from torch import Tensor

from cimq.ops.fakes.register import register_fake


@register_fake("avg_pool2d")
def _avg_pool2d(
    x: Tensor,
    kernel_size: list[int],
    stride: list[int],
    padding: list[int],
    count_include_pad: bool = True,
    ceil_mode: bool = False,
    divisor_override: int | None = None,
) -> Tensor:
    size = []
    for i in range(2):
        count = (x.shape[2 + i] + 2 * padding[i] - kernel_size[i] + (stride[i] - 1 if ceil_mode else 0)) // stride[
            i
        ] + 1
        # The last window must start inside the image or its left padding.
        size.append(count - 1 if ceil_mode and (count - 1) * stride[i] >= x.shape[2 + i] + padding[i] else count)
    return x.new_empty([x.shape[0], x.shape[1], *size])


@register_fake("adaptive_avg_pool2d")
def _adaptive_avg_pool2d(x: Tensor, output_size: list[int]) -> Tensor:
    return x.new_empty([x.shape[0], x.shape[1], *output_size])


@register_fake("resize2d")
def _resize2d(x: Tensor, size: list[int], step: list[float], mode: str, align_corners: bool = False) -> Tensor:
    return x.new_empty([x.shape[0], x.shape[1], *size])


@register_fake("mean")
def _mean(x: Tensor, dim: list[int], keepdim: bool = False) -> Tensor:
    reduced = {d % x.dim() for d in dim}
    kept = [1 if i in reduced else size for i, size in enumerate(x.shape) if keepdim or i not in reduced]
    return x.new_empty(kept)
