"""Operations on shapes that PyTorch has as methods and attributes only, as functions: nodes of converted graphs."""

from __future__ import annotations

from torch import Tensor


def expand_as(x: Tensor, other: Tensor) -> Tensor:
    """`x` with dimensions of 1 repeated to the shape of `other`."""
    return x.expand_as(other)


def view_as(x: Tensor, other: Tensor) -> Tensor:
    """`x` in the shape of `other`."""
    return x.reshape(other.shape)


def transposed(x: Tensor, name: str) -> Tensor:
    """`x.T` or `x.mT`."""
    return x.mT if name == "mT" else x.permute(*range(x.dim() - 1, -1, -1))
