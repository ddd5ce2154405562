"""Warnings of cimq. Errors are Python's own (ValueError, TypeError, FileNotFoundError) with a sentence."""

from __future__ import annotations


class CimqWarning(UserWarning):
    """Something that the user should know: a layer left in fp32, a slower path, an optimistic split."""


def first_line(error: BaseException) -> str:
    """Type and first line of an error: what another library says, without the lines that it adds about itself."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def some_names(names: list[str], most: int = 20) -> str:
    """The first names, and how many there are in all."""
    return ", ".join(names[:most]) + (f", ... ({len(names)} in all)" if len(names) > most else "")
