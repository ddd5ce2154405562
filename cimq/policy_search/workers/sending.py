"""What goes to other processes: whether it can, and in which form."""

from __future__ import annotations

import io
import pickle
from collections.abc import Mapping
from typing import Any

import torch


class _Nowhere(io.RawIOBase):
    """Takes everything and keeps nothing."""

    def writable(self) -> bool:
        return True

    def write(self, content: Any, /) -> int:
        return len(memoryview(content).cast("B"))


def check_sendable(workers: Any, arguments: Mapping[str, Any], pickler: Any = pickle.Pickler) -> None:
    """Finds out, before long work, whether arguments can be sent to other processes.

    Args:
        workers: What the user asked for.
        arguments: By their names in `cimq.search`.
        pickler: Class of what will send them.

    Raises:
        TypeError: For the first that cannot; names it, and says why.
    """

    class Checking(pickler):  # type: ignore[misc]
        """Does not look at the numbers in tensors: those can always be sent, and may be many."""

        def persistent_id(self, item: Any) -> Any:
            return "tensor" if type(item) in (torch.Tensor, torch.nn.Parameter) else None

    for name, value in arguments.items():
        try:
            Checking(_Nowhere(), protocol=pickle.HIGHEST_PROTOCOL).dump(value)
        except Exception as error:  # of many types: whatever the objects of a user raise
            raise TypeError(
                f"search: with workers={workers!r}, {name} must be something that can be sent to another process "
                "(pickled): functions and classes at the top of a module that can be imported, no lambda, no "
                f"generator, no open file; got {_short(value)} ({type(error).__name__}: {error})"
            ) from error


def packed(value: Any) -> bytes:
    """Any object, as bytes."""
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


def unpacked(content: bytes, map_location: Any = None) -> Any:
    """What `packed` was given. For bytes from workers alone: what it makes runs code of whoever wrote them.

    Args:
        content: The bytes.
        map_location: Where tensors go, as in `torch.load`; None: where they were.
    """
    return torch.load(io.BytesIO(content), map_location, weights_only=False)


def _short(value: Any) -> str:
    name = getattr(value, "__qualname__", None)
    return f"{name} of {getattr(value, '__module__', '?')}" if name else f"a {type(value).__name__}"
