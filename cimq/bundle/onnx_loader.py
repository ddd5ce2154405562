"""ONNX models of other tools, run by the executor."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import onnx

from cimq.bundle import onnx_model
from cimq.bundle.contents import write_network
from cimq.bundle.folder import new_bundle, write_manifest
from cimq.bundle.loader import MAX_OPERATIONS, MAX_WORKING_BYTES, Bundle, load_bundle
from cimq.bundle.onnx_import import read_onnx
from cimq.bundle.programs import latency_entry
from cimq.hardware import Hardware, resolve


def load_onnx(
    path: str | Path,
    hardware: Hardware | str | Path = "paper",
    *,
    input_shape: Sequence[int] | None = None,
    output: str | None = None,
    out: str | Path | None = None,
    overwrite: bool = False,
    threads: int | None = None,
    seed: int | None = None,
    chip: int | None = None,
    max_working_bytes: int = MAX_WORKING_BYTES,
    max_operations: int = MAX_OPERATIONS,
) -> Bundle:
    """Loads a quantised ONNX model (QDQ, QCDQ) of another tool, to be run on crossbars (docs/onnx.md).

    Convolutions and products whose input and weight are quantised become crossbar layers with the integers of the
    file; types and Clip ranges give their bits. Everything else is computed in float32.

    Args:
        path: The file: opset 13 to 25, one float32 input with the batch first.
        hardware: Machine, preset or file.
        input_shape: Shape of one sample, where the file leaves sizes open.
        output: Which output to compute, where there are several.
        out: Also writes a bundle there: a folder NAME.cimq, or one file NAME.zip. It has no sample to check.
        overwrite: Replace a bundle that is there.
        threads: As `cimq.load_bundle`.
        seed: Device variation of this seed; None: 0.
        chip: Another chip of the seed.
        max_working_bytes: As `cimq.load_bundle`.
        max_operations: As `cimq.load_bundle`.

    Returns:
        An executor with `.run(x)`, like that of a bundle.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is damaged, has something that cannot be run (node, operator and attribute are named), or the
            machine's converters need ranges from data.
        FileExistsError: If `out` exists and `overwrite` is false, or it is no bundle.

    Example:
        >>> net = cimq.load_onnx("resnet18.qdq.onnx")    # doctest: +SKIP
        >>> net.run(x).shape, net.policy["conv1"]        # doctest: +SKIP
        ((1, 1000), LayerBits(weight_bits=8, act_bits=8))
    """
    path = Path(path)
    machine = _machine(hardware)
    network = read_onnx(path, input_shape=input_shape, output=output)
    with _folder(out, overwrite) as folder:
        program = write_network(folder, network, machine)
        if out is not None:  # the file itself is the oracle where no bundle is kept
            facts = {"cimq.hardware": machine.name, "cimq.source": path.name}
            onnx.save_model(onnx_model.build(network, metadata=facts), folder / "model.onnx")
        names = [file.name for file in folder.iterdir()]
        write_manifest(folder, names, {"latency": latency_entry(program), "source": {"onnx": path.name}})
        bundle = load_bundle(
            folder,
            threads=threads,
            seed=seed,
            chip=chip,
            max_working_bytes=max_working_bytes,
            max_operations=max_operations,
        )
    bundle.path = path if out is None else Path(out)
    return bundle


@contextlib.contextmanager
def _folder(out: str | Path | None, overwrite: bool) -> Iterator[Path]:
    """Where the bundle is written: for good, or for as long as it is read."""
    if out is not None:
        with new_bundle(Path(out), overwrite) as folder:
            yield folder
        return
    with tempfile.TemporaryDirectory(prefix="cimq-onnx-") as temporary:
        yield Path(temporary)


def _machine(hardware: Hardware | str | Path) -> Hardware:
    machine = resolve(hardware)
    adc = machine.adc
    if adc.bits is not None and adc.range in ("calibrated", "learned"):
        raise ValueError(
            f"load_onnx: the converters of hardware {machine.name!r} have ranges from data (adc.range {adc.range!r}), "
            "which an ONNX model does not hold; use adc.range full_scale or granular"
        )
    return machine
