"""Milliseconds of an image by the batch that a program computes: a tile that is written serves all images of it.

ResNet-18 (published policy) on `paper` with so many crossbars, of which with --ports so many are written at once.
"first ms": when the first image's result is there. Seconds are of one processor; compiling has the
verification in it, and for `pipelined` the simulation of several programs.

    python benchmarks/compiler/batches.py --pipeline pipelined --crossbars 1 16 64 --ports 1
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import _common
from _resnet18 import resnet18
from _vgg16 import vgg16
from resnet18 import bits_of

from cimq import Hardware
from cimq.bundle.programs import PIPELINED, compile_layers

BATCHES = (1, 4, 16, 64)


def measure(layers_json: str, hardware: Hardware, pipeline: str, batch: int) -> dict[str, Any]:
    start = time.process_time()
    program = compile_layers(layers_json, hardware, pipeline, batch=batch)
    compiled = time.process_time()
    simulated = program.simulated
    return {
        "crossbars": hardware.resources.crossbars,
        "batch": batch,
        "ms an image": simulated.time_us / 1000,
        "first ms": simulated.first_us / 1000,
        "writing ms": simulated.write_us / 1000,
        "writes an image": program.writes / batch,
        "compile s": compiled - start,
        "simulate s": time.process_time() - compiled,
        "kB": len(program.text) / 1000,
        "chosen": program.chosen,
    }


def main() -> None:
    options = _common.parser(__doc__ or "")
    options.add_argument("--network", choices=("resnet18", "vgg16"), default="resnet18", help="vgg16: W4A4 throughout")
    options.add_argument("--pipeline", default=PIPELINED)
    options.add_argument("--crossbars", type=int, nargs="+", default=(1, 16, 64))
    options.add_argument("--batches", type=int, nargs="+", default=BATCHES)
    options.add_argument("--ports", type=int, help="crossbars that are written at once; default: without limit")
    chosen = options.parse_args()
    network = vgg16((4, 4)) if chosen.network == "vgg16" else resnet18(bits_of("published"))
    rows = []
    for crossbars in chosen.crossbars:
        resources = {"crossbars": crossbars, "parallel_writes": chosen.ports}
        hardware = Hardware.preset("paper").replace(resources=resources)
        of_machine: list[dict[str, Any]] = []
        for batch in chosen.batches:
            row = measure(network.layers_json(), hardware, chosen.pipeline, batch)
            of_machine.append(row)
            row["speed-up"] = of_machine[0]["ms an image"] / row["ms an image"]
        rows += of_machine
    _common.show(rows, chosen.json)


if __name__ == "__main__":
    main()
