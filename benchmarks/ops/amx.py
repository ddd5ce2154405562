"""Crossbar products on matrix tiles (AMX) beside tables of sums, torch's float32 matmul and the peak of the tiles.

python benchmarks/ops/amx.py [--json]     # --isa avx512 --against avx2 compares other instruction sets

256 x 512 x 512, 8-bit activations and weights, 2-bit cells, 128 rows, a converter of 8 bits that loses bits, one
thread; the same with noisy cells. An instruction set belongs to a process, so that each has one; they take turns within
one run, and results are compared first, with each other and with plain loops. `share_of_peak`: multiply-adds as the
hardware does them per second, over those of the tile instruction on registers alone in the same process. A processor
without AMX says so, and nothing is measured.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import time
from argparse import RawDescriptionHelpFormatter
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from _common import environment, parser

BATCH, INPUTS, OUTPUTS, ROWS, CELL_BITS = 256, 512, 512, 128, 2
DIGITS, SLICES = 8, 4
ROUNDS = 25
NOISE = {"programming": {"model": "gaussian", "sigma_levels": 0.1}}


def functions(batch: int) -> tuple[dict[str, Callable[[], object]], str]:
    """What this process times, by name, and a digest of the results."""
    import torch
    from _int8_peak import Int8Peak

    from cimq import Hardware
    from cimq.ops import crossbar_mvm

    torch.set_num_threads(1)
    plain = Hardware.preset("paper").replace(rows=ROWS, cell_bits=CELL_BITS, adc={"bits": 8})
    noisy = plain.replace(cell=NOISE)
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(0, 256, (batch, INPUTS), generator=generator, dtype=torch.uint8)
    w = torch.randint(-127, 128, (OUTPUTS, INPUTS), generator=generator, dtype=torch.int8)
    xf, wf = x.float(), w.float().T.contiguous()
    found = hashlib.sha256()
    for hardware in (plain, noisy):
        y = crossbar_mvm(x, w, hardware, weight_bits=8, act_bits=8)
        expected = crossbar_mvm(x[:4], w, hardware, weight_bits=8, act_bits=8, backend="reference_cpp")
        if not torch.equal(y[:4], expected.to(y.dtype)):
            raise SystemExit(f"amx.py: the product is not that of the plain loops on {os.environ['CIMQ_CPU_ISA']}")
        found.update(y.numpy().tobytes())
    return {
        "product": lambda: crossbar_mvm(x, w, plain, weight_bits=8, act_bits=8),
        "noisy": lambda: crossbar_mvm(x, w, noisy, weight_bits=8, act_bits=8),
        "matmul": lambda: xf @ wf,
        "peak": Int8Peak(1),
    }, found.hexdigest()


def work(batch: int) -> None:
    """The process of one instruction set: a line in, the seconds of one call of each function out."""
    timed, digest = functions(batch)
    for function in timed.values():
        function()
    peak = timed["peak"]
    print(json.dumps({"digest": digest, "peak_products": peak.rate(1.0)}), flush=True)  # type: ignore[attr-defined]
    for _ in sys.stdin:
        seconds = {}
        for name, function in timed.items():
            start = time.perf_counter()
            function()
            seconds[name] = time.perf_counter() - start
        print(json.dumps(seconds), flush=True)


class Process:
    """A process of this program with one instruction set."""

    def __init__(self, isa: str, batch: int) -> None:
        self._process = subprocess.Popen(
            [sys.executable, __file__, "--worker", "--batch", str(batch)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env={**os.environ, "CIMQ_CPU_ISA": isa, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"},
        )  # fmt: skip
        self.isa = isa
        self.first = self._read()

    def turn(self) -> dict[str, float]:
        assert self._process.stdin is not None
        self._process.stdin.write("turn\n")
        self._process.stdin.flush()
        return self._read()

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"amx.py: the process of {self.isa} ended with status {self._process.wait()}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def end(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


def compared(isa: str, against: str, *, batch: int = BATCH, rounds: int = ROUNDS) -> dict[str, Any]:
    """Least times of both instruction sets over rounds in which they take turns, and their ratios."""
    ours, theirs = processes = [Process(isa, batch), Process(against, batch)]
    try:
        if ours.first["digest"] != theirs.first["digest"]:
            raise SystemExit(f"amx.py: {isa} and {against} give different results")
        turns = [[process.turn() for process in processes] for _ in range(rounds)]
    finally:
        for process in processes:
            process.end()
    least = [{name: min(turn[j][name] for turn in turns) for name in turns[0][j]} for j in range(2)]
    rate = batch * INPUTS * OUTPUTS * DIGITS * SLICES / least[0]["product"]
    return {
        "isa": isa,
        "against": against,
        "layer": f"{batch}x{INPUTS}x{OUTPUTS}, {CELL_BITS}-bit cells, {ROWS} rows",
        "ms": {name: 1e3 * seconds for name, seconds in least[0].items()},
        "against_ms": {name: 1e3 * seconds for name, seconds in least[1].items()},
        "over_tables": least[1]["product"] / least[0]["product"],
        "of_matmul": least[0]["product"] / least[0]["matmul"],
        "noisy_over_plain": least[0]["noisy"] / least[0]["product"],
        "share_of_peak": rate / (ours.first["peak_products"] / least[0]["peak"]),
    }


def main() -> None:
    options = parser(__doc__ or "")
    options.formatter_class = RawDescriptionHelpFormatter
    options.add_argument("--isa", default="amx", help="instruction set to measure")
    options.add_argument("--against", default="avx512", help="one that uses tables of sums")
    options.add_argument("--batch", type=int, default=BATCH)
    options.add_argument("--rounds", type=int, default=ROUNDS)
    options.add_argument("--worker", action="store_true", help="used by this program itself")
    chosen = options.parse_args()
    if chosen.worker:
        work(chosen.batch)
        return
    from cimq import _C

    here = _C.isa_available()
    absent = [isa for isa in (chosen.isa, chosen.against) if isa not in here]
    if absent:
        found: dict[str, Any] = {"absent": f"this processor has no {', '.join(absent)} (it has {', '.join(here)})"}
    else:
        found = compared(chosen.isa, chosen.against, batch=chosen.batch, rounds=chosen.rounds)
    if chosen.json:
        print(json.dumps({"environment": environment(), **found}, indent=1))
        return
    print(", ".join(f"{key} {value}" for key, value in environment().items()))
    for key, value in found.items():
        print(f"{key}: {value if not isinstance(value, float) else f'{value:.3f}'}")


if __name__ == "__main__":
    main()
