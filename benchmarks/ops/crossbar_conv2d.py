"""crossbar_conv2d on the convolutions of ResNet-18 and ResNet-20 beside torch's float32 ones and the int8 peak.

python benchmarks/ops/crossbar_conv2d.py [--threads 2] [--json]

256-row arrays, 4-bit cells, single-bit inputs, a lossy 8-bit converter, 8-bit weights and activations. All times of a
row are taken in turn within one run; every result is checked first. `share_of_peak` as in crossbar_mvm.py.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import conv2d

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from _common import interleaved_seconds, show, with_threads
from _int8_peak import Int8Peak
from _layers import Conv, resnet18_convs, resnet20_convs
from _torch_loop import TorchConvLoop

from cimq import Hardware
from cimq.ops import crossbar_conv2d

HARDWARE = Hardware.preset("paper").replace(adc={"bits": 8})
DIGITS, SLICES = 8, 2


def measure(layer: Conv, peak: Int8Peak) -> dict[str, Any]:
    x, w = layer.operands(weight_bits=8, act_bits=8)
    xf, wf = x.float(), w.float()

    def ours() -> Tensor:
        return crossbar_conv2d(x, w, HARDWARE, weight_bits=8, act_bits=8, stride=layer.stride, padding=layer.padding)

    loop = TorchConvLoop(w, HARDWARE, weight_bits=8, act_bits=8, stride=layer.stride, padding=layer.padding)
    assert torch.equal(ours(), loop(xf))
    times = interleaved_seconds(
        [ours, lambda: conv2d(xf, wf, stride=layer.stride, padding=layer.padding), peak, lambda: loop(xf)]
    )
    return {
        "layer": layer.name,
        "mmac": layer.macs / 1e6,
        "cimq_ms": times[0] * 1e3,
        "conv_fp32_ms": times[1] * 1e3,
        "cimq_over_conv": times[0] / times[1],
        "share_of_peak": layer.macs * DIGITS * SLICES / times[0] / peak.rate(times[2]),
        "torch_loop_ms": times[3] * 1e3,
        "loop_over_cimq": times[3] / times[0],
    }


def main() -> None:
    chosen = with_threads(__doc__ or "")
    peak = Int8Peak(torch.get_num_threads())
    layers = (*resnet18_convs(batch=1), *resnet20_convs(batch=16))
    show([measure(layer, peak) for layer in layers], chosen.json)


if __name__ == "__main__":
    main()
