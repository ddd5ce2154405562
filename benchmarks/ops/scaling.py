"""Time of crossbar_mvm against batch, rows (inputs), weight slices and threads, as numbers and as a figure.

python benchmarks/ops/scaling.py [--json] [--figure docs/images/scaling.png]

A lossy 8-bit converter, 128-row arrays, 8-bit operands; where nothing else is said 256x512x512 with 2-bit cells on one
thread. `per_unit` is the time divided by what is varied: it stays level where time is linear. For threads it is the
time multiplied by their number. Every curve is taken within one run, its points in turn.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from _common import interleaved_seconds, parser, show

from cimq import Hardware
from cimq.ops import crossbar_mvm

LOSSY = Hardware.preset("paper").replace(rows=128, cell_bits=2, adc={"bits": 8})


def product(batch: int = 256, inputs: int = 512, cell_bits: int = 2, threads: int = 1) -> Callable[[], object]:
    x = torch.randint(0, 256, (batch, inputs), dtype=torch.uint8)
    w = torch.randint(-127, 128, (512, inputs), dtype=torch.int8)
    hardware = LOSSY.replace(cell_bits=cell_bits)

    def run() -> object:
        if torch.get_num_threads() != threads:
            torch.set_num_threads(threads)
        return crossbar_mvm(x, w, hardware, weight_bits=8, act_bits=8)

    return run


def curves() -> dict[str, dict[int, Callable[[], object]]]:
    return {
        "batch": {batch: product(batch=batch) for batch in (64, 128, 256, 512, 1024)},
        "rows": {inputs: product(inputs=inputs) for inputs in (128, 256, 512, 1024, 2048)},
        "slices": {8 // bits: product(cell_bits=bits) for bits in (4, 2, 1)},
        "threads": {count: product(batch=512, threads=count) for count in range(1, (os.cpu_count() or 1) + 1)},
    }


def measure() -> list[dict[str, Any]]:
    rows = []
    for varied, points in curves().items():
        times = interleaved_seconds(list(points.values()))
        for value, seconds in zip(points, times, strict=True):
            units = 1 / value if varied == "threads" else value
            rows.append({"varied": varied, "value": value, "ms": seconds * 1e3, "us_per_unit": seconds * 1e6 / units})
    return rows


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    """Measured points, and the straight line through the last one (for threads: ideal scaling from the first)."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, 4, figsize=(13, 3.2), layout="constrained")
    for axis, varied in zip(axes, ("batch", "rows", "slices", "threads"), strict=True):
        points = [row for row in rows if row["varied"] == varied]
        values = [row["value"] for row in points]
        times = [row["ms"] for row in points]
        ideal = [times[0] * values[0] / v if varied == "threads" else times[-1] * v / values[-1] for v in values]
        axis.plot(values, ideal, color="0.7", linewidth=1, label="1 / threads" if varied == "threads" else "linear")
        axis.plot(values, times, "o-", label="measured")
        axis.set_xlabel(varied)
        axis.set_xticks(values)
        axis.tick_params(axis="x", labelrotation=45 if varied in ("batch", "rows") else 0)
        axis.set_ylim(bottom=0)
        axis.set_title({"batch": "batch", "rows": "inputs", "slices": "weight slices", "threads": "threads"}[varied])
        axis.legend()
    axes[0].set_ylabel("time of a call in ms")
    figure.savefig(path, dpi=110)


def main() -> None:
    options = parser(__doc__ or "")
    options.add_argument("--figure", type=Path, default=None, help="write a PNG")
    chosen = options.parse_args()
    rows = measure()
    torch.set_num_threads(1)
    show(rows, chosen.json)
    if chosen.figure is not None:
        draw(rows, chosen.figure)


if __name__ == "__main__":
    main()
