"""`cimq report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cimq.cli.output import say
from cimq.cli.user_errors import one_sentence


@one_sentence
def command(
    directory: Annotated[Path, typer.Argument(help="Output folder of a search (it holds result.json).")],
    output: Annotated[Path | None, typer.Option(help="The page to write; default DIRECTORY/report.html.")] = None,
) -> None:
    """Write the results in DIRECTORY as one HTML page."""
    from cimq.report import write_report

    say(f"wrote {write_report(directory, output)}")
