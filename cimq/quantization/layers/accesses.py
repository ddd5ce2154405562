"""Which accesses of a crossbar a call makes: read noise is new for every access."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar

from cimq.hardware import Hardware

_next_access: ContextVar[dict[tuple[int, int], int] | None] = ContextVar("_next_access", default=None)


@contextlib.contextmanager
def counted_accesses() -> Iterator[None]:
    """Calls within are accesses one after the other, whatever their batch size; outside, every call starts at 0.

    Read noise thus differs from batch to batch of a measurement, and the measurement does not depend on how samples
    are split into batches (as long as a layer is used once per batch).
    """
    token = _next_access.set({})
    try:
        yield
    finally:
        _next_access.reset(token)


def first_access(hardware: Hardware, seed: int, layer: int) -> int | None:
    """The access that a layer's next call starts with; None where calls are not counted or make no difference."""
    counted = _next_access.get()
    return None if counted is None or hardware.cell.read.model == "none" else counted.get((seed, layer), 0)


def count_accesses(seed: int, layer: int, accesses: int) -> None:
    """Notes that a layer was accessed so many times."""
    counted = _next_access.get()
    if counted is not None:
        counted[seed, layer] = counted.get((seed, layer), 0) + accesses
