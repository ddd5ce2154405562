"""Turns errors in what the user gave into one sentence and exit code 2."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import typer

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
        except (ValueError, TypeError, OSError, ImportError) as error:
            if os.environ.get("CIMQ_TRACEBACK") == "1":
                raise
            typer.echo(f"cimq: {' '.join(str(error).split())}", err=True)
            raise typer.Exit(EXIT_BAD_INPUT) from None

    return wrapped
