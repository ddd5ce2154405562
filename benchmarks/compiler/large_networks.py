"""How long the compiler takes for VGG-16 and ViT-B/32 at 224 x 224, event simulation included, and what it finds.

Every layer has W8A8 (the largest programs), the machine is `paper` with so many crossbars. "compile s": tiles,
placement, lowering, verification; "simulate s": the program, event by event; both in seconds of one processor.
`pipelined` simulates several programs while it compiles.

    python benchmarks/compiler/large_networks.py [--bits 4 4] [--json]
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import _common
from _vgg16 import vgg16
from _vit import vit_b

from cimq import Hardware
from cimq.bundle.programs import PIPELINED, compile_layers

RUNS = (("closed_form", 1), ("stationary", 1024), ("stationary", None), (PIPELINED, 16384))


def measure(name: str, layers_json: str, pipeline: str, crossbars: int | None) -> dict[str, Any]:
    hardware = Hardware.preset("paper").replace(resources={"crossbars": crossbars})
    start = time.process_time()
    program = compile_layers(layers_json, hardware, pipeline)
    compiled = time.process_time()
    simulated = program.simulated
    end = time.process_time()
    return {
        "network": name,
        "pipeline": pipeline,
        "crossbars": crossbars or "unlimited",
        "compile s": compiled - start,
        "simulate s": end - compiled,
        "ms of one inference": simulated.time_us / 1000,
        "closed form ms": program.latency.time_us / 1000,
        "kB": len(program.text) / 1000,
    }


def main() -> None:
    options = _common.parser(__doc__ or "")
    options.add_argument("--bits", type=int, nargs=2, default=(8, 8), metavar=("W", "A"), help="of every layer")
    chosen = options.parse_args()
    bits = (chosen.bits[0], chosen.bits[1])
    networks = {"VGG-16": vgg16(bits), "ViT-B/32": vit_b(bits)}
    texts = {name: network.layers_json() for name, network in networks.items()}
    rows = [measure(name, text, *run) for name, text in texts.items() for run in RUNS]
    _common.show(rows, chosen.json)


if __name__ == "__main__":
    main()
