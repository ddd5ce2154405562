"""Peak memory of the crossbar operators beyond operands, result and programmed cells, per thread.

python benchmarks/ops/memory.py [--threads 2] [--json]

Every row runs in a process of its own: the operator once on a small batch (cells are programmed and cached, threads are
started), what was freed is given back, then the process's high-water mark of resident memory (VmHWM, reset before) is
read around the call, and the result's size subtracted. `patches_mb` is the im2col matrix that never exists.
"""

from __future__ import annotations

import ctypes
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from _common import show, with_threads
from _layers import Conv

from cimq import Hardware
from cimq.ops import crossbar_conv2d, crossbar_mvm

LOSSY = Hardware.preset("paper").replace(adc={"bits": 8})
NOISY = LOSSY.replace(cell={"programming": {"model": "gaussian", "sigma_levels": 0.1}})
READ = LOSSY.replace(cell={"read": {"model": "constant", "sigma_levels": 0.1}})
HARDWARE = {"lossy": LOSSY, "noisy cells": NOISY, "read noise": READ, "ideal": Hardware.preset("paper")}
CONVOLUTION = Conv("64 x 56 x 56, 3 x 3", 16, 64, 64, 3, 1, 56)
SHAPES = {"512x2304x512": (512, 2304, 512), "4096x512x512": (4096, 512, 512)}


def resident(key: str) -> int:
    """VmHWM or VmRSS of this process in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith(key)).split()[1])


def child(hardware_name: str, shape_name: str, threads: int) -> dict[str, Any]:
    torch.set_num_threads(threads)
    hardware = HARDWARE[hardware_name]
    if shape_name in SHAPES:
        batch, inputs, outputs = SHAPES[shape_name]
        x = torch.randint(0, 256, (batch, inputs), dtype=torch.uint8)
        w = torch.randint(-127, 128, (outputs, inputs), dtype=torch.int8)
        patches = 0

        def product(part: torch.Tensor) -> torch.Tensor:
            return crossbar_mvm(part, w, hardware, weight_bits=8, act_bits=8)
    else:
        x, w = CONVOLUTION.operands(weight_bits=8, act_bits=8)
        patches = x.numel() * CONVOLUTION.kernel**2

        def product(part: torch.Tensor) -> torch.Tensor:
            return crossbar_conv2d(part, w, hardware, weight_bits=8, act_bits=8, padding=CONVOLUTION.padding)

    small = product(x[:2])
    result_bytes = small.numel() // 2 * x.shape[0] * small.element_size()
    ctypes.CDLL("libc.so.6").malloc_trim(0)  # memory that was freed goes back, so that its use anew is seen
    Path("/proc/self/clear_refs").write_text("5")  # VmHWM starts from the present use
    before = resident("VmRSS")
    y = product(x)
    extra = resident("VmHWM") - before - result_bytes
    assert y.numel() * y.element_size() == result_bytes
    return {
        "hardware": hardware_name,
        "shape": shape_name,
        "result_mb": result_bytes / 2**20,
        "patches_mb": patches / 2**20,
        "extra_mb_per_thread": max(0, extra) / 2**20 / threads,
    }


def main() -> None:
    if len(sys.argv) == 5 and sys.argv[1] == "--child":
        print(json.dumps(child(sys.argv[2], sys.argv[3], int(sys.argv[4]))))
        return
    chosen = with_threads(__doc__ or "")
    rows = []
    for shape in (*SHAPES, CONVOLUTION.name):
        for hardware in HARDWARE:
            command = [sys.executable, __file__, "--child", hardware, shape, str(torch.get_num_threads())]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            rows.append(json.loads(done.stdout.splitlines()[-1]))
    show(rows, chosen.json)


if __name__ == "__main__":
    main()
