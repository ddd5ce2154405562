"""Text from files, made fit for a terminal (csrc/common/printable.h does the same for cimq-run)."""

from __future__ import annotations

import re

# C0, DEL and C1; line and paragraph separators and marks that turn the direction of what follows; lone surrogates,
# which no terminal takes.
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_CONTROL_IN_LINES = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(text: str) -> str:
    r"""`text` with every control character as an escape, line ends included, so that a name cannot forge a line.

    Example:
        >>> printable("fc\x1b[2J\n")
        'fc\\x1b[2J\\n'
    """
    return _CONTROL.sub(_escape, text)


def printable_lines(text: str) -> str:
    r"""As `printable`, for text of several lines: line feeds and tabs stay.

    Example:
        >>> printable_lines("one\ntwo\x07")
        'one\ntwo\\x07'
    """
    return _CONTROL_IN_LINES.sub(_escape, text)


def _escape(match: re.Match[str]) -> str:
    code = ord(match.group())
    if code == 0x0A:
        return "\\n"
    return f"\\x{code:02x}" if code < 0x80 else f"\\u{code:04x}"
