"""What nvcc made of the CUDA kernels: registers, shared memory, spills, matrix instructions, occupancy. Needs no GPU.

    make cuda-kernels                      # builds the kernels for every architecture, then prints the table
    python benchmarks/ops/cuda_static.py LOG --objects FOLDER [--tools FOLDER] [--json]

LOG is what nvcc printed with `-Xptxas -v`. `cuobjdump`, of `--tools`, of this Python's packages (nvidia-cuda-cuobjdump
and nvidia-cuda-nvdisasm) or on PATH, adds the counts of instructions.
Fails where a main kernel spills registers to memory, or where a kernel of `LAUNCHES` is missing from the log: the table
then is not of these sources. It says nothing of whether a kernel is right or fast on a device.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

# Of every chip: threads and blocks of a multiprocessor, its shared memory in bytes (CUDA C++ Programming Guide 13,
# "Technical Specifications per Compute Capability").
CHIPS = {
    "sm_80": (2048, 32, 164 * 1024),
    "sm_86": (1536, 16, 100 * 1024),
    "sm_89": (1536, 24, 100 * 1024),
    "sm_90": (2048, 32, 228 * 1024),
    "sm_120": (1536, 24, 100 * 1024),
}
WARP = 32
REGISTERS = 65536  # of a multiprocessor, the same on all of them
REGISTER_UNIT = 256  # a warp gets registers in units of so many
SHARED_OF_SYSTEM = 1024  # per block
SHARED_UNIT = 128
READ_KEYS = 3 * 64 * 4  # bytes of shared memory of the instances for cells with read noise


@dataclass(frozen=True)
class Launch:
    """How a kernel is launched: threads of a block, bytes of dynamic shared memory; `main` kernels must not spill."""

    threads: int
    shared_bytes: int = 0
    main: bool = True


# By the name of the function. All instances of a template are launched alike, but for the keys of read noise.
LAUNCHES = {
    "fake_quantize_forward": Launch(256),
    "fake_quantize_backward_pass": Launch(256, 64),
    "fake_quantize_scale_gradient": Launch(256, 64, main=False),
    "quantize_values": Launch(256),
    "activation_values": Launch(256),
    "average_windows": Launch(256),
    "average_adaptive_windows": Launch(256),
    "average_rows": Launch(256, 32896),
    "average_columns": Launch(256),
    "resize_nearest": Launch(256),
    "resize_bilinear": Launch(256),
    "normalise_rows": Launch(256, 33408),
    "softmax_rows": Launch(256, 33536),
    "softmax_columns": Launch(256),
    "narrow_channels": Launch(256),
    "integer_products": Launch(128, 32768),
    "convolve_few_outputs": Launch(256),
    "sum_products": Launch(256, 16640),
    "sum_few_products": Launch(256),
    "sample_programmed_cells": Launch(256),
    "level_cells": Launch(256),
    "sum_word_lines": Launch(256, 4096),
    "attenuate_bit_lines": Launch(256),
    "narrow_values": Launch(256),
    "crossbar_product": Launch(128, 33280),
    "conversion_shares": Launch(128, 38400),
    "conversion_counts": Launch(128, 33312 + 4 * 4096),
    "sum_errors": Launch(256, 64),
    "pack_cells": Launch(256),
    "sum_weights": Launch(256),
}


@dataclass(frozen=True)
class Row:
    """One instance of a kernel on one architecture."""

    kernel: str
    architecture: str
    registers: int
    shared_bytes: int
    stack_bytes: int
    spill_bytes: int
    occupancy: float
    instructions: int | None = None
    matrix_instructions: int | None = None

    @property
    def function(self) -> str:
        """The name without the arguments of a template."""
        return self.kernel.split("<", 1)[0]


def occupancy(architecture: str, registers: int, shared_bytes: int, threads: int) -> float:
    """Share of a multiprocessor's threads that can be resident at once."""
    most_threads, most_blocks, shared_of_chip = CHIPS[architecture]
    warps = -(-threads // WARP)
    of_warp = -(-max(1, registers) * WARP // REGISTER_UNIT) * REGISTER_UNIT
    of_block = -(-shared_bytes // SHARED_UNIT) * SHARED_UNIT + SHARED_OF_SYSTEM
    blocks = min(
        most_blocks,
        most_threads // WARP // warps,
        REGISTERS // of_warp // warps,
        shared_of_chip // of_block,
    )
    return blocks * warps * WARP / most_threads


def demangled(names: Iterable[str]) -> dict[str, str]:
    """Names of functions as they are written, without namespaces, arguments and return type."""
    wanted = sorted(set(names))
    text = subprocess.run(["c++filt"], input="\n".join(wanted), capture_output=True, text=True, check=True).stdout
    return dict(zip(wanted, map(short_name, text.splitlines()), strict=True))


def short_name(name: str) -> str:
    """`void a::b::kernel<float, (a::Kind)1>(float const*)` -> `kernel<float, Kind 1>`."""
    name = re.sub(r"\((?:\w+::)*(\w+)\)(\d+)", r"\1 \2", name)  # values of enumerations
    name = name.split("(", 1)[0] if "(anonymous namespace)" not in name else name.replace("(anonymous namespace)", "_")
    name = name.split("(", 1)[0].removeprefix("void ")
    template = name.find("<")
    head, arguments = (name, "") if template < 0 else (name[:template], name[template:])
    return head.rsplit("::", 1)[-1] + re.sub(r"[A-Za-z_0-9]+::", "", arguments)


COMPILING = re.compile(r"Compiling entry function '(\S+)' for '(\S+)'")
SPILLS = re.compile(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads")
USED = re.compile(r"Used (\d+) registers")
STATIC_SHARED = re.compile(r"(\d+) bytes smem")


def rows_of(log: str) -> list[Row]:
    """The kernels that a log of `nvcc -Xptxas -v` tells of."""
    found: list[tuple[str, str, int, int, int, int]] = []
    name, architecture, stack, spilled = "", "", 0, 0
    for line in log.splitlines():
        if match := COMPILING.search(line):
            name, architecture = match.groups()
            stack = spilled = 0
        elif match := SPILLS.search(line):
            stack, stored, loaded = map(int, match.groups())
            spilled = stored + loaded
        elif (match := USED.search(line)) and name:
            shared = STATIC_SHARED.search(line)
            found.append((name, architecture, int(match[1]), int(shared[1]) if shared else 0, stack, spilled))
            name = ""
    names = demangled(one[0] for one in found)
    rows = []
    for mangled, architecture, registers, static_shared, stack, spilled in found:
        kernel = names[mangled]
        launch = LAUNCHES.get(kernel.split("<", 1)[0])
        if launch is None:
            raise SystemExit(f"cuda_static: how is {kernel} launched? Enter it in LAUNCHES of {__file__}")
        shared_bytes = static_shared + launch.shared_bytes + (READ_KEYS if "<Cells 2" in kernel else 0)
        share = occupancy(architecture, registers, shared_bytes, launch.threads)
        rows.append(Row(kernel, architecture, registers, shared_bytes, stack, spilled, share))
    return rows


def instruction_counts(cuobjdump: str, objects: Path) -> dict[tuple[str, str], tuple[int, int]]:
    """Instructions and int8 matrix instructions of every (kernel, architecture)."""
    counts: dict[tuple[str, str], Counter[str]] = {}
    for path in sorted(objects.rglob("*.o")):
        text = subprocess.run([cuobjdump, "-sass", str(path)], capture_output=True, text=True, check=True).stdout
        architecture, here = "", Counter[str]()
        for line in text.splitlines():
            if match := re.match(r"\s*code for (sm_\d+)", line):
                architecture = match[1]
            elif match := re.match(r"\s*Function : (\S+)", line):
                here = counts.setdefault((match[1], architecture), Counter())
            elif match := re.match(r"\s*/\*[0-9a-f]{4,}\*/\s+(?:@!?\w+\s+)?([A-Z0-9_.]+)", line):
                here[match[1].split(".", 1)[0]] += 1
    names = demangled(name for name, _ in counts)
    return {(names[name], chip): (sum(n.values()), n["IMMA"]) for (name, chip), n in counts.items()}


def with_instructions(rows: list[Row], tools: Path | None, objects: Path | None) -> list[Row]:
    """The rows with the counts of instructions, where cuobjdump is found."""
    packaged = Path(sysconfig.get_paths()["purelib"]) / "nvidia" / "cu13" / "bin"
    folders = [str(tools)] if tools else [str(packaged), os.environ.get("PATH", "")]
    found = shutil.which("cuobjdump", path=os.pathsep.join(folders))
    if found is None or objects is None:
        print("cuda_static: no cuobjdump, so instructions are not counted", file=sys.stderr)
        return rows
    counts = instruction_counts(found, objects)
    full = []
    for row in rows:
        total, matrix = counts[row.kernel, row.architecture]
        full.append(Row(**{**asdict(row), "instructions": total, "matrix_instructions": matrix}))
    return full


def table(rows: list[Row]) -> str:
    """One line per instance and architecture."""
    heads = ["kernel", "chip", "registers", "shared", "stack", "spilled", "occupancy", "instructions", "IMMA"]
    lines = [heads]
    for row in rows:
        counted = ["-" if n is None else str(n) for n in (row.instructions, row.matrix_instructions)]
        numbers = [row.registers, row.shared_bytes, row.stack_bytes, row.spill_bytes]
        lines.append([row.kernel, row.architecture, *map(str, numbers), f"{row.occupancy:.0%}", *counted])
    widths = [max(len(line[column]) for line in lines) for column in range(len(heads))]
    return "\n".join(
        "  ".join(
            cell.ljust(w) if i < 2 else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        )
        for row in lines
    )


def faults_of(rows: list[Row], architectures: Iterable[str] = tuple(CHIPS)) -> list[str]:
    """Why the build for these architectures is refused."""
    faults = [
        f"{row.kernel} spills {row.spill_bytes} bytes on {row.architecture}"
        for row in rows
        if LAUNCHES[row.function].main and row.spill_bytes > 0
    ]
    for function in LAUNCHES:
        for chip in architectures:
            if not any(row.function == function and row.architecture == chip for row in rows):
                faults.append(f"{function} was not compiled for {chip}")
    return faults


def main() -> None:
    """Prints the table; exits with 1 where `faults_of` finds something."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("log", type=Path, help="output of nvcc -Xptxas -v")
    parser.add_argument("--objects", type=Path, help="folder of the object files")
    parser.add_argument("--tools", type=Path, help="folder of cuobjdump and nvdisasm (default: PATH)")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    chosen = parser.parse_args()
    rows = with_instructions(rows_of(chosen.log.read_text()), chosen.tools, chosen.objects)
    rows.sort(key=lambda row: (row.kernel, list(CHIPS).index(row.architecture)))
    print(json.dumps([asdict(row) for row in rows], indent=1) if chosen.json else table(rows))
    if faults := faults_of(rows):
        raise SystemExit("cuda_static: " + "; ".join(faults))


if __name__ == "__main__":
    main()
