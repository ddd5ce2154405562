"""The crossbar product of the claims beside a loop in PyTorch and the plain product that it stands for."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import torch
from _crossbar_cases import CLAIMED, Layer, small_of
from _timing import Timer, best_product
from _torch_loop import TorchLoop


def loop_and_operands(layer: Layer, device: torch.device) -> tuple[TorchLoop, torch.Tensor, torch.Tensor]:
    """The loop on the device, activations as integers for it, and as the operator takes them."""
    x, w = (operand.to(device) for operand in layer.operands())
    return TorchLoop(w, layer.hardware, weight_bits=layer.weight_bits, act_bits=layer.act_bits), x.int(), x


def claimed_product(timer: Timer, device: torch.device, *, small: bool = False) -> dict[str, Any]:
    """Times of operator, loop and plain product on one layer, one after the other; their results are compared first."""
    layer = small_of(CLAIMED) if small else CLAIMED
    loop, wide, x = loop_and_operands(layer, device)
    arguments = (x, layer.operands()[1].to(device), *layer.call())
    operator = torch.ops.cimq.crossbar_mvm.default
    found, expected = operator(*arguments), loop(wide)
    if not torch.equal(found.float(), expected):
        wrong = int((found != expected).sum())
        return {"faults": [f"{wrong} of {found.numel()} values are not those of the loop in PyTorch"]}
    ours = timer(lambda: operator(*arguments))
    theirs = timer(lambda: loop(wide))
    # The library's product wants sizes that are multiples of 16.
    rows, inner, columns = (max(32, 32 * (size // 32)) for size in (layer.batch, layer.inputs, layer.outputs))
    plain = best_product(timer, rows, inner, columns, torch.int8, device)
    return {
        "faults": [],
        "shape": layer.text,
        "operations": 2 * layer.sliced_products,
        "plain_products": layer.sliced_products // layer.products,
        "operator": asdict(ours),
        "loop": asdict(theirs),
        "plain": asdict(plain),
        "plain_operations": 2 * rows * inner * columns,
    }
