"""Shapes and types of every operator without its values: what torch.compile and export see.

These are the readable contracts of the operators; checks of values (ranges, NaN) happen in the kernels alone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor

_Fake = TypeVar("_Fake", bound=Callable[..., object])


def _register(name: str) -> Callable[[_Fake], _Fake]:
    def register(fake: _Fake) -> _Fake:
        torch.library.register_fake(f"cimq::{name}", fake)
        return fake

    return register


def _result_like(x: Tensor, per_tensor: bool, dtype: torch.dtype) -> Tensor:
    """With one scale any dense layout is kept; with a scale per channel the result is row-major."""
    memory_format = torch.preserve_format if per_tensor else torch.contiguous_format
    return torch.empty_like(x, dtype=dtype, memory_format=memory_format)


@_register("fake_quantize")
def _fake_quantize(
    x: Tensor,
    scale: Tensor,
    qmin: int,
    qmax: int,
    axis: int | None = None,
    grad_scale: float | None = None,
    binary: bool = False,
) -> Tensor:
    return _result_like(x, axis is None, x.dtype)


@_register("fake_quantize_backward")
def _fake_quantize_backward(
    grad: Tensor,
    x: Tensor,
    scale: Tensor,
    qmin: int,
    qmax: int,
    axis: int | None = None,
    grad_scale: float | None = None,
    binary: bool = False,
) -> tuple[Tensor, Tensor]:
    return _result_like(x, axis is None, x.dtype), scale.new_empty(scale.shape)


@_register("quantize")
def _quantize(x: Tensor, scale: Tensor, qmin: int, qmax: int, axis: int | None = None, binary: bool = False) -> Tensor:
    return _result_like(x, axis is None, torch.uint8 if qmin >= 0 else torch.int8)
