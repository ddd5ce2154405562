"""The worker: answers requests about cases, one JSON object per line (see _worker.py).

{"do": "list"}                       names, operators, bytes and operations of all cases; operators without one
{"do": "peaks"}                      what copies and plain products reach
{"do": "time", "case": NAME}         checks the case against the CPU, then times it
{"do": "digest", "case": NAME}       SHA-256 of its results
{"do": "claimed"}                    the crossbar product of the claims beside the loop and the plain product
{"do": "step", "compiled": BOOL}     a training step of ResNet-18 beside the fp32 one
{"do": "quit"}
"""

from __future__ import annotations

import argparse
import json
import sys
import traceback
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "ops"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parents[0]))
import _training_step
import cuda_static
from _cases import Case, bytes_of, differences, digest, moved
from _claimed import claimed_product
from _registry import CASES, operators_without_case
from _timing import Timer, clocks, measured_peaks, peaks_dict, timer_for
from _worker import MARK

REPEATS = 3  # runs of one process whose results must be the same


class Measurements:
    """What the worker does on one device.

    Args:
        device: Of torch.
        timer: For the calls.
        small: Small sizes: to try this program.
    """

    def __init__(self, device: torch.device, timer: Timer, *, small: bool = False) -> None:
        self.device, self.timer, self.small = device, timer, small

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """The values that were asked for; {"no_kernel": reason} where the device has no kernel for the operator."""
        actions: dict[str, Callable[..., dict[str, Any]]] = {
            "list": self.list,
            "peaks": lambda: peaks_dict(measured_peaks(self.timer, self.device, small=self.small)),
            "time": self.time,
            "digest": self.digest,
            "claimed": lambda: claimed_product(self.timer, self.device, small=self.small),
            "step": self.step,
        }
        given = dict(request)
        action = given.pop("do")
        try:
            return actions[action](**given)
        except NotImplementedError as error:
            if action == "list":
                raise
            return {"no_kernel": str(error).splitlines()[0]}

    def list(self) -> dict[str, Any]:
        rows = []
        for case in CASES.values():
            operands = case.make(self.small)
            rows.append(
                {
                    "case": case.name,
                    "operator": case.operator,
                    "kernels": [kernel for kernel in case.kernels if kernel in cuda_static.LAUNCHES],
                    "shape": operands.shape,
                    "bytes": bytes_of(case, operands),
                    "operations": operands.operations,
                }
            )
        return {"cases": rows, "without_case": operators_without_case()}

    def time(self, case: str) -> dict[str, Any]:
        chosen = CASES[case]
        faults = differences(chosen, chosen.make(True), self.device)
        operands = chosen.make(self.small)
        if not faults and not self.small:
            faults = differences(chosen, operands, self.device)
        if faults:
            return {"faults": faults}
        arguments = moved(operands.arguments, self.device)
        timing = self.timer(lambda: chosen.call(arguments))
        return {"faults": [], **asdict(timing), "clocks": self._clocks()}

    def digest(self, case: str) -> dict[str, Any]:
        chosen: Case = CASES[case]
        arguments = moved(chosen.make(self.small).arguments, self.device)
        found = {digest(chosen.call(arguments)) for _ in range(REPEATS)}
        if len(found) > 1:
            return {"faults": [f"{len(found)} different results in {REPEATS} runs of one process"]}
        return {"faults": [], "digest": found.pop()}

    def step(self, compiled: bool) -> dict[str, Any]:
        return _training_step.measured(self.device, compiled=compiled, small=self.small)

    def _clocks(self) -> str:
        return clocks() if self.device.type == "cuda" else ""


def run_once(device: torch.device) -> int:
    """Every case once at its small size, against the CPU: what compute-sanitizer looks at. The number of wrong ones."""
    wrong = 0
    for case in CASES.values():
        try:
            faults = differences(case, case.make(True), device)
        except NotImplementedError as error:
            print(f"{case.name}: no kernel: {str(error).splitlines()[0]}")
            continue
        except Exception as error:
            faults = [f"{type(error).__name__}: {error}"]
        wrong += bool(faults)
        print(f"{case.name}: {'; '.join(faults) or 'as on the CPU'}", flush=True)
    return wrong


def is_lost(device: torch.device) -> bool:
    """Whether the device refuses every further call of this process."""
    try:
        torch.ones(1, device=device).cpu()
    except RuntimeError:
        return True
    return False


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--small", action="store_true", help="small sizes: to try this program")
    parser.add_argument("--once", action="store_true", help="no requests: every case once, small, against the CPU")
    chosen = parser.parse_args()
    device = torch.device(chosen.device)
    if chosen.once:
        with torch.no_grad():
            raise SystemExit(1 if run_once(device) else 0)
    measurements = Measurements(device, timer_for(device), small=chosen.small)
    with torch.no_grad():
        for line in sys.stdin:
            request = json.loads(line)
            if request["do"] == "quit":
                return
            try:
                answer = measurements.answer(request)
            except Exception as error:
                traceback.print_exc()
                answer = {"faults": [f"{type(error).__name__}: {str(error)[:500]}"], "lost": is_lost(device)}
            print(MARK + json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
