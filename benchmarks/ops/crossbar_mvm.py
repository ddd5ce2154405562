"""crossbar_mvm beside torch's float32 matmul, the machine's int8 peak, and the loop one would write in torch.

python benchmarks/ops/crossbar_mvm.py [--threads 2] [--json]

All times of a row are taken in turn within one run; the ratios are what to compare. Every result is checked first.
`share_of_peak`: multiply-adds as the hardware does them (batch * inputs * outputs * input digits * weight slices) per
second, over those of the int8 instruction on registers alone, times the threads. More than 1 is possible: tables of
partial sums do the work of several multiply-adds in one addition.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from _common import interleaved_seconds, show, with_threads
from _int8_peak import Int8Peak
from _torch_loop import TorchLoop

from cimq import Hardware
from cimq.ops import calibrate_adc, crossbar_mvm

COLUMNS = {"range": "calibrated", "granularity": "column"}


@dataclass(frozen=True)
class Setting:
    name: str
    batch: int
    outputs: int
    inputs: int
    weight_bits: int
    act_bits: int
    hardware: Hardware
    program_each_time: bool = False


def settings() -> list[Setting]:
    paper = Hardware.preset("paper")
    lossy = paper.replace(rows=128, cell_bits=2, adc={"bits": 8})
    noise = {"programming": {"model": "gaussian", "sigma_levels": 0.1}}
    noisy = lossy.replace(cell=noise)
    return [
        Setting("lossy 8-bit ADC, 2-bit cells", 256, 512, 512, 8, 8, lossy),
        Setting("the same, noisy cells", 256, 512, 512, 8, 8, noisy),
        Setting("the same, programmed at every call", 256, 512, 512, 8, 8, noisy, program_each_time=True),
        Setting("lossy, offset mapping", 256, 512, 512, 8, 8, lossy.replace(mapping="offset")),
        Setting("lossy, 4-bit cells, 256 rows", 256, 512, 512, 8, 8, paper.replace(adc={"bits": 8})),
        Setting("the same, W4A4", 256, 512, 512, 4, 4, paper.replace(adc={"bits": 8})),
        Setting("ideal ADC (digital value)", 256, 512, 512, 8, 8, paper),
        Setting("ideal ADC, noisy cells", 256, 512, 512, 8, 8, paper.replace(cell=noise)),
        Setting("one vector, lossy", 1, 512, 512, 8, 8, lossy),
        Setting("calibrated, a range per slice", 256, 512, 512, 8, 8, lossy.replace(adc={"range": "calibrated"})),
        Setting("the same, a range per column", 256, 512, 512, 8, 8, lossy.replace(adc=COLUMNS)),
    ]


def measure(setting: Setting, peak: Int8Peak) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(0)
    top = 2 ** (setting.weight_bits - 1) - 1
    x = torch.randint(0, 2**setting.act_bits, (setting.batch, setting.inputs), generator=generator, dtype=torch.uint8)
    w = torch.randint(-top, top + 1, (setting.outputs, setting.inputs), generator=generator, dtype=torch.int8)
    xf, wf = x.float(), w.float().T.contiguous()
    hardware = setting.hardware
    from_data = hardware.adc.range == "calibrated"
    bits = {"weight_bits": setting.weight_bits, "act_bits": setting.act_bits}
    ranges = (
        dict(zip(("adc_lo", "adc_lsb"), calibrate_adc(x[:16], w, hardware, **bits), strict=True)) if from_data else {}
    )
    w_given = w.float() if setting.program_each_time else w  # floating weights are programmed anew at every call

    def ours() -> Tensor:
        return crossbar_mvm(x, w_given, hardware, **bits, **ranges)

    y = ours()
    expected = crossbar_mvm(x[:4], w, hardware, **bits, **ranges, backend="reference_cpp")
    assert torch.equal(y[:4], expected.to(y.dtype))
    functions = [ours, lambda: xf @ wf, peak]
    plain = hardware.cell.programming.model == "none" and not from_data
    comparable = hardware.mapping == "differential_column" and plain
    if comparable:
        loop = TorchLoop(w, hardware, **bits)
        wide = x.int()
        assert torch.equal(loop(wide), y.float())
        functions.append(lambda: loop(wide))
    times = interleaved_seconds(functions)
    digits = -(-setting.act_bits // hardware.dac_bits)
    slices = hardware.weight_slices(setting.weight_bits)
    sliced = hardware.adc.bits is not None
    rate = setting.batch * setting.outputs * setting.inputs * digits * slices / times[0]
    return {
        "setting": setting.name,
        "shape": f"{setting.batch}x{setting.inputs}x{setting.outputs}",
        "cimq_ms": times[0] * 1e3,
        "matmul_fp32_ms": times[1] * 1e3,
        "cimq_over_matmul": times[0] / times[1],
        "share_of_peak": rate / peak.rate(times[2]) if sliced else None,
        "torch_loop_ms": times[3] * 1e3 if comparable else None,
        "loop_over_cimq": times[3] / times[0] if comparable else None,
    }


def main() -> None:
    chosen = with_threads(__doc__ or "")
    peak = Int8Peak(torch.get_num_threads())
    rows = [measure(setting, peak) for setting in settings()]
    show(rows, chosen.json)
    ratio = rows[1]["cimq_ms"] / rows[0]["cimq_ms"]
    times = {row["setting"]: row["cimq_ms"] for row in rows}
    columns = times["the same, a range per column"] / times["calibrated, a range per slice"]
    if not chosen.json:
        print(f"\na range per column over a range per slice: {columns:.2f}")
        print(f"noisy cells over cells without noise, both programmed before: {ratio:.2f}")


if __name__ == "__main__":
    main()
