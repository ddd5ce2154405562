"""Compiling a bundle: program.jsonl, the tiles of every layer, and the latency."""

from __future__ import annotations

import dataclasses
import functools
import json
import numbers
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from cimq import _C
from cimq.atomic_files import check_writable, write_text_atomically
from cimq.bundle.folder import replace_in_bundle
from cimq.bundle.loader import bundle_folder
from cimq.bundle.onnx_import import read_onnx
from cimq.bundle.simulated import SimulatedTime, simulate, trace
from cimq.cost_model.closed_form import LatencyReport, closed_form, closed_form_machine
from cimq.cost_model.shapes import MATMUL, LayerShape, kind_of
from cimq.hardware import Hardware, resolve
from cimq.policy import AS_THE_MACHINE, LayerBits, LayerMachine

PROGRAM = "program.jsonl"
CLOSED_FORM = "closed_form"
STATIONARY = "stationary"
PIPELINED = "pipelined"
_COUNT_BITS = 63
RULES = ("none", "greedy", "throughput", "balanced", "latency", "any")
# A rule's name, a JSON file of {layer: copies}, or such a mapping.
Duplication = str | Path | Mapping[str, int]


class Tile(NamedTuple):
    """Part of a layer's cell matrix that one crossbar holds: rows [row_begin, row_end), columns likewise."""

    row_begin: int
    row_end: int
    column_begin: int
    column_end: int
    crossbar: int


@dataclasses.dataclass(frozen=True)
class CompiledLayer:
    """A crossbar layer and how its matrix of cells is cut. `tiles` are those of one group (`repeats` groups) and, of
    `copies`, of the first one. `machine` is what it has otherwise than the machine of the program."""

    name: str
    op: str
    weight_bits: int
    act_bits: int
    outputs: int
    inputs: int
    invocations: int
    repeats: int
    slices: int
    digits: int
    rows: int
    columns: int
    row_tiles: int
    column_tiles: int
    copies: int
    tiles: tuple[Tile, ...]
    machine: LayerMachine = AS_THE_MACHINE


@dataclasses.dataclass(frozen=True)
class CompiledProgram:
    """What `compile` returns.

    Attributes:
        layers: Crossbar layers with their tiles.
        latency: Closed-form latency of one inference; its writes and MVMs are those of the program. For the pipeline
            `stationary`, and for batches, it is that of a machine with one crossbar, to compare `simulated` with.
        hardware: The machine compiled for.
        text: The content of program.jsonl.
        path: Where the program was written, None if nowhere.
        writes: Crossbar writes of one inference; of a batch those of all its samples together.
        mvms: Crossbar activations, likewise.
        setup_writes: Crossbars written once, when the network is loaded: their tiles stay.
        layers_json: The network that was compiled.
        chosen: What the pipeline "pipelined" has taken, in words; else empty.
        batch: Samples that the program computes together.
    """

    layers: tuple[CompiledLayer, ...]
    latency: LatencyReport
    hardware: Hardware
    text: str
    path: Path | None
    writes: int
    mvms: int
    setup_writes: int
    layers_json: str = dataclasses.field(repr=False)
    chosen: str = ""
    batch: int = 1

    @functools.cached_property
    def simulated(self) -> SimulatedTime:
        """Time of one inference, event by event; of a batch, for each of its samples.

        On one crossbar without other limits that of the closed form.

        Raises:
            ValueError: If its input vectors and sums do not fit `resources.buffer_bytes`; names the instruction.
        """
        return simulate(self.text, self.layers_json, self.hardware, [layer.machine for layer in self.layers])

    def events(self) -> list[dict[str, Any]]:
        """What happens when: the events that `save_trace` writes, in Chrome's trace event format.

        Raises:
            ValueError: As `simulated`.
        """
        events: list[dict[str, Any]] = json.loads(trace(self.text, self.layers_json))["traceEvents"]
        return events

    def save_trace(self, path: str | Path) -> None:
        """Writes what happens when, as a Chrome trace that https://ui.perfetto.dev opens.

        Args:
            path: A .json file; it appears complete or not at all.

        Raises:
            ValueError: As `simulated`.
        """
        write_text_atomically(path, trace(self.text, self.layers_json))


