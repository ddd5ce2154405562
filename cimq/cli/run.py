"""`cimq run`."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Annotated, Any

import typer

from cimq.cli.output import say
from cimq.cli.user_errors import EXIT_MISMATCH, one_sentence


@one_sentence
def command(
    bundle: Annotated[Path, typer.Argument(help="Folder of the bundle (NAME.cimq), a zip of it, or an ONNX model.")],
    input_file: Annotated[Path | None, typer.Option("--input", help=".npy with float32 inputs.")] = None,
    output_file: Annotated[Path | None, typer.Option("--output", help=".npy to write the outputs to.")] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Compare every layer with the bundle's expected values.")
    ] = False,
    threads: Annotated[
        int | None,
        typer.Option(
            "--threads", min=1, help="Threads; default: OMP_NUM_THREADS, or all processors. Changes no result."
        ),
    ] = None,
    max_working_bytes: Annotated[
        int | None,
        typer.Option(
            "--max-working-bytes", min=1, help="Refuse what needs more memory for one sample; default: 8 GiB."
        ),
    ] = None,
    max_operations: Annotated[
        int | None,
        typer.Option(
            "--max-operations", min=1, help="Refuse what needs more operations for one sample; default: 1e13."
        ),
    ] = None,
) -> None:
    """Execute BUNDLE, or a quantised ONNX model (NAME.onnx), with the C++ executor.

    On an input, or with --check on the bundle's own sample, against what the trained model gave. An ONNX model runs on
    the machine paper.
    """
    import cimq

    if check == (input_file is not None) or (input_file is None) != (output_file is None):
        raise ValueError("run: give --input and --output, or --check")
    if check and bundle.suffix == ".onnx":
        raise ValueError("run: --check is for bundles; an ONNX model holds no results to compare with")
    bounds = {"max_working_bytes": max_working_bytes, "max_operations": max_operations}
    given: dict[str, Any] = {name: value for name, value in bounds.items() if value is not None}
    load: Any = cimq.load_onnx if bundle.suffix == ".onnx" else cimq.load_bundle
    executor: Any = load(bundle, threads=threads, **given)
    if check:
        report = executor.check()
        say(str(report))
        if not report.equal:
            raise typer.Exit(EXIT_MISMATCH)
    else:
        assert input_file is not None
        assert output_file is not None
        _run(executor, input_file, output_file)


def _run(executor: Any, input_file: Path, output_file: Path) -> None:
    import numpy as np

    from cimq.atomic_files import write_bytes_atomically

    if not input_file.exists():
        raise FileNotFoundError(f"run: input {input_file} does not exist")
    if not input_file.is_file():
        raise ValueError(f"run: input {input_file} is not a regular file")
    try:
        x = np.load(input_file, allow_pickle=False)
    except MemoryError:
        raise ValueError(f"run: input {input_file} is an array that does not fit the memory") from None
    except (ValueError, EOFError, OSError) as error:
        raise ValueError(f"run: input {input_file} is not a readable .npy: {error}") from None
    if not isinstance(x, np.ndarray):
        raise ValueError(f"run: input {input_file} is an archive of arrays, not one .npy array")
    y = np.asarray(executor.run(x))
    buffer = io.BytesIO()
    np.save(buffer, y, allow_pickle=False)
    write_bytes_atomically(output_file, buffer.getvalue())
    say(f"wrote {output_file}: {y.dtype} {list(y.shape)}")
