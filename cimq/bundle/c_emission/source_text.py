"""Python values as C99 source."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np


def c_string(text: str) -> str:
    r"""A string literal of the text in UTF-8: everything that is not plain ASCII as an octal escape.

    Example:
        >>> c_string('fc "ü"?')
        '"fc \\"\\303\\274\\"\\?"'
    """
    return '"' + "".join(_escaped(byte) for byte in text.encode("utf-8", "surrogateescape")) + '"'


def _escaped(byte: int) -> str:
    character = chr(byte)
    if character in '"\\?':  # two question marks begin a trigraph
        return "\\" + character
    return character if " " <= character <= "~" else f"\\{byte:03o}"


def c_comment(text: str) -> str:
    """The text as it may stand in a comment: one line, and no end of it."""
    return "".join(c if " " <= c <= "~" else "?" for c in text).replace("*/", "* /").replace("/*", "/ *")


def c_float(value: float) -> str:
    """A float32 literal with every bit: hexadecimal, as C99 has it.

    Example:
        >>> c_float(0.1), c_float(float("-inf"))
        ('0x1.99999a0000000p-4F', '-INFINITY')
    """
    rounded = float(np.float32(value))
    if math.isnan(rounded):
        return "NAN"
    if math.isinf(rounded):
        return "INFINITY" if rounded > 0 else "-INFINITY"
    return rounded.hex() + "F"


def c_sizes(values: Sequence[int]) -> str:
    """An array of int64_t as an expression; of none, a null pointer."""
    if not values:
        return "NULL"
    return "(const int64_t[]){" + ", ".join(str(value) for value in values) + "}"