def compile_layers(
    layers_json: str,
    hardware: Hardware,
    pipeline: str = CLOSED_FORM,
    duplication: Duplication | None = None,
    batch: int = 1,
) -> CompiledProgram:
    """Compiles the text of a layers.json; writes nothing. The program is verified before it is returned."""
    batch = _checked_batch(batch)
    compiled: dict[str, Any] = _C.compile_program(
        layers_json,
        hardware.to_json(),
        pipeline=pipeline,
        batch=batch,
        **_duplication_arguments(duplication, pipeline),
    )
    names = [field.name for field in dataclasses.fields(CompiledLayer) if field.name not in ("tiles", "machine")]
    layers = tuple(
        CompiledLayer(
            **{key: layer[key] for key in names},
            tiles=tuple(Tile(*tile) for tile in layer["tiles"]),
            machine=LayerMachine(*layer["machine"]),
        )
        for layer in compiled["layers"]
    )
    counts = _C.verify_program(compiled["text"], layers_json)
    shapes = [
        LayerShape(
            layer.name,
            kind_of(layer.op),
            layer.outputs,
            layer.inputs,
            layer.invocations,
            layer.repeats,
        )
        for layer in layers
    ]
    if not shapes:
        raise ValueError("compile: the network has no crossbar layer")
    # Of a program whose tiles stay the closed form says what one crossbar would take.
    machine = hardware if pipeline == CLOSED_FORM else hardware.replace(resources={"crossbars": 1})
    bits = [LayerBits(layer.weight_bits, layer.act_bits) for layer in layers]
    report = closed_form(shapes, bits, closed_form_machine(machine), [layer.machine for layer in layers])
    wanted = sum(layer.writes * _times_written(layer.kind, batch) for layer in report.layers), batch * report.mvms
    if pipeline == CLOSED_FORM and counts != wanted:
        # The verifier has counted the program, the report comes from shapes.
        raise RuntimeError(f"compile: the program has {counts} writes and MVMs, the latency model {wanted}: {report}")
    made = compiled["setup_writes"], layers_json, compiled["chosen"]
    return CompiledProgram(layers, report, hardware, compiled["text"], None, *counts, *made, batch=batch)


def compile(
    bundle: str | Path,
    hardware: Hardware | str | Path | None = None,
    *,
    out: str | Path | None = None,
    pipeline: str = CLOSED_FORM,
    duplication: Duplication | None = None,
    batch: int = 1,
) -> CompiledProgram:
    """Compiles a bundle for its own machine or another one, or an ONNX model (docs/onnx.md).

    For its own machine the program of the closed form is written into the bundle (program.jsonl; the manifest follows,
    and the bundle is valid at every moment). For another machine nothing in the bundle changes: the network was trained
    for its own.

    Args:
        bundle: Bundle folder, or a zip or an ONNX model (then the program is written to `out` only).
        hardware: Machine, preset name or file. None: the bundle's; "paper" for an ONNX model.
        out: File to write the program to instead.
        pipeline: "closed_form" writes every tile once per inference, as the latency model has it. "stationary" leaves
            tiles in their crossbars where they fit; "pipelined" does that too, and lets layers overlap in time where
            that is faster (docs/isa.md, "Pipelines and passes"). Their programs go to `out` only.
        duplication: Copies of layers that share their input vectors (not in the closed form): a rule that chooses them
            for the machine's crossbars ("greedy", "throughput", "balanced", "latency"; "any": whichever gives the
            fastest program, for the pipeline "pipelined"), or a JSON file or a mapping {layer name: copies}; layers
            that are not named have one. None: "any" for the pipeline "pipelined", else "none".
        batch: Samples that the program computes together: a tile that is written serves all of them before the next
            one is written. Programs of more than one go to `out` only.

    Raises:
        FileNotFoundError: If there is no such bundle or file.
        ValueError: If the bundle or model is damaged, the network does not fit a program (too many tiles), a layer
            cannot have so many copies, the machine cannot have what a layer chooses, or `out` is the bundle or in it.

    Example:
        >>> program = cimq.compile("net.cimq")                       # doctest: +SKIP
        >>> program.latency.time_us, len(program.layers[0].tiles)    # doctest: +SKIP
        (123.2, 2)
    """
    path = Path(bundle)
    if out is not None:
        check_apart(out, path)
        check_writable(out)
    texts, own, machine = _texts_and_machines(path, hardware)
    program = compile_layers(texts["layers.json"], machine, pipeline, duplication, batch)
    if out is not None:
        write_text_atomically(out, program.text)
        return dataclasses.replace(program, path=Path(out))
    if machine != own or not path.is_dir() or pipeline != CLOSED_FORM or batch != 1:
        return program
    manifest = json.loads(texts["manifest.json"])
    replace_in_bundle(path, PROGRAM, program.text.encode(), {"latency": latency_entry(program)}, manifest)
    return dataclasses.replace(program, path=path / PROGRAM)


def check_apart(out: str | Path, bundle: Path) -> None:
    """Refuses to write into a bundle, whose manifest has the hash of every file, or over it.

    Raises:
        ValueError: If `out` is the bundle or in it.
    """
    if Path(out).resolve().is_relative_to(bundle.resolve()):
        raise ValueError(f"compile: '{out}' is '{bundle}' or in it, and would damage it; write to a file elsewhere")


