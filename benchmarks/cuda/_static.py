"""The stage `static`, which needs no GPU: what nvcc makes of the kernels, and the least time of every case by the
numbers of data sheets."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cuda_static
from _build import compiled, kernels_outcome, usable_cores
from _record import ABSENT, DONE, ROOT, Outcome
from _stages import Part
from _worker import WorkerError

STAGE = "static"
KERNELS, FLOORS = "kernels", "floors"


@dataclass(frozen=True)
class Sheet:
    """Peak rates of one chip of an architecture, by NVIDIA's data sheet: dense, without sparsity."""

    chip: str
    bytes_per_s: float
    int8: float  # operations per second of the tensor cores
    float32: float  # with contracted products and sums
    float64: float  # the same, without tensor cores

    def rates(self) -> dict[str, float]:
        """cimq contracts no product and sum of floats: half of the rate."""
        return {"int8": self.int8, "float32": self.float32 / 2, "float64": self.float64 / 2}


SHEETS = {
    "sm_80": Sheet("A100 SXM, 40 GB", 1.555e12, 624e12, 19.5e12, 9.7e12),
    "sm_86": Sheet("A40", 0.696e12, 299.3e12, 37.4e12, 0.585e12),
    "sm_89": Sheet("L40S", 0.864e12, 733e12, 91.6e12, 1.43e12),
    "sm_90": Sheet("H100 SXM", 3.35e12, 1979e12, 67e12, 34e12),
    "sm_120": Sheet("RTX 5090", 1.792e12, 838e12, 104.8e12, 1.64e12),
}


class Static:
    """The stage.

    Args:
        folder: For the build and its log.
        listed: The worker's list of cases; asked for when the stage begins.
        log: nvcc's output of a build that was made before (make cuda-kernels), in place of a build.
        objects: The folder of its object files.
        tools: The folder of cuobjdump and nvdisasm; None: this Python's packages or PATH.
    """

    def __init__(
        self,
        folder: Path,
        listed: Callable[[float], dict[str, Any]],
        log: Path | None = None,
        objects: Path | None = None,
        tools: Path | None = None,
    ) -> None:
        self.folder, self._listed = folder, listed
        self.log, self.objects, self.tools = log, objects, tools

    def parts(self) -> Iterator[Part]:
        yield Part(KERNELS, self._kernels, least=60 if self.log is None else 1)
        yield Part(FLOORS, self._floors)

    def _kernels(self, limit: float) -> Outcome:
        architectures = list(cuda_static.CHIPS)
        if self.log is not None:
            return kernels_outcome(self.log.read_text(), architectures, self.objects, self.tools)
        if shutil.which("nvcc") is None or shutil.which("cmake") is None:
            return Outcome(ABSENT, "needs nvcc (CUDA toolkit 13) and cmake on PATH, or --log and --objects of a build")
        build = self.folder / "kernels"
        objects = build / "csrc/CMakeFiles/cimq_kernels_cuda.dir"
        shutil.rmtree(objects / "kernels", ignore_errors=True)  # nvcc prints only of what it compiles
        options = {
            "CMAKE_BUILD_TYPE": "Release",
            "Python_EXECUTABLE": sys.executable,
            "CMAKE_CUDA_FLAGS": "-Xptxas=-v",
            "CIMQ_TORCH": "OFF",
            "CIMQ_CUDA": "on",
        }
        generator = ["-G", "Ninja"] if shutil.which("ninja") else []
        configure = ["cmake", "-S", str(ROOT), "-B", str(build), *generator]
        configure += [f"-D{key}={value}" for key, value in options.items()]
        make = ["cmake", "--build", str(build), "--target", "cimq_kernels_cuda", "--parallel", str(usable_cores())]
        return compiled([configure, make], limit, self.folder / "kernels.log", architectures, objects, self.tools)

    def _floors(self, limit: float) -> Outcome:
        try:
            listed = self._listed(limit)
        except WorkerError as error:
            return Outcome(ABSENT, f"the operators' shapes need a built cimq: {error}")
        unnamed = kernels_without_case(listed["cases"])
        note = f"kernels that no case names: {', '.join(unnamed)}" if unnamed else ""
        return Outcome(DONE, note, listed)


def kernels_without_case(cases: list[dict[str, Any]]) -> list[str]:
    """Kernels that are built and that no case says it runs."""
    named = {kernel for case in cases for kernel in case["kernels"]}
    return [name for name in cuda_static.LAUNCHES if name not in named]
