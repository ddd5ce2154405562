"""Builds, tests, checks and times everything on a GPU in one go, and writes one table. Without a GPU: the static table.

    python benchmarks/cuda/run.py                          # --out benchmarks/results/cuda-CHIP.md, and .json beside it
    python benchmarks/cuda/run.py --stages build,test,time --time-budget 9m
    python benchmarks/cuda/run.py --resume --time-budget 9m        # goes on where the last one ended

Stages: build (the extension for this chip, or the one that came with the tree), test, determinism, time, sanitize
(compute-sanitizer), amx (the host's processor), static (what nvcc makes of the kernels, data sheets). Each part is
written down when it ends; what is missing or did not fit into the time is named in the table. Where no GPU is found,
the stages are static and amx. The device's settings are left as they are.

The build needs nvcc, cmake, a C++20 compiler, and the Python packages nlohmann-json and pybind11; the C++ tests
Catch2 ($CATCH2_INCLUDE). Where one of them is not there, an extension that was built elsewhere for the same torch and
Python is used (cimq/_C.*.so, cimq/_build_record.json). Exits with 1 where a part failed.
"""

from __future__ import annotations

import argparse
import platform
import re
import shlex
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "ops"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parents[0]))
import _static
import _table
from _amx import Amx, found_amx_claims
from _budget import Budget, seconds_of
from _build import Build, Chip, package_environment
from _checks import Determinism, Sanitizer, Suites, measure_command
from _claims import AMX_CLAIMS
from _record import ROOT, Record, sources_digest
from _stages import Stage, run_stages
from _times import Times, found_claims
from _timing import clocks, read_driver
from _worker import Worker, WorkerError

ON_A_GPU = ("build", "test", "determinism", "time", "sanitize", "amx")
WITHOUT = ("static", "amx")
WEIGHTS = {"build": 9, "test": 5, "determinism": 3, "time": 7, "sanitize": 5, "amx": 1, "static": 12}


def arguments(given: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="the table (default: benchmarks/results/cuda-CHIP.md); JSON beside it")
    parser.add_argument("--stages", help=f"names with commas, in this order (default: {','.join(ON_A_GPU)})")
    parser.add_argument("--time-budget", help="such as 25m: what does not fit is left out, and said")
    parser.add_argument("--resume", action="store_true", help="keep what --out has as done")
    parser.add_argument("--build", choices=["auto", "always", "never"], default="auto")
    parser.add_argument("--log", type=Path, help="static: nvcc's output of `make cuda-kernels`, in place of a build")
    parser.add_argument("--objects", type=Path, help="static: the object files of that build")
    parser.add_argument("--tools", type=Path, help="static: folder of cuobjdump and nvdisasm")
    parser.add_argument("--device", help="measure another device of torch, small sizes: to try this program")
    chosen = parser.parse_args(given)
    try:
        chosen.budget = None if chosen.time_budget is None else seconds_of(chosen.time_budget)
    except ValueError as error:
        parser.error(f"--time-budget: {error}")
    for name in (chosen.stages or "").split(",") if chosen.stages else []:
        if name not in WEIGHTS:
            parser.error(f"--stages must be of {', '.join(WEIGHTS)}, got {name!r}")
    for path in (chosen.log, chosen.objects, chosen.tools):
        if path is not None and not path.exists():
            parser.error(f"there is no {path}")
    return chosen


def chip_at_hand() -> Chip | None:
    import torch

    if not torch.cuda.is_available():
        return None
    properties = torch.cuda.get_device_properties(0)
    return Chip(properties.name, properties.major, properties.minor)


def environment_of(chip: Chip | None) -> dict[str, Any]:
    """What the numbers belong to; a run is resumed with the same alone."""
    import torch

    found: dict[str, Any] = {"sources": sources_digest()}
    if chip is not None:
        found |= {"chip": chip.name, "architecture": chip.architecture, "CUDA": torch.version.cuda}
        found["driver"] = read_driver("driver_version")
    return found | {
        "torch": torch.__version__,
        "python": platform.python_version(),
        "processor": _processor(),
    }


def _processor() -> str:
    from _common import _processor as processor

    return processor()


