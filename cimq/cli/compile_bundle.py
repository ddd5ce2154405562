"""`cimq compile`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from cimq.cli.output import say
from cimq.cli.user_errors import one_sentence


@one_sentence
def command(
    bundle: Annotated[Path, typer.Argument(help="Folder of the bundle (NAME.cimq), a zip of it, or an ONNX model.")],
    hardware: Annotated[
        str | None,
        typer.Option(help="Preset or hardware file; default: the bundle's own machine, paper for an ONNX model."),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "--out", help="File to write the program to, not the bundle; with --emit c the folder."
        ),
    ] = None,
    emit: Annotated[
        str | None,
        typer.Option(
            metavar="c", help="c: write C that runs on analog-cim-sim (docs/emit_c.md) to the folder --out, no program."
        ),
    ] = None,
    pipeline: Annotated[
        str | None,
        typer.Option(
            help="closed_form: every tile is written once per inference (the default). stationary: tiles stay in their "
            "crossbars where they fit (the default of --sweep); prints the time of the program, event by event. "
            "pipelined: layers overlap as well, where that is faster."
        ),
    ] = None,
    duplication: Annotated[
        str | None,
        typer.Option(
            metavar="RULE|FILE",
            help="Copies of layers that share their input vectors (not in the closed form): greedy, throughput (the "
            "slowest layer), latency (the sum of layers), balanced (between the two), none, any (the fastest; pipeline "
            "pipelined, its default), or a JSON file {layer: copies}.",
        ),
    ] = None,
    batch: Annotated[
        int,
        typer.Option(
            metavar="N",
            min=1,
            help="Samples that the program computes together: a tile that is written serves all of them. Prints the "
            "time of a sample. Written to --out only.",
        ),
    ] = 1,
    trace: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write what happens when as a trace that https://ui.perfetto.dev opens."),
    ] = None,
    sweep: Annotated[
        str | None,
        typer.Option(
            metavar="RESOURCE=VALUES",
            help="Print the time on machines that differ in a resource, as crossbars=1,4,16,inf, or in batches of "
            "several sizes, as batch=1,4,16; write no program.",
        ),
    ] = None,
    plot: Annotated[Path | None, typer.Option(help="With --sweep: draw it to this file (.png, .svg, .pdf).")] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print latency and simulated time, or the sweep, as JSON.")
    ] = False,
    dump_after: Annotated[
        str | None,
        typer.Option(metavar="PASS", help="Print the network as this pass leaves it (docs/isa.md) and write nothing."),
    ] = None,
) -> None:
    """Compile BUNDLE, or a quantised ONNX model (NAME.onnx), for a crossbar machine.

    Prints the latency of every layer. The program of the closed form is written into the bundle if it is for the
    bundle's own machine.
    """
    import cimq
    from cimq.bundle import programs
    from cimq.bundle.sweep import read_sweep
    from cimq.bundle.sweep import sweep as sweep_resource
    from cimq.hardware import resolve

    if emit is not None:
        if emit != "c":
            raise ValueError(f"compile: --emit must be c, got {emit!r}")
        others = {
            "--pipeline": pipeline,
            "--duplication": duplication,
            "--batch": batch if batch > 1 else None,
            "--trace": trace,
            "--sweep": sweep,
            "--plot": plot,
            "--json": as_json or None,
            "--dump-after": dump_after,
        }
        given = [option for option, value in others.items() if value is not None]
        if given:
            raise ValueError(f"compile: --emit c writes every tile for every sample, leave out {', '.join(given)}")
        if output is None:
            raise ValueError("compile: --emit c writes a folder, give --out DIR")
        say(f"{cimq.emit_c(bundle, output, hardware)}: make ACS=path/to/library")
        return
    if dump_after is not None:
        if as_json or any(option is not None for option in (output, trace, sweep, plot)):
            raise ValueError(
                "compile: --dump-after prints and writes nothing else, leave out --output, --trace, --sweep, --plot "
                "and --json"
            )
        pipeline = pipeline or programs.CLOSED_FORM
        say(programs.dump_after(bundle, dump_after, hardware, pipeline, duplication, batch).rstrip())
        return
    machine = None if hardware is None else resolve(hardware)
    if plot is not None and sweep is None:
        raise ValueError("compile: --plot draws a sweep, give --sweep")
    if sweep is not None:
        if output is not None or trace is not None:
            raise ValueError("compile: --sweep writes no program and no trace, leave out --output and --trace")
        if plot is not None:
            programs.check_apart(plot, bundle)
        resource, values = read_sweep(sweep)
        found = sweep_resource(bundle, resource, values, machine, pipeline or programs.STATIONARY, duplication, batch)
        if plot is not None:
            found.plot(plot)
        say(json.dumps(found.to_dict(), indent=2) if as_json else str(found))
        return
    if trace is not None:
        programs.check_apart(trace, bundle)
    pipeline = pipeline or programs.CLOSED_FORM
    program: Any = cimq.compile(
        bundle, hardware=machine, out=output, pipeline=pipeline, duplication=duplication, batch=batch
    )
    if trace is not None:
        program.save_trace(trace)
    if as_json:
        report = {"latency": program.latency.to_dict(), "simulated": program.simulated.to_dict()}
        say(json.dumps({**report, "chosen": program.chosen}, indent=2))
    else:
        say(str(program.latency if pipeline == programs.CLOSED_FORM and batch == 1 else program.simulated))
        if program.chosen:
            say(program.chosen)
