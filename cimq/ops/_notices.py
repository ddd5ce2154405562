"""What operators have to say, as warnings."""

from __future__ import annotations

import sys
import warnings

from cimq import _C
from cimq.errors import CimqWarning


def _warn(text: str) -> None:
    """Shows the line of the user's code that called the operator, through however many frames of cimq and torch."""
    level, frame = 2, sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] in ("cimq", "torch"):
        level, frame = level + 1, frame.f_back
    warnings.warn(text, CimqWarning, stacklevel=level)


_C.on_notice(_warn)
