"""Milliseconds of one inference of ResNet-18 by the number of crossbars: tiles that stay, copies of layers by every
rule, layers that overlap, copies as PIMCOMP chooses them, and the least that any program could take.

The machine is `paper` (256 x 256, 4-bit cells, writing 56 us, a digit 1.4 us). "pimcomp" runs PIMCOMP's rule `balance`
(the layer with most input vectors per copy takes another copy while it fits; the linear layer has one) under the same
simulation, where all tiles stay; its own vector for its own chip is the row "recorded". The bound is the larger of the
longest path of one vector per layer, and all work divided by the number of crossbars.

    python benchmarks/compiler/resnet18.py --policy W8A8
"""

from __future__ import annotations

import dataclasses
import heapq
import json
import math
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import _common
from _builder import Bits
from _resnet18 import resnet18

from cimq import Hardware
from cimq.bundle.network import Network
from cimq.bundle.programs import CompiledProgram, compile_layers

ROOT = Path(__file__).resolve().parents[2]
PUBLISHED = "resnet18-both_constraints-acc05-rcell4"
CROSSBARS = (1, 16, 64, 1024, 4096, 16384, None)
# PIMCOMP-NN, default machine (144 cores x 64 crossbars of 128 x 128), `balance`, ResNet-18.
RECORDED = (381, 96, 96, 96, 96, 24, 24, 24, 24, 24, 6, 6, 6, 7, 6, 2, 2, 2, 2, 2, 1)


@dataclasses.dataclass(frozen=True)
class Layer:
    """What sharing crossbars out is about."""

    name: str
    tiles: int
    vectors: int
    digits: int


def bits_of(policy: str) -> Bits:
    if policy == "published":
        policies = json.loads((ROOT / "tests" / "data" / "policies_date2026.json").read_text())["policies"]
        return [tuple(pair) for pair in next(p for p in policies if p["name"] == PUBLISHED)["policy"]]
    weights, activations = policy[1:].split("A")
    return [(8, 8), *[(int(weights), int(activations))] * 19, (8, 8)]


def balanced(layers: list[Layer], crossbars: int) -> dict[str, int] | None:
    """PIMCOMP's `balance`; None where the tiles do not all fit. Of equal layers the first."""
    left = crossbars - sum(layer.tiles for layer in layers)
    if left < 0:
        return None
    copies = {layer.name: 1 for layer in layers}
    heap = [(-layer.vectors, index) for index, layer in enumerate(layers) if layer.vectors > 1]
    heapq.heapify(heap)
    while heap:
        _, index = heapq.heappop(heap)
        layer = layers[index]
        if layer.tiles > left or copies[layer.name] == layer.vectors:
            break
        left -= layer.tiles
        copies[layer.name] += 1
        heapq.heappush(heap, (-math.ceil(layer.vectors / copies[layer.name]), index))
    return copies


def critical_path(network: Network, layers: dict[str, Layer], digit_us: float) -> float:
    """Longest path in us where every layer takes the time of one vector."""
    ends = {network.input_name: 0.0}
    for node in network.nodes:
        begin = max(ends[name] for name in node.inputs)
        own = 0.0 if node.crossbar is None else layers[node.name].digits * digit_us
        ends[node.name] = begin + own
    return ends[network.output]


def bound(network: Network, layers: list[Layer], machine: Hardware, crossbars: int | None) -> float:
    """No program takes less, in us."""
    digit_us, write_us = machine.timing.mvm_time_us, machine.timing.write_time_us
    path = critical_path(network, {layer.name: layer for layer in layers}, digit_us)
    if crossbars is None:
        return path
    multiplying = sum(layer.tiles * layer.vectors * layer.digits for layer in layers) * digit_us
    tiles = sum(layer.tiles for layer in layers)
    writes = tiles - (crossbars - 1) if tiles > crossbars else 0  # one crossbar at least is for those that do not stay
    return max(path, (multiplying + writes * write_us) / crossbars)


def milliseconds(program: CompiledProgram) -> float:
    return program.simulated.time_us / 1000


def measure(network: Network, machine: Hardware, crossbars: int | None) -> dict[str, Any]:
    hardware = machine.replace(resources={"crossbars": crossbars})
    text = network.layers_json()

    def compiled(pipeline: str, duplication: Any = "none") -> CompiledProgram:
        return compile_layers(text, hardware, pipeline, duplication)

    plain = compiled("stationary")
    layers = [Layer(each.name, len(each.tiles), each.invocations, each.digits) for each in plain.layers]
    row: dict[str, Any] = {"crossbars": crossbars or "unlimited", "stationary": milliseconds(plain)}
    for rule in ("greedy", "throughput", "latency"):
        row[rule] = milliseconds(compiled("stationary", rule))
    copies = balanced(layers, crossbars) if crossbars else None
    row["pimcomp"] = milliseconds(compiled("stationary", copies)) if copies else None
    start = time.perf_counter()
    pipelined = compiled("pipelined", "any")
    row["pipelined"] = milliseconds(pipelined)
    row["pimcomp pipelined"] = milliseconds(compiled("pipelined", copies)) if copies else None
    row["bound"] = bound(network, layers, machine, crossbars) / 1000
    row["over bound"] = row["pipelined"] / row["bound"]
    row["chosen"] = pipelined.chosen
    row["kB"] = len(pipelined.text) / 1000
    row["compile s"] = time.perf_counter() - start
    return row


def recorded(network: Network, machine: Hardware) -> dict[str, Any]:
    """PIMCOMP's own vector, and what the rules do with as many crossbars."""
    hardware = machine.replace(resources={"crossbars": None})
    text = network.layers_json()
    names = [node.name for node in network.crossbar_nodes()]
    program = compile_layers(text, hardware, "stationary", dict(zip(names, RECORDED, strict=True)))
    overlapping = compile_layers(text, hardware, "pipelined", dict(zip(names, RECORDED, strict=True)))
    row = measure(network, machine, program.simulated.crossbars)
    row["pimcomp"], row["pimcomp pipelined"] = milliseconds(program), milliseconds(overlapping)
    row["crossbars"] = f"{program.simulated.crossbars} (recorded)"
    return row


def main() -> None:
    options = _common.parser(__doc__ or "")
    options.add_argument("--policy", default="published", help="published, or W and A of the inner layers: W4A4")
    chosen = options.parse_args()
    network = resnet18(bits_of(chosen.policy))
    machine = Hardware.preset("paper")
    rows = [measure(network, machine, crossbars) for crossbars in CROSSBARS]
    rows.append(recorded(network, machine))
    _common.show(rows, chosen.json)


if __name__ == "__main__":
    main()
