"""Times as people write them."""

from __future__ import annotations

import datetime
import math
import re
from numbers import Real
from typing import Any

_UNITS = {"d": 86400.0, "h": 3600.0, "m": 60.0, "min": 60.0, "s": 1.0}
_PART = re.compile(r"\s*(\d+(?:\.\d*)?)\s*(d|h|min|m|s)", re.IGNORECASE)


def seconds_of(name: str, value: Any) -> float:
    """Seconds of "2h", "90m", "1h30m", "45s", a number of seconds, or a `datetime.timedelta`.

    Args:
        name: Of the argument, for errors.
        value: The time.

    Raises:
        ValueError: For anything else, and for what is not above 0 and finite.

    Example:
        >>> seconds_of("time_budget", "1h30m"), seconds_of("time_budget", 45)
        (5400.0, 45.0)
    """
    seconds = math.nan
    if isinstance(value, datetime.timedelta):
        seconds = value.total_seconds()
    elif isinstance(value, Real) and not isinstance(value, bool):
        seconds = float(value)
    elif isinstance(value, str):
        rest = _PART.sub("", value).strip()
        if not rest and value.strip():
            seconds = sum(float(number) * _UNITS[unit.lower()] for number, unit in _PART.findall(value))
    if not (seconds > 0 and math.isfinite(seconds)):
        raise ValueError(
            f'search: {name} must be a time above 0, as in "2h", "90m", "1h30m", "45s", a number of seconds or a '
            f"datetime.timedelta, got {value!r}"
        )
    return seconds


def spoken(seconds: float) -> str:
    """A time for people: two units at most.

    Example:
        >>> spoken(4.2), spoken(75), spoken(3600 * 2.5), spoken(86400 * 3)
        ('4 s', '1 min 15 s', '2 h 30 min', '3 d 0 h')
    """
    whole = max(0, round(seconds))
    for large, small, big, little in (("d", "h", 86400, 3600), ("h", "min", 3600, 60), ("min", "s", 60, 1)):
        if whole >= big:
            return f"{whole // big} {large} {whole % big // little} {small}"
    return f"{whole} s"