class Run:
    """One run: its stages, and the page that they fill."""

    def __init__(self, chosen: argparse.Namespace, chip: Chip | None) -> None:
        self.chip = chip
        self.chosen = chosen
        slug = re.sub(r"[^a-z0-9]+", "-", (chip.name if chip else "static").lower()).strip("-")
        self.out: Path = chosen.out or ROOT / "benchmarks" / "results" / f"cuda-{slug.removeprefix('nvidia-')}.md"
        self.folder = ROOT / "build" / "benchmarks-cuda"
        command = "python benchmarks/cuda/run.py " + shlex.join(sys.argv[1:])
        self.record = Record(self.out.with_suffix(".json"), environment_of(chip), command.strip(), resume=chosen.resume)
        self.device = chosen.device or ("cuda" if chip else "cpu")
        self.size = ["--small"] if chosen.device else []
        self.listed: dict[str, Any] = {}

    def worker(self, name: str) -> Worker:
        command = measure_command(self.device, *self.size)
        return Worker(command, self.folder / f"{name}.log", ROOT, package_environment())

    def list_cases(self, limit: float) -> dict[str, Any]:
        """The cases, which a worker without the device knows: shapes need none."""
        if not self.listed:
            worker = Worker(measure_command("cpu", *self.size), self.folder / "list.log", ROOT, package_environment())
            try:
                self.listed = worker.ask({"do": "list"}, limit)
            finally:
                worker.end()
        return self.listed

    def names(self) -> list[str]:
        return [case["case"] for case in self.list_cases(300)["cases"]]

    def tell(self, text: str) -> None:
        """After every part: a run that is killed leaves its page."""
        print(f"run.py: {text}", flush=True)
        self.write()

    def stages(self) -> list[Stage]:
        chosen = self.chosen
        names = chosen.stages.split(",") if chosen.stages else list(ON_A_GPU if self.chip else WITHOUT)
        return [self._stage(name) for name in names]

    def _stage(self, name: str) -> Stage:
        weight, chosen = WEIGHTS[name], self.chosen
        if name == "static":
            static = _static.Static(self.folder, self.list_cases, chosen.log, chosen.objects, chosen.tools)
            return Stage(name, weight, static.parts)
        if name == "amx":
            return Stage(name, weight, Amx(self.folder).parts)
        if name == "determinism":
            determinism = Determinism(self.names, self.worker)
            return Stage(name, weight, determinism.parts, determinism.end)
        if name == "time":
            times = Times(self.names, self.worker)
            return Stage(name, weight, times.parts, times.end)
        if self.chip is None:
            raise SystemExit(f"--stages: {name} needs a GPU, and torch finds none")
        build = Build(self.chip, self.chosen.build, self.folder)
        if name == "build":
            return Stage(name, weight, build.parts)
        if name == "test":
            return Stage(name, weight, Suites(self.folder, build.build_folder).parts)
        return Stage(name, weight, Sanitizer(self.folder).parts)

    def write(self, *, last: bool = False) -> None:
        """The page of what was found so far; at the end with all cases, also where no stage asked for them."""
        if last:
            try:
                self.list_cases(300)
            except WorkerError as error:
                print(f"run.py: no list of cases: {error}", file=sys.stderr)
        listed = self.listed
        claims = dict(_table.claims_of(self.record))
        found: dict[str, float] = {}
        why: dict[str, str] = {}
        if claims and listed:
            found, why = found_claims(self.record, {case["case"]: case for case in listed["cases"]})
        if self.record.parts("amx"):
            claims |= AMX_CLAIMS
            amx_found, amx_why = found_amx_claims(self.record)
            found, why = found | amx_found, why | amx_why
        title = f"CUDA kernels on {self.chip.name}" if self.chip else "CUDA kernels without a GPU"
        text = _table.page(self.record, title, listed, claims, found, why)
        self.out.write_text(text, encoding="utf-8")


def main(given: list[str] | None = None) -> None:
    chosen = arguments(given)
    run = Run(chosen, chip_at_hand())
    stages = run.stages()
    if run.chip:
        print(f"run.py: {run.chip.name}, clocks before: {clocks()}")
    try:
        run_stages(stages, run.record, Budget(chosen.budget), run.tell)
    finally:
        run.write(last=True)
    print(f"run.py: wrote {run.out} and {run.record.path}")
    if run.record.faults:
        raise SystemExit("run.py: failed: " + "; ".join(run.record.faults))


if __name__ == "__main__":
    main()
