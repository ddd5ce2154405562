"""The command `cimq`, one file per subcommand. Errors in what the user gave are one sentence and exit code 2."""

from __future__ import annotations

import sys
import warnings
from typing import Annotated, Any, TextIO

import typer

from cimq.cli.compile_bundle import command as compile_command
from cimq.cli.doctor import command as doctor_command
from cimq.cli.explain import command as explain_command
from cimq.cli.info import command as info_command
from cimq.cli.latency import command as latency_command
from cimq.cli.report import command as report_command
from cimq.cli.run import command as run_command
from cimq.cli.search import command as search_command
from cimq.printable import printable_lines

app = typer.Typer(
    name="cimq",
    help="Mixed-precision deployment of PyTorch networks on RRAM compute-in-memory crossbars.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command("info")(info_command)
app.command("latency")(latency_command)
app.command("search")(search_command)
app.command("doctor")(doctor_command)
app.command("compile")(compile_command)
app.command("explain")(explain_command)
app.command("run")(run_command)
app.command("report")(report_command)


def _print_version(wanted: bool) -> None:
    if wanted:
        import cimq

        typer.echo(f"cimq {cimq.__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """Mixed-precision deployment of PyTorch networks on RRAM compute-in-memory crossbars."""


def main() -> None:
    """Entry point of the command and of `python -m cimq`."""
    warnings.showwarning = _show_warning
    app()


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
    **_: Any,
) -> None:
    print(f"cimq: warning: {printable_lines(str(message))}", file=file or sys.stderr)
