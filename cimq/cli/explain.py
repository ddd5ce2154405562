"""`cimq explain`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from cimq.cli.output import say
from cimq.cli.user_errors import one_sentence


@one_sentence
def command(
    bundle: Annotated[Path, typer.Argument(help="Folder of the bundle (NAME.cimq), or a zip of it.")],
    layer: Annotated[str, typer.Argument(help="Name of a crossbar layer.")],
    hardware: Annotated[
        str | None, typer.Option(help="Preset or hardware file; default: the machine that the bundle was made for.")
    ] = None,
    pipeline: Annotated[str, typer.Option(help="As in `cimq compile`.")] = "stationary",
    duplication: Annotated[str | None, typer.Option(metavar="RULE|FILE", help="As in `cimq compile`.")] = None,
) -> None:
    """Explain what a LAYER of BUNDLE does on a crossbar machine.

    How it lies in the crossbars, what its time and energy go to, and what would make it faster. Writes nothing.
    """
    from cimq.bundle import programs
    from cimq.bundle.explained import explain_layer
    from cimq.hardware import resolve

    machine = None if hardware is None else resolve(hardware)
    program: Any = programs.compiled(bundle, machine, pipeline, duplication)
    say(explain_layer(program, layer))
