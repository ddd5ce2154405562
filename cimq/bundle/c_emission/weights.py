"""The file weights.bin: the tensors of a network, one after another, behind a header."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

HEADER_BYTES = 32
ORDER_MARK = 0x01020304
_ALIGNMENT = 8


class WeightFile:
    """Collects tensors and tells where they will lie.

    Args:
        tensors: Tensors of weights.safetensors, by name.
        identity: 16 bytes that network.c knows, so that files of two emissions are not mixed.
    """

    def __init__(self, tensors: Mapping[str, npt.NDArray[np.generic]], identity: bytes) -> None:
        self._tensors = tensors
        self._content = bytearray(identity + ORDER_MARK.to_bytes(4, "little") + bytes(HEADER_BYTES - 20))
        self._places: dict[str, int] = {}

    @property
    def content(self) -> bytes:
        """The file, as far as tensors were asked for."""
        return bytes(self._content)

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of a tensor."""
        return self._tensors[name].shape

    def number(self, name: str) -> float:
        """The value of a tensor of one element."""
        return float(self._tensors[name].reshape(-1)[0])

    def floats(self, name: str) -> str:
        """C expression of a float32 tensor."""
        return f"FLOATS({self._place(name, np.dtype('<f4'))})"

    def integers(self, name: str) -> str:
        """C expression of an int8 tensor."""
        return f"INTEGERS({self._place(name, np.dtype('int8'))})"

    def _place(self, name: str, dtype: np.dtype[np.generic]) -> int:
        tensor = self._tensors[name]
        if name not in self._places:
            self._places[name] = len(self._content)
            self._content += tensor.astype(dtype, casting="equiv").tobytes()
            self._content += bytes(-len(self._content) % _ALIGNMENT)
        return self._places[name]


def identity_of(*parts: bytes) -> bytes:
    """16 bytes that differ where any part does."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, "little") + part)
    return digest.digest()[:16]
