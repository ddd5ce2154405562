"""crossbar_mvm beside the loop in torch and beside simulators that install from PyPI.

python benchmarks/ops/peers.py [--threads 2] [--json]         # pip install "cimq[bench]" adds the peers

256x512x512, 8-bit operands, 128-row arrays, 2-bit cells, 8-bit converters. What a peer simulates is not the same, nor
are its results: the column `computes` says what is timed. A peer that is not installed is skipped, and said so.

memintelli: digits and slices as here, conductances drawn anew at every product.
aihwkit-lightning: no digits and no slices, one product per row tile with its converter.
"""

from __future__ import annotations

import importlib.metadata
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from _common import interleaved_seconds, show, with_threads
from _torch_loop import TorchLoop

from cimq import Hardware
from cimq.ops import crossbar_mvm

BATCH, INPUTS, OUTPUTS, ROWS = 256, 512, 512, 128
HARDWARE = Hardware.preset("paper").replace(rows=ROWS, cell_bits=2, adc={"bits": 8})
NOISY = HARDWARE.replace(cell={"programming": {"model": "gaussian", "sigma_levels": 0.1}})
Timed = tuple[str, str, Callable[[], object]]


def memintelli(x: Tensor, w: Tensor) -> Timed:
    from memintelli.pimpy import DPETensor
    from memintelli.utils import SlicedData

    engine = DPETensor(
        g_level=4,
        var=0.05,
        rdac=2,
        radc=256,
        weight_paral_size=(ROWS, ROWS),
        input_paral_size=(BATCH, ROWS),
        weight_quant_gran=(ROWS, ROWS),
        input_quant_gran=(BATCH, ROWS),
        device=torch.device("cpu"),
    )
    weights = SlicedData(torch.tensor((1, 1, 2, 2, 2)))
    weights.slice_data_imp(engine, w.float().T)

    def product() -> Tensor:
        inputs = SlicedData(torch.tensor((1,) * 8), slice_data_flag=True)
        inputs.slice_data_imp(engine, x.float() - 128)
        return engine(inputs, weights)

    return "8 digits x 5 slices, log-normal noise drawn at every call", "memintelli", product


def aihwkit_lightning(x: Tensor, w: Tensor) -> Timed:
    from aihwkit_lightning.nn import AnalogLinear
    from aihwkit_lightning.simulator.configs import TorchInferenceRPUConfig

    config = TorchInferenceRPUConfig()
    config.mapping.max_input_size = ROWS
    config.forward.inp_res = 2**8 - 2
    config.forward.out_res = 2**8 - 2
    config.forward.out_bound = 12.0
    config.pre_post.input_range.enable = True
    layer = AnalogLinear(INPUTS, OUTPUTS, bias=False, rpu_config=config).eval()
    xf = x.float()

    @torch.no_grad()
    def product() -> Tensor:
        return layer(xf)

    return "one product per row tile", "aihwkit-lightning", product


def main() -> None:
    chosen = with_threads(__doc__ or "")
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(0, 256, (BATCH, INPUTS), generator=generator, dtype=torch.uint8)
    w = torch.randint(-127, 128, (OUTPUTS, INPUTS), generator=generator, dtype=torch.int8)
    wide = x.int()
    loop = TorchLoop(w, HARDWARE, weight_bits=8, act_bits=8)

    def ours(hardware: Hardware, weights: Tensor) -> Tensor:
        return crossbar_mvm(x, weights, hardware, weight_bits=8, act_bits=8)

    assert torch.equal(ours(HARDWARE, w), loop(wide))
    timed: list[Timed] = [
        ("8 digits x 4 slices", "cimq", lambda: ours(HARDWARE, w)),
        ("8 digits x 4 slices, noise drawn at every call", "cimq, noisy cells", lambda: ours(NOISY, w.float())),
        ("8 digits x 4 slices", "loop in torch", lambda: loop(wide)),
    ]
    skipped = []
    for make, package in ((memintelli, "memintelli"), (aihwkit_lightning, "aihwkit-lightning")):
        try:
            computes, name, product = make(x, w)
            timed.append((computes, f"{name} {importlib.metadata.version(package)}", product))
        except ImportError as error:
            skipped.append({"what": f"{package}: not installed, skipped ({error})"})
    times = interleaved_seconds([function for _, _, function in timed], rounds=7)
    rows: list[dict[str, Any]] = [
        {"what": name, "computes": computes, "ms": time * 1e3, "over_cimq": time / times[0]}
        for (computes, name, _), time in zip(timed, times, strict=True)
    ]
    show(rows + [{**dict.fromkeys(rows[0]), **row} for row in skipped], chosen.json)


if __name__ == "__main__":
    main()
