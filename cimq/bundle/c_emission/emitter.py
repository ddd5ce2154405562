"""Writes a bundle as a folder of C."""

from __future__ import annotations

import hashlib
import importlib.resources
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy.typing as npt
from safetensors.numpy import load as read_safetensors

from cimq import _C
from cimq.bundle.c_emission.network_source import header_source, network_source
from cimq.bundle.c_emission.simulator import SimulatedLayer, machine_keys, simulated_layer
from cimq.bundle.c_emission.weights import WeightFile, identity_of
from cimq.bundle.folder import new_folder
from cimq.bundle.loader import bundle_folder
from cimq.bundle.programs import CompiledLayer, compile_layers, resolve_text
from cimq.hardware import Hardware, resolve
from cimq.version import __version__

_SHARED = ("Makefile", "acs.h", "cimq_crossbar.c", "cimq_ops.h", "cimq_vector.c", "main.c")


def emit_c(bundle: str | Path, out: str | Path, hardware: Hardware | str | Path | None = None) -> Path:
    """Writes a bundle as C99 that runs its crossbar layers on analog-cim-sim (docs/emit_c.md).

    The folder has network.c and network.h (the nodes), weights.bin, config.json (the machine for `set_config`), the C
    that all networks share, main.c and a Makefile: `make ACS=path/to/library`. Where the machine loses nothing the
    program gives the integers of every layer, and the outputs, of `cimq.load_bundle(bundle).run` to the last bit.

    Args:
        bundle: Bundle folder, or a zip of it.
        out: The folder; it must not exist or be empty, and appears complete or not at all.
        hardware: Machine, preset name or file. None: the bundle's.

    Returns:
        The folder.

    Raises:
        FileNotFoundError: If there is no such bundle.
        FileExistsError: If `out` is a file, or a folder with something in it.
        ValueError: If the bundle is damaged, a node has no C, or the simulator cannot be told of the machine.

    Example:
        >>> cimq.emit_c("net.cimq", "net_c")    # doctest: +SKIP
        PosixPath('net_c')
    """
    path, out = Path(bundle), Path(out)
    if path.suffix == ".onnx":
        raise ValueError(
            f"emit_c: {path} must be a bundle; cimq.load_onnx(model, out=BUNDLE) makes one of an ONNX model"
        )
    texts, tensors = _verified(path)
    machine = resolve_text(texts["hardware.json"]) if hardware is None else resolve(hardware)
    document = json.loads(texts["layers.json"])
    compiled = compile_layers(texts["layers.json"], machine).layers
    _refuse_choices(compiled)
    keys = machine_keys(machine)
    layers = _layers(compiled, document, machine)
    identity = identity_of(texts["layers.json"].encode(), machine.to_json().encode(), texts["weights"].encode())
    weights = WeightFile(tensors, identity)
    made = f"Written by cimq {__version__} from {path.name} for the machine {machine.name}."
    files = {
        "network.h": header_source(made, document).encode(),
        "network.c": network_source(made, document, layers, weights, identity).encode(),
        "config.json": (json.dumps({**keys, **next(iter(layers.values())).config}, indent=1) + "\n").encode(),
    }
    files["weights.bin"] = weights.content
    sources = importlib.resources.files("cimq.bundle.c_emission") / "sources"
    files |= {name: (sources / name).read_bytes() for name in _SHARED}
    with new_folder(out, "emit_c") as folder:
        for name, content in files.items():
            (folder / name).write_bytes(content)
    return out


def _verified(path: Path) -> tuple[dict[str, str], dict[str, npt.NDArray[Any]]]:
    """Texts of a bundle, under "weights" the hash of its weights, and the weights: all of it what was verified."""
    with bundle_folder(path) as folder:
        executor = _C.Executor.load(str(folder))
        content = (folder / "weights.safetensors").read_bytes()
    texts = {name: executor.text_of(name) for name in ("layers.json", "hardware.json")}
    entries = json.loads(executor.text_of("manifest.json"))["files"]
    stated = next(entry["sha256"] for entry in entries if entry["path"] == "weights.safetensors")
    if hashlib.sha256(content).hexdigest() != stated:
        raise ValueError(f"{path}: weights.safetensors has changed while it was read")
    return texts | {"weights": stated}, read_safetensors(content)


def _refuse_choices(compiled: Sequence[CompiledLayer]) -> None:
    for layer in compiled:
        if layer.machine.given():
            raise ValueError(
                f"emit_c: layer {layer.name!r} chooses {layer.machine}, and analog-cim-sim has one configuration of "
                "mapping and converters for all layers"
            )


def _layers(
    compiled: Sequence[CompiledLayer], document: dict[str, Any], machine: Hardware
) -> dict[str, SimulatedLayer]:
    signed = {node["layer_name"]: bool(node["act_signed"]) for node in document["nodes"] if "layer_name" in node}
    return {layer.name: simulated_layer(machine, layer, signed[layer.name]) for layer in compiled}
