"""Warnings of cimq. Errors are Python's own (ValueError, TypeError, FileNotFoundError) with a sentence."""

from __future__ import annotations


class CimqWarning(UserWarning):
    """Something that the user should know: a layer left in fp32, a slower path, an optimistic split."""
