"""`cimq report`."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer

from cimq.cli.user_errors import one_sentence


@one_sentence
def command(
    directory: Annotated[Path, typer.Argument(help="Output folder of a search (it holds result.json).")],
    output: Annotated[Path | None, typer.Option(help="The page to write; default DIRECTORY/report.html.")] = None,
) -> None:
    """Write the results in DIRECTORY as one HTML page."""
    report: Any = import_module("cimq.report")
    page = output or directory / "report.html"
    report.write_report(directory, page)
    typer.echo(f"wrote {page}")
