"""Turns errors in what the user gave into one sentence and exit code 2."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import typer

from cimq.printable import printable

P = ParamSpec("P")
R = TypeVar("R")

EXIT_BAD_INPUT = 2
EXIT_MISMATCH = 1


def one_sentence(command: Callable[P, R]) -> Callable[P, R]:
    """Decorator of a subcommand: library errors become `cimq: sentence` on stderr and exit code 2.

    With the environment variable CIMQ_TRACEBACK=1 the error itself is raised.
    """

    @functools.wraps(command)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return command(*args, **kwargs)
        except BrokenPipeError:
            raise
        except (ValueError, TypeError, OSError, ImportError, MemoryError) as error:
            if os.environ.get("CIMQ_TRACEBACK") == "1":
                raise
            typer.echo(f"cimq: {printable(' '.join(_sentence(error).split()))}", err=True)
            raise typer.Exit(EXIT_BAD_INPUT) from None

    return wrapped


def _sentence(error: Exception) -> str:
    if not isinstance(error, MemoryError):
        return str(error)
    detail = str(error)
    # A C++ allocation that failed has nothing to say but its type.
    return "out of memory" if detail in ("", "std::bad_alloc") else f"out of memory ({detail})"
