"""What all kinds of quantisers have in common."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from cimq import ops
from cimq.mapping import act_range, weight_range
from cimq.quantization.quantisers.kinds import (
    calibrated_input,
    calibrated_weight,
    input_quantiser,
    weight_quantiser,
)
from cimq.quantization.quantisers.lsq import Binary, Lsq
from cimq.quantization.quantisers.lsq_offset import LsqOffset
from cimq.quantization.quantisers.quantiser import Quantiser, integers_of_grid

BITS = range(1, 9)


def inputs(bits: int, signed: bool, offset: bool) -> tuple[Tensor, Quantiser]:
    x = torch.randn(6, 50, generator=torch.Generator().manual_seed(bits)) * 3
    x = x if signed or offset else x.abs()
    return x, calibrated_input(x.reshape(1, -1), bits, signed and not offset, offset, "mse")


@pytest.mark.parametrize(("signed", "offset"), [(False, False), (True, False), (True, True)])
@pytest.mark.parametrize("bits", BITS)
def test_values_are_scale_times_integers_and_zero_point(bits: int, signed: bool, offset: bool) -> None:
    x, quantiser = inputs(bits, signed, offset)
    assert isinstance(quantiser, LsqOffset if offset else Lsq)
    q = quantiser.integers(x)
    assert q.dtype == (torch.int8 if signed and not offset else torch.uint8)
    assert quantiser.low <= int(q.min()) <= int(q.max()) <= quantiser.high
    zero = 0 if quantiser.zero is None else quantiser.zero
    assert torch.equal((q.int() + zero) * quantiser.scale, quantiser.fake(x))
    assert torch.equal(integers_of_grid(quantiser.fake(x), quantiser.scale), (q.int() + zero).float())
    state = quantiser.state()
    assert list(state) == (["scale", "zero"] if offset else ["scale"])
    again = input_quantiser(state["scale"], bits, signed and not offset, state["zero"].float() if offset else None)
    assert torch.equal(again.integers(x), q)
    assert state["scale"] is not quantiser.scale
    with pytest.raises(ValueError, match="must be finite"):
        quantiser.integers(torch.tensor([[float("nan")]]))


@pytest.mark.parametrize("rows", [1, 5])
@pytest.mark.parametrize("bits", BITS)
def test_weights_have_a_scale_for_each_output_or_one(bits: int, rows: int) -> None:
    weight = torch.randn(5, 2, 3, 3, generator=torch.Generator().manual_seed(bits))
    found = calibrated_weight(weight.reshape(rows, -1), bits, None)
    assert type(found) is (Binary if bits == 1 else Lsq)
    assert found.scale.shape == (() if rows == 1 else (rows,))
    quantiser = weight_quantiser(found.scale.reshape(rows), bits)
    q = quantiser.integers(weight)
    assert (quantiser.low, quantiser.high) == weight_range(bits)
    assert torch.equal(q * quantiser.scale_for(weight), quantiser.fake(weight))
    assert bits > 1 or q.unique().tolist() == [-1, 1]
    each = found.scale.expand(5)
    assert torch.equal(q, ops.quantize(weight, each, *weight_range(bits), axis=0, binary=bits == 1))


def test_the_scale_learns_as_the_rule_says() -> None:
    """One factor for inputs, which come in samples, another for weights, which stay."""
    x = torch.randn(4, 3, 2, generator=torch.Generator().manual_seed(0))
    grads = []
    for quantiser in (Lsq, lambda *args: Lsq(*args, written=True)):
        scale = torch.tensor(0.3, requires_grad=True)
        quantiser(scale, -4, 3).fake(x).sum().backward()
        assert scale.grad is not None
        grads.append(float(scale.grad))
    assert grads[0] == pytest.approx(grads[1] * 2, rel=1e-6)  # 6 values in a sample, 24 in all


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("bits", BITS)
def test_minmax_clips_nothing(bits: int, signed: bool) -> None:
    x = torch.tensor([[-2.0 if signed else 0.0, 0.5, 3.0]])
    low, high = act_range(bits, signed)
    scale = Lsq.calibrate(x, low, high, "minmax").scale
    ends = [float(end) / bound for end, bound in ((x.min(), low), (x.max(), high)) if bound]
    assert float(scale) == pytest.approx(max(ends))
    assert float(Lsq.calibrate(torch.zeros(1, 3), low, high, "minmax").scale) == 1.0
