"""What the subcommands print."""

from __future__ import annotations

import typer

from cimq.printable import printable_lines


def say(text: object) -> None:
    """Prints lines to stdout; control characters, which names in a file can hold, as escapes."""
    typer.echo(printable_lines(str(text)))
