"""Building the extension for the chip at hand, or using one that came with the tree."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import cuda_static
from _commands import Ran, run_command
from _record import ABSENT, DONE, FAILED, OUT_OF_TIME, ROOT, Outcome
from _stages import Part

PROBE = """
import json
from cimq.build_report import build_info
print("BUILT " + json.dumps(build_info()))
"""


@dataclass(frozen=True)
class Chip:
    """The device at hand."""

    name: str
    major: int
    minor: int

    @property
    def architecture(self) -> str:
        return f"sm_{self.major}{self.minor}"

    @property
    def capability(self) -> str:
        return f"{self.major}.{self.minor}"


def package_environment() -> dict[str, str]:
    """The package of this tree comes before one that is installed."""
    return {"PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))}


def missing_for_build() -> list[str]:
    """What a build of the extension with CUDA needs and does not find; sentences."""
    import torch

    missing = [f"{tool}: {why}" for tool, why in TOOLS.items() if shutil.which(tool) is None]
    if shutil.which(os.environ.get("CXX", "c++")) is None:
        missing.append("a C++20 compiler: set CXX, or put c++ on PATH")
    for module, package in PACKAGES.items():
        if importlib.util.find_spec(module) is None:
            missing.append(f"{package}: a Python package; unpacked in a folder of PYTHONPATH does as well")
    if torch.version.cuda is None:
        missing.append(f"a CUDA build of torch: {torch.__version__} is none")
    return missing


TOOLS = {"nvcc": "of the CUDA toolkit, on PATH", "cmake": "3.22 or later"}
PACKAGES = {"nlohmann_json": "nlohmann-json==3.12.0", "pybind11": "pybind11"}


def catch2_include() -> str | None:
    """The folder with Catch2's headers: $CATCH2_INCLUDE, or where `make test` puts them."""
    found = os.environ.get("CATCH2_INCLUDE", str(ROOT / "build/catch2/catch2/install/include"))
    return found if (Path(found) / "catch2" / "catch.hpp").exists() else None


class Build:
    """The stage `build`.

    Args:
        chip: Code is made for this one alone.
        mode: "auto": build where everything for it is here, else use what came with the tree; "always"; "never".
        folder: For the products of the build and for logs.
    """

    def __init__(self, chip: Chip, mode: str, folder: Path) -> None:
        self.chip, self.mode, self.folder = chip, mode, folder
        self.build_folder = folder / f"build-{chip.architecture}"

    def parts(self) -> Iterator[Part]:
        yield Part("extension", self._build, least=60)
        yield Part("load", self._load)
        yield Part("C++ tests", self._build_tests, least=60)

    def _build(self, limit: float) -> Outcome:
        missing = missing_for_build()
        if self.mode == "never" or (missing and self.mode == "auto"):
            return self._without(missing)
        if missing:
            return Outcome(FAILED, "cannot build, missing are " + "; ".join(missing))
        commands = [self._configure(), self._make("cimq_package")]
        # Kernels are compiled again in any case: what nvcc says of their registers it says only then.
        shutil.rmtree(self.build_folder / "csrc/CMakeFiles/cimq_kernels_cuda.dir/kernels", ignore_errors=True)
        return compiled(commands, limit, self.folder / "build.log", [self.chip.architecture], self._objects())

    def _build_tests(self, limit: float) -> Outcome:
        """After the extension: the times must not wait for it."""
        if not (self.build_folder / "CMakeCache.txt").exists() or catch2_include() is None:
            return Outcome(ABSENT, "they need Catch2 ($CATCH2_INCLUDE) and an extension that was built here")
        ran = run_command(self._make("all"), limit, self.folder / "build-tests.log", cwd=ROOT)
        if ran.status is None:
            return Outcome(OUT_OF_TIME, f"ended after {limit:.0f} s; --resume goes on")
        return Outcome(DONE) if ran.status == 0 else Outcome(FAILED, f"status {ran.status}:\n{ran.tail}")

    def _make(self, target: str) -> list[str]:
        jobs = str(usable_cores())
        return ["cmake", "--build", str(self.build_folder), "--target", target, "--parallel", jobs]

    def _objects(self) -> Path:
        return self.build_folder / "csrc/CMakeFiles/cimq_kernels_cuda.dir"

    def _configure(self) -> list[str]:
        catch2 = catch2_include()
        options = {
            "CMAKE_BUILD_TYPE": "Release",
            "Python_EXECUTABLE": sys.executable,
            "CIMQ_CUDA": "on",
            "CIMQ_BENCHMARKS": "ON",
            "CIMQ_PACKAGE_DIR": str(ROOT / "cimq"),
            "CMAKE_CUDA_ARCHITECTURES": f"{self.chip.major}{self.chip.minor}-real",
            "CMAKE_CUDA_FLAGS": "-Xptxas=-v",
            "CIMQ_TESTS": "ON" if catch2 else "OFF",
        }
        if catch2:
            options["CIMQ_CATCH2_INCLUDE"] = catch2
        generator = ["-G", "Ninja"] if shutil.which("ninja") else []
        return ["cmake", "-S", str(ROOT), "-B", str(self.build_folder), *generator,
                *(f"-D{key}={value}" for key, value in options.items())]  # fmt: skip

    def _without(self, missing: list[str]) -> Outcome:
        modules = sorted((ROOT / "cimq").glob("_C.*.so"))
        why = "asked for" if self.mode == "never" else "cannot build, missing are " + "; ".join(missing)
        if not modules:
            return Outcome(ABSENT, f"{why}; and the tree has no extension (cimq/_C.*.so, cimq/_build_record.json)")
        digests = {path.name: hashlib.sha256(path.read_bytes()).hexdigest()[:12] for path in modules}
        return Outcome(DONE, f"not built ({why}): the extension that came with the tree", {"prebuilt": digests})

    def _load(self, limit: float) -> Outcome:
        """Whether the extension loads here and has code for the chip."""
        ran = run_command([sys.executable, "-c", PROBE], limit, self.folder / "load.log", cwd=ROOT,
                          env=package_environment())  # fmt: skip
        match = re.search(r"^BUILT (\{.*)$", ran.output, re.MULTILINE)
        if ran.status != 0 or match is None:
            return Outcome(FAILED, f"the extension does not load:\n{ran.tail}")
        built = json.loads(match[1])
        fault = unfit(built, self.chip)
        return Outcome(FAILED, fault, built) if fault else Outcome(DONE, built["cuda"], built)


