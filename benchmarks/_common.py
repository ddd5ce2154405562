"""What all benchmarks share: the machine and the versions in their output, `--json`, a table."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parents[1]))  # runnable from a checkout; an installed cimq comes first


def parser(description: str) -> argparse.ArgumentParser:
    """An argument parser with `--json` (print JSON instead of a table)."""
    made = argparse.ArgumentParser(description=description)
    made.add_argument("--json", action="store_true", help="print JSON instead of a table")
    return made


def with_threads(description: str) -> argparse.Namespace:
    """Parses `--json` and `--threads`, and sets torch's threads; for benchmarks without further options."""
    made = parser(description)
    made.add_argument("--threads", type=int, default=None, help="threads of torch (default: torch's own choice)")
    chosen = made.parse_args()
    if chosen.threads is not None:
        import torch

        torch.set_num_threads(chosen.threads)
    return chosen


def environment() -> dict[str, Any]:
    """Processor, cores, system and versions."""
    import torch

    import cimq

    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "cimq": cimq.__version__,
        "isa": list(cimq._C.isa_available()),
        "load_average": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
    }


def interleaved_seconds(
    functions: Sequence[Callable[[], object]], *, at_least: float = 0.4, rounds: int = 15
) -> list[float]:
    """Time of one call of each function: the least over rounds, in which the functions take turns.

    Taking turns lets a change of the machine's load meet all of them, so that ratios hold; the least time is the one
    that other programs disturbed least.
    """
    repeats = []
    slow = []  # such functions sit out two rounds of three
    for function in functions:
        start = time.perf_counter()
        function()
        once = max(time.perf_counter() - start, 1e-7)
        repeats.append(max(1, round(at_least / rounds / once)))
        slow.append(once > 0.1)
    samples: list[list[float]] = [[] for _ in functions]
    for turn in range(rounds):
        for function, count, sits_out, times in zip(functions, repeats, slow, samples, strict=True):
            if sits_out and turn % 3:
                continue
            start = time.perf_counter()
            for _ in range(count):
                function()
            times.append((time.perf_counter() - start) / count)
    return [min(times) for times in samples]


def show(rows: list[dict[str, Any]], as_json: bool) -> None:
    """Prints the rows, with the environment, as JSON or as a table."""
    if as_json:
        print(json.dumps({"environment": environment(), "rows": rows}, indent=1))
        return
    from cimq.text_table import aligned_table

    print(", ".join(f"{key} {value}" for key, value in environment().items()))
    head = list(dict.fromkeys(key for row in rows for key in row))
    print(aligned_table([head, *([_text(row.get(key)) for key in head] for row in rows)]))


def _text(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())
