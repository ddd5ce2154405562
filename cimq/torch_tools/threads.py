"""How many threads PyTorch computes with, for a while."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch


@contextlib.contextmanager
def computing_threads(count: int) -> Iterator[None]:
    """PyTorch computes with so many threads inside: the order in which it adds floats depends on their number."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
