"""Milliseconds that the cost of one more policy takes, for searches with `pipeline="stationary"` or "pipelined":
ResNet-18 at 224 x 224, random bits, by the number of crossbars. "full" compiles and simulates the same policies, which
must cost the same. Medians of processor time; the first policy, which fills what is kept, is shown apart.

    python benchmarks/compiler/policy_costs.py --policies 200
"""

from __future__ import annotations

import random
import statistics
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import _common
from _resnet18 import Bits, resnet18

from cimq import _C, Hardware

CROSSBARS = (1, 64, 1024, 4096)
WAYS = (("stationary", "none"), ("stationary", "greedy"), ("stationary", "latency"), ("pipelined", "any"))
LAYERS = 21


def policies(count: int) -> list[Bits]:
    """The first and the last layer have 8 bits."""
    numbers = random.Random(0)
    inner = [[(numbers.randint(2, 8), numbers.randint(2, 8)) for _ in range(LAYERS - 2)] for _ in range(count)]
    return [[(8, 8), *bits, (8, 8)] for bits in inner]


def timed(cost: Any, some: list[Bits]) -> tuple[list[Any], list[float]]:
    """Costs, and milliseconds of each."""
    found, seconds = [], []
    for policy in some:
        start = time.process_time()
        found.append(cost(policy))
        seconds.append(1000 * (time.process_time() - start))
    return found, seconds


def main() -> None:
    options = _common.parser(__doc__ or "")
    options.add_argument("--policies", type=int, default=200, help="policies after the first")
    options.add_argument("--full", type=int, default=3, help="of them compiled and simulated")
    chosen = options.parse_args()
    some = policies(chosen.policies + 1)
    text = resnet18(some[0]).layers_json()
    rows = []
    for crossbars in CROSSBARS:
        machine = Hardware.preset("paper").replace(resources={"crossbars": crossbars})
        for pipeline, rule in WAYS:
            programs = _C.PipelineCost(text, machine.to_json(), pipeline, rule)
            found, taken = timed(programs.cost, some)
            full, compiling = timed(programs.simulated, some[1 : chosen.full + 1])
            assert full == found[1 : chosen.full + 1], "the costs differ from those of compiled programs"
            one, whole = statistics.median(taken[1:]), statistics.median(compiling)
            rows.append({
                "crossbars": crossbars, "pipeline": pipeline, "copies": rule, "first ms": taken[0], "ms": one,
                "slowest ms": max(taken[1:]), "full ms": whole, "times as fast": whole / one,
            })  # fmt: skip
    _common.show(rows, chosen.json)


if __name__ == "__main__":
    main()
