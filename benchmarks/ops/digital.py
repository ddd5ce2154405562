"""The crossbar operators with an ideal converter beside torch's own float32 product of the same layer.

python benchmarks/ops/digital.py [--threads 2] [--json]

Nothing is lost in such a converter, so that the operator is one digital product. `integer` operands are uint8 and int8
tensors, `float` ones float32 tensors that hold integers; `step` is forward and backward. torch computes
with float32 tensors throughout. All times of a row are taken in turn within one run; every result is checked first.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import conv2d

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from _common import interleaved_seconds, show, with_threads
from _layers import Conv, resnet18_convs, resnet20_convs

from cimq import Hardware
from cimq.ops import crossbar_conv2d, crossbar_mvm

HARDWARE = Hardware.preset("paper")
Product = Callable[[Tensor, Tensor], Tensor]


def row(name: str, x: Tensor, w: Tensor, ours: Product, theirs: Product) -> dict[str, Any]:
    """Times of forward with integers and floats, and of forward and backward with floats."""
    xf, wf = x.float(), w.float()
    assert torch.equal(ours(x, w).double(), theirs(x.double(), w.double()))
    assert torch.equal(ours(xf, wf).double(), theirs(x.double(), w.double()))
    forward = interleaved_seconds([lambda: ours(x, w), lambda: ours(xf, wf), lambda: theirs(xf, wf)])
    xg, wg = xf.clone().requires_grad_(), wf.clone().requires_grad_()
    gradient = torch.ones_like(theirs(xf, wf))

    def step(product: Product) -> None:
        xg.grad = wg.grad = None
        product(xg, wg).backward(gradient)

    both = interleaved_seconds([lambda: step(ours), lambda: step(theirs)])
    return {
        "layer": name,
        "torch_ms": forward[2] * 1e3,
        "integer_over_torch": forward[0] / forward[2],
        "float_over_torch": forward[1] / forward[2],
        "torch_step_ms": both[1] * 1e3,
        "step_over_torch": both[0] / both[1],
    }


def linear_row(batch: int, inputs: int, outputs: int) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(0, 256, (batch, inputs), generator=generator, dtype=torch.uint8)
    w = torch.randint(-127, 128, (outputs, inputs), generator=generator, dtype=torch.int8)
    return row(
        f"linear {batch}x{inputs}x{outputs}",
        x,
        w,
        lambda a, b: crossbar_mvm(a, b, HARDWARE, weight_bits=8, act_bits=8),
        lambda a, b: a @ b.T,
    )


def conv_row(layer: Conv) -> dict[str, Any]:
    x, w = layer.operands(weight_bits=8, act_bits=8)
    return row(
        layer.name,
        x,
        w,
        lambda a, b: crossbar_conv2d(
            a, b, HARDWARE, weight_bits=8, act_bits=8, stride=layer.stride, padding=layer.padding
        ),
        lambda a, b: conv2d(a, b, stride=layer.stride, padding=layer.padding),
    )


def main() -> None:
    chosen = with_threads(__doc__ or "")
    rows = [linear_row(256, 512, 512), linear_row(64, 2048, 1000)]
    rows += [conv_row(layer) for layer in (*resnet18_convs(batch=4), *resnet20_convs(batch=64))]
    show(rows, chosen.json)


if __name__ == "__main__":
    main()
