"""crossbar_mvm beside torch's float32 matmul and beside the loop over digits and slices that one would write in torch.

python benchmarks/ops/crossbar_mvm.py [--threads 2] [--json]

All times of a row are taken in turn within one run; the ratios are what to compare. Every result is checked first.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from _common import interleaved_seconds, parser, show

from cimq import Hardware
from cimq.ops import crossbar_mvm


@dataclass(frozen=True)
class Setting:
    name: str
    batch: int
    outputs: int
    inputs: int
    weight_bits: int
    act_bits: int
    hardware: Hardware


def settings() -> list[Setting]:
    paper = Hardware.preset("paper")
    lossy = paper.replace(rows=128, cell_bits=2, adc={"bits": 8})
    noise = {"programming": {"model": "gaussian", "sigma_levels": 0.1}}
    return [
        Setting("lossy 8-bit ADC, 2-bit cells", 256, 512, 512, 8, 8, lossy),
        Setting("the same, offset mapping", 256, 512, 512, 8, 8, lossy.replace(mapping="offset")),
        Setting("the same, noisy cells", 256, 512, 512, 8, 8, lossy.replace(cell=noise)),
        Setting("lossy 8-bit ADC, W4A4, 4-bit cells", 256, 512, 512, 4, 4, paper.replace(adc={"bits": 8})),
        Setting("ideal ADC (digital value)", 256, 512, 512, 8, 8, paper),
        Setting("ideal ADC, noisy cells", 256, 512, 512, 8, 8, paper.replace(cell=noise)),
        Setting("one vector, lossy", 1, 512, 512, 8, 8, lossy),
    ]


class TorchLoop:
    """Pairs of columns subtracted before conversion; planes prepared outside, one float matmul per digit and slice."""

    def __init__(self, setting: Setting, w: Tensor) -> None:
        hardware = setting.hardware
        self.setting = setting
        self.slices = -(-setting.weight_bits // hardware.cell_bits)
        base = 2**hardware.cell_bits
        self.planes = [(w.sign() * (w.abs() // base**s % base)).float().T.contiguous() for s in range(self.slices)]
        bits = hardware.adc.bits
        self.top = None if bits is None else 2 ** (bits - 1) - 1
        if self.top is not None:
            full_scale = hardware.rows * (base - 1) * (2**hardware.dac_bits - 1)
            self.lsb = full_scale / self.top
            self.inverse = torch.tensor(1 / self.lsb, dtype=torch.float32)

    def __call__(self, x: Tensor) -> Tensor:
        rows = self.setting.hardware.rows
        y = torch.zeros(x.shape[0], self.setting.outputs)
        for s, plane in enumerate(self.planes):
            codes = torch.zeros_like(y)
            for start in range(0, x.shape[1], rows):
                for i in range(self.setting.act_bits):
                    digit = (x[:, start : start + rows] >> i & 1).float()
                    current = digit @ plane[start : start + rows]
                    if self.top is not None:
                        current = (current * self.inverse).round_().clamp_(-self.top, self.top)
                    codes += current * 2.0**i
            scale = 2 ** (self.setting.hardware.cell_bits * s) * (1.0 if self.top is None else self.lsb)
            y += codes * torch.tensor(scale, dtype=torch.float32)
        return y


def measure(setting: Setting) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(0)
    top = 2 ** (setting.weight_bits - 1) - 1
    x = torch.randint(0, 2**setting.act_bits, (setting.batch, setting.inputs), generator=generator, dtype=torch.uint8)
    w = torch.randint(-top, top + 1, (setting.outputs, setting.inputs), generator=generator, dtype=torch.int8)
    xf, wf = x.float(), w.float().T.contiguous()
    hardware = setting.hardware

    def ours() -> Tensor:
        return crossbar_mvm(x, w, hardware, weight_bits=setting.weight_bits, act_bits=setting.act_bits)

    y = ours()
    sample = slice(0, 4)
    expected = crossbar_mvm(
        x[sample], w, hardware, weight_bits=setting.weight_bits, act_bits=setting.act_bits, backend="reference_cpp"
    )
    assert torch.equal(y[sample], expected)
    functions = [ours, lambda: xf @ wf]
    comparable = hardware.mapping == "differential_column" and hardware.cell.programming.model == "none"
    if comparable:
        loop = TorchLoop(setting, w.int())
        wide = x.int()
        assert torch.equal(loop(wide), y.float())
        functions.append(lambda: loop(wide))
    times = interleaved_seconds(functions)
    digits = -(-setting.act_bits // hardware.dac_bits)
    slices = hardware.weight_slices(setting.weight_bits)
    products = setting.batch * setting.outputs * setting.inputs * digits * slices
    return {
        "setting": setting.name,
        "shape": f"{setting.batch}x{setting.inputs}x{setting.outputs}",
        "cimq_ms": times[0] * 1e3,
        "matmul_fp32_ms": times[1] * 1e3,
        "torch_loop_ms": times[2] * 1e3 if comparable else None,
        "cimq_over_matmul": times[0] / times[1],
        "loop_over_cimq": times[2] / times[0] if comparable else None,
        "cell_gops": 2 * products / times[0] / 1e9,
    }


def main() -> None:
    options = parser(__doc__ or "")
    options.add_argument("--threads", type=int, default=None, help="threads of torch (default: torch's own choice)")
    chosen = options.parse_args()
    if chosen.threads is not None:
        torch.set_num_threads(chosen.threads)
    show([measure(setting) for setting in settings()], chosen.json)


if __name__ == "__main__":
    main()