def compiled(
    bundle: str | Path,
    hardware: Hardware | str | Path | None = None,
    pipeline: str = CLOSED_FORM,
    duplication: Duplication | None = None,
    batch: int = 1,
) -> CompiledProgram:
    """Compiles a bundle and writes nothing, wherever the program is for; otherwise as `compile`."""
    texts, _, machine = _texts_and_machines(Path(bundle), hardware)
    return compile_layers(texts["layers.json"], machine, pipeline, duplication, batch)


def machine_of(bundle: str | Path, hardware: Hardware | str | Path | None = None) -> Hardware:
    """The machine that a bundle would be compiled for: `hardware`, or its own where that is None."""
    return _texts_and_machines(Path(bundle), hardware)[2]


def dump_after(
    bundle: str | Path,
    pass_name: str,
    hardware: Hardware | str | Path | None = None,
    pipeline: str = CLOSED_FORM,
    duplication: Duplication | None = None,
    batch: int = 1,
) -> str:
    """The network as a pass of the compiler leaves it: JSON lines for nodes, tilings, placements and instructions.

    Args:
        bundle: Bundle folder, a zip, or an ONNX model. Nothing is written.
        pass_name: Name of the pass (docs/isa.md, "Pipelines and passes").
        hardware: As for `compile`.
        pipeline: As for `compile`.
        duplication: As for `compile`.
        batch: As for `compile`.

    Raises:
        ValueError: If there is no such pass; the message names those that there are.
    """
    texts, _, machine = _texts_and_machines(Path(bundle), hardware)
    compiled: dict[str, Any] = _C.compile_program(
        texts["layers.json"],
        machine.to_json(),
        pass_name,
        pipeline,
        batch=_checked_batch(batch),
        **_duplication_arguments(duplication, pipeline),
    )
    dump: str = compiled["dump"]
    return dump


def _checked_batch(batch: int) -> int:
    if isinstance(batch, bool) or not isinstance(batch, numbers.Integral):
        raise ValueError(f"compile: batch must be an integer, got {batch!r}")
    batch = int(batch)
    if batch.bit_length() > _COUNT_BITS:  # the compiler's integers have 64 bits, and it says how large a batch can be
        raise ValueError(f"compile: batch must fit 64 bits, got {batch}")
    return batch


def _times_written(kind: str, batch: int) -> int:
    """How often a batch writes a layer's tiles: a value that crossbars hold is another one for every sample."""
    return batch if kind == MATMUL else 1


def _duplication_arguments(duplication: Duplication | None, pipeline: str) -> dict[str, Any]:
    """As the compiler takes it: the name of a rule, or the text of a JSON object."""
    if duplication is None:
        return {"duplication": "any" if pipeline == PIPELINED else "none"}
    if isinstance(duplication, Mapping):
        return {"duplication": json.dumps(dict(duplication)), "as_json": True}
    if str(duplication) in RULES:
        return {"duplication": str(duplication)}
    try:
        text = Path(duplication).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise FileNotFoundError(
            f"duplication must be one of {', '.join(RULES)} or a JSON file, and there is no file '{duplication}'"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text in UTF-8"
        rules = ", ".join(RULES)
        raise ValueError(
            f"duplication must be one of {rules} or a JSON file, and '{duplication}' cannot be read: {reason}"
        ) from None
    return {"duplication": text, "as_json": True}


def _texts_and_machines(
    path: Path, hardware: Hardware | str | Path | None
) -> tuple[dict[str, str], Hardware, Hardware]:
    """Verified files of a bundle (of an ONNX model layers.json alone), its own machine, the machine to compile for."""
    if path.suffix == ".onnx":
        machine = resolve("paper" if hardware is None else hardware)
        return {"layers.json": read_onnx(path).layers_json()}, machine, machine
    with bundle_folder(path) as folder:
        texts: dict[str, str] = _C.read_bundle(str(folder), ["manifest.json", "layers.json", "hardware.json"])
    own = resolve_text(texts["hardware.json"])
    return texts, own, own if hardware is None else resolve(hardware)


def latency_entry(program: CompiledProgram) -> dict[str, Any]:
    """What the manifest says about a program."""
    return {
        "tier": 1,
        "time_us": program.latency.time_us,
        "writes": program.writes,
        "mvms": program.mvms,
        "speedup_over_uniform8": program.latency.speedup,
    }


def resolve_text(hardware_json: str) -> Hardware:
    """Hardware from the text of a bundle's hardware.json."""
    return Hardware.from_dict(json.loads(hardware_json))