def unfit(built: dict[str, object], chip: Chip) -> str:
    """Why an extension does not run on a chip; empty where it does. `built`: cimq.build_report.build_info()."""
    summary = str(built["cuda"])
    if not summary.startswith("on"):
        return f"the extension has no CUDA code: {summary}"
    if not built["cuda_available"]:
        return "torch finds no CUDA device"
    listed = re.search(r"architectures ([^)]*)", summary)
    names = re.findall(r"(\d+)(-real|-virtual)?", listed[1] if listed else "")
    number = chip.major * 10 + chip.minor
    # Code of a chip runs on later ones of the same major number; PTX on all later ones.
    for digits, kind in names:
        major, minor = divmod(int(digits), 10)
        if (kind != "-real" and int(digits) <= number) or (
            kind != "-virtual" and major == chip.major and minor <= chip.minor
        ):
            return ""
    return f"the extension has no code for {chip.architecture}: {summary}"


def usable_cores() -> int:
    chosen = os.environ.get("MAX_JOBS")
    if chosen:
        return int(chosen)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)


def compiled(
    commands: list[list[str]],
    limit: float,
    log: Path,
    architectures: list[str],
    objects: Path,
    tools: Path | None = None,
    run: Callable[..., Ran] = run_command,
) -> Outcome:
    """Runs a build and reads from its output what nvcc made of the kernels."""
    end = time.monotonic() + limit
    output = ""
    for index, command in enumerate(commands):
        left = end - time.monotonic()
        ran = run(command, left, log.with_suffix(f".{index}.log"), cwd=ROOT)
        if ran.status is None:
            return Outcome(OUT_OF_TIME, f"{' '.join(command[:2])} was ended after {left:.0f} s; --resume goes on")
        if ran.status != 0:
            return Outcome(FAILED, f"{' '.join(command[:2])} failed with status {ran.status}:\n{ran.tail}")
        output += ran.output
    return kernels_outcome(output, architectures, objects, tools)


def kernels_outcome(log: str, architectures: list[str], objects: Path | None, tools: Path | None = None) -> Outcome:
    """Registers, memory and instructions of every kernel, from nvcc's output; failed where one spills or is missing."""
    note = ""
    try:
        rows = cuda_static.rows_of(log)
    except SystemExit as error:  # a kernel that cuda_static does not know
        return Outcome(FAILED, str(error))
    try:
        rows = cuda_static.with_instructions(rows, tools, objects)
    except (subprocess.CalledProcessError, KeyError) as error:
        note = f"; instructions were not counted: cuobjdump: {error}"
    rows = [row for row in rows if row.architecture in architectures]
    faults = cuda_static.faults_of(rows, architectures)
    values = {"kernels": [asdict(row) for row in rows]}
    if faults:
        return Outcome(FAILED, "; ".join(faults) + note, values)
    return Outcome(DONE, "no main kernel spills" + note, values)
