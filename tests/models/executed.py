"""What every network is held to: prepared, converted and executed, it gives the same values."""

from __future__ import annotations

import torch
from torch import Tensor, nn

import cimq
from cimq.quantization import layer_outputs


def check_equal_values(q: nn.Module, converted: nn.Module, bundle: cimq.bundle.Bundle, x: Tensor) -> None:
    """Outputs of all three, and the integers of every crossbar layer of the last two, bit for bit."""
    with torch.no_grad():
        wanted, integers = q(x), layer_outputs(converted, x)
        assert torch.equal(converted(x), wanted)
    y, layers = bundle.run_layers(x)
    assert torch.equal(y, wanted)
    assert layers.keys() == integers.keys()
    assert all(torch.equal(layers[layer], value) for layer, value in integers.items())
