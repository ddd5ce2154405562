"""Bundles with right hashes and hostile contents, and `cimq-run` under bounds of time and memory."""

from __future__ import annotations

import json
import os
import resource
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from bundle_nets import write_handmade

import cimq
from cimq.bundle.folder import write_manifest

Node = dict[str, Any]


def rewritten(bundle: Path) -> Path:
    """The bundle with a manifest that fits its files."""
    (bundle / "manifest.json").unlink(missing_ok=True)
    write_manifest(bundle, [file.name for file in bundle.iterdir()], {})
    return bundle


def changed_json(bundle: Path, name: str, change: Callable[[Any], None]) -> Path:
    content = json.loads((bundle / name).read_text())
    change(content)
    (bundle / name).write_text(json.dumps(content))
    return rewritten(bundle)


def with_nodes(folder: Path, *nodes: Node) -> Path:
    """The handmade network (output [3]) with a reshape to [3, 1, 1] and these nodes behind it."""
    first: Node = {"name": "image", "op": "reshape", "inputs": ["relu"], "shape": [3, 1, 1], "attrs": {}, "tensors": {}}

    def change(layers: Any) -> None:
        layers["nodes"] += [first, *nodes]
        layers["output"] = layers["nodes"][-1]["name"]

    bundle = write_handmade(folder)
    (bundle / "expected.safetensors").unlink()
    return changed_json(bundle, "layers.json", change)


def padded(name: str, source: str, height: int, width: int) -> Node:
    attrs = {"before": [0, 0, 0], "after": [0, height - 1, width - 1], "value": 0.0}
    return {"name": name, "op": "pad", "inputs": [source], "shape": [3, height, width], "attrs": attrs, "tensors": {}}


def relu(name: str, source: str, height: int, width: int) -> Node:
    return {"name": name, "op": "relu", "inputs": [source], "shape": [3, height, width], "attrs": {}, "tensors": {}}


def corner(name: str, source: str) -> Node:
    attrs = {"start": [0, 0, 0], "stop": [3, 1, 1], "step": [1, 1, 1]}
    return {"name": name, "op": "slice", "inputs": [source], "shape": [3, 1, 1], "attrs": attrs, "tensors": {}}


def sample_of_zeros(bundle: Path, samples: int) -> Path:
    """`samples` zeros as input, and results of the right names without a value."""
    old = (bundle / "expected.safetensors").read_bytes()
    header = json.loads(old[8 : 8 + struct.unpack("<Q", old[:8])[0]])
    header.pop("__metadata__", None)
    size = 4 * samples * header["input"]["shape"][1]
    for name, entry in header.items():
        entry["shape"] = [samples if name == "input" else 0, *entry["shape"][1:]]
        entry["data_offsets"] = [0, size] if name == "input" else [size, size]
    text = json.dumps(header).encode()
    (bundle / "expected.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + bytes(size))
    return rewritten(bundle)


def bounded_run(
    *arguments: object, megabytes: int, seconds: float = 60, environment: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """`cimq-run` with `arguments`, that must do with so much address space."""
    program = Path(cimq.__file__).parent / "bin" / "cimq-run"
    if not program.exists():
        pytest.skip("cimq-run was not built")

    def bounds() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (megabytes << 20,) * 2)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))

    return subprocess.run(
        [str(program), *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        timeout=seconds,
        preexec_fn=bounds,
        env={**os.environ, "OMP_NUM_THREADS": "1", **(environment or {})},
    )
