"""Geometry of convolutions and pooling, from what users may write to what operators take."""

from __future__ import annotations


def pair(value: int | tuple[int, int], name: str) -> tuple[int, int]:
    """(vertical, horizontal) from one value or two."""
    values = (value, value) if isinstance(value, int) else tuple(value)
    if len(values) != 2:
        raise ValueError(f"{name} must be one integer or two, got {value}")
    return (values[0], values[1])


def four_paddings(value: int | tuple[int, int] | tuple[int, int, int, int]) -> tuple[int, int, int, int]:
    """(left, right, top, bottom) from one value, (vertical, horizontal), or all four."""
    values = (value, value) if isinstance(value, int) else tuple(value)
    if len(values) == 2:
        return (values[1], values[1], values[0], values[0])
    if len(values) != 4:
        raise ValueError(f"padding must be one integer, two, or four (left, right, top, bottom), got {value}")
    return (values[0], values[1], values[2], values[3])
