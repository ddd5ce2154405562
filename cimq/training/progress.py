"""One progress bar: on terminals, not in logs."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sized
from typing import Any

from tqdm import tqdm


def length_of(items: Any) -> int | None:
    """How many there are; None where that is not known, as of a DataLoader over a stream, whose `len` raises."""
    if not isinstance(items, Sized):
        return None
    try:
        return len(items)
    except (TypeError, NotImplementedError):
        return None


def progress_bar(items: Iterable[Any], title: str, show: bool | None, total: int | None = None) -> Any:
    """A tqdm bar over `items`; `show=None` shows it where standard error is a terminal."""
    length = length_of(items)
    if total is not None:
        length = total if length is None else min(total, length)
    hidden = not (sys.stderr.isatty() if show is None else show)
    return tqdm(items, desc=title, total=length, disable=hidden, leave=False)
