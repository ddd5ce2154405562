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
    pipeline: Annotated[
        str,
        typer.Option(
            help="closed_form: every tile is written once per inference. stationary: tiles stay in their crossbars "
            "where they fit; prints the time of the program, event by event. pipelined: layers overlap as well, where "
            "that is faster."
        ),
    ] = "closed_form",
    duplication: Annotated[
        str | None,
        typer.Option(
            metavar="RULE|FILE",
            help="Copies of layers that share their input vectors (not in the closed form): greedy, throughput (the "
            "slowest layer), latency (the sum of layers), balanced (between the two), none, any (the fastest; pipeline "
            "pipelined, its default), or a JSON file {layer: copies}.",
        ),
    ] = None,
    dump_after: Annotated[
        str | None,
        typer.Option(metavar="PASS", help="Print the network as this pass leaves it (docs/isa.md) and write nothing."),
    ] = None,
) -> None:
    """Compile BUNDLE for a crossbar machine.

    Prints the latency of every layer. The program of the closed form is written into the bundle if it is for the
    bundle's own machine.
    """
    import cimq
    from cimq.bundle import programs
    from cimq.hardware import resolve

    if dump_after is not None:
        say(programs.dump_after(bundle, dump_after, hardware, pipeline, duplication).rstrip())
        return
    machine = None if hardware is None else resolve(hardware)
    program: Any = cimq.compile(bundle, hardware=machine, out=output, pipeline=pipeline, duplication=duplication)
    say(str(program.latency if pipeline == programs.CLOSED_FORM else program.simulated))
    if program.chosen:
        say(program.chosen)
