"""How much time is left, and how stages share it."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable

UNITS = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0}


def seconds_of(text: str) -> float:
    """A time as it is written: 25m, 90s, 1.5h, or a number of seconds."""
    match = re.fullmatch(r"(\d+(?:\.\d*)?)\s*([smh]?)", text.strip())
    if match is None or float(match[1]) <= 0:
        raise ValueError(f"a time must be a positive number with s, m or h, such as 25m, got {text!r}")
    return float(match[1]) * UNITS[match[2]]


class Budget:
    """Seconds that a run may take, counted from now.

    Args:
        seconds: None: as long as it takes.
        clock: Seconds that only grow.
    """

    def __init__(self, seconds: float | None, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._end = math.inf if seconds is None else clock() + seconds

    def now(self) -> float:
        return self._clock()

    def left(self) -> float:
        return self._end - self._clock()

    def end_of_share(self, weight: float, behind: float) -> float:
        """When a stage must end that stands before stages of the weights `behind`: it gets its share of what is left,
        and what it does not use is theirs."""
        return self._clock() + self.left() * weight / (weight + behind)
