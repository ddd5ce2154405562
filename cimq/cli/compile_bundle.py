"""`cimq compile`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from cimq.cli.output import say
from cimq.cli.user_errors import one_sentence


@one_sentence
def command(
    bundle: Annotated[Path, typer.Argument(help="Folder of the bundle (NAME.cimq), or a zip of it.")],
    hardware: Annotated[
        str | None, typer.Option(help="Preset or hardware file; default: the machine that the bundle was made for.")
    ] = None,
    output: Annotated[Path | None, typer.Option(help="File to write the program to, not the bundle.")] = None,
    dump_after: Annotated[
        str | None,
        typer.Option(metavar="PASS", help="Print the network as this pass leaves it (docs/isa.md) and write nothing."),
    ] = None,
) -> None:
    """Compile BUNDLE for a crossbar machine.

    Prints the latency of every layer. The program is written into the bundle if it is for the bundle's own machine.
    """
    import cimq
    from cimq.bundle import programs
    from cimq.hardware import resolve

    if dump_after is not None:
        say(programs.dump_after(bundle, dump_after, hardware).rstrip())
        return
    program: Any = cimq.compile(bundle, hardware=None if hardware is None else resolve(hardware), out=output)
    say(str(program.latency))
