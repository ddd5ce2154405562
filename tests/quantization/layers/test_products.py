"""What is made of a crossbar product, and that one way of making it serves weights and matrices written at run time."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

import cimq
from cimq.quantization import QuantLinear, QuantMatmul
from cimq.quantization.layers.products import operand_multiplier, scaled, zero_correction

LOSSY = cimq.Hardware.preset("paper").replace(rows=16, cell_bits=2, adc={"bits": 6})


@given(st.integers(1, 4), st.integers(-15, 0), st.integers(0, 1000))
def test_a_zero_point_is_a_correction_of_the_product(inputs: int, zero: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randint(0, 16, (3, inputs), generator=generator)
    w = torch.randint(-7, 8, (5, inputs), generator=generator, dtype=torch.int8)
    multiplier, bias = torch.rand(5, generator=generator), torch.randn(5, generator=generator)
    correction = zero_correction(w, torch.tensor(zero, dtype=torch.int32))
    assert correction.dtype == torch.int32
    Y = (x @ w.long().t()).int()
    wanted = ((x + zero) @ w.long().t()).float() * multiplier + bias
    assert torch.equal(scaled(Y, correction, multiplier, bias), wanted)
    assert torch.equal(scaled(Y.float(), correction.float(), multiplier, bias), wanted)
    assert torch.equal(scaled(Y, None, multiplier, None), Y.float() * multiplier)


def test_the_inputs_of_an_output_are_the_last_dimensions() -> None:
    w = torch.randint(-7, 8, (4, 3, 2, 2), dtype=torch.int8, generator=torch.Generator().manual_seed(0))
    zero = torch.tensor(-3, dtype=torch.int32)
    assert torch.equal(zero_correction(w, zero), -3 * w.int().sum((1, 2, 3)))
    assert torch.equal(zero_correction(w, zero, 3), -3 * w.int().sum(3))
    assert torch.equal(zero_correction(w.float(), zero), -3 * w.float().sum((1, 2, 3)))


def test_a_multiplier_is_rounded_once() -> None:
    a, b = torch.tensor(0.1), torch.tensor(0.3)
    assert float(operand_multiplier(a, b, 1 / 3)) == float((a.double() * b.double() * (1 / 3)).float())


class Written(nn.Module):
    """A product of two activations, alone."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(6, 5, bias=False)

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        return nn.functional.scaled_dot_product_attention(self.head(x), w, w)


@pytest.mark.parametrize("act_offset", [False, True])
@pytest.mark.parametrize("hardware", ["paper", LOSSY], ids=["ideal", "lossy"])
@pytest.mark.parametrize("bits", [1, 4])
def test_a_matrix_written_at_run_time_is_multiplied_as_a_weight_is(
    bits: int, hardware: object, act_offset: bool
) -> None:
    """With the same scales the same bits; nearly, where training on ideal crossbars leaves the product to PyTorch."""
    generator = torch.Generator().manual_seed(1)
    x, w = torch.randn(1, 1, 7, 6, generator=generator), torch.randn(1, 1, 5, 6, generator=generator)
    options = {"per_channel": False, "act_offset": act_offset}
    linear = cimq.prepare(nn.Linear(6, 5, bias=False), cimq.Policy.uniform(bits, bits), hardware, **options)
    assert isinstance(linear, QuantLinear)
    linear.weight.data.copy_(w[0, 0])
    cimq.calibrate(linear, [x[0, 0]])
    whole = cimq.prepare(Written(), cimq.Policy.uniform(bits, bits), hardware, **options)
    (matmul,) = [layer for name, layer in cimq.quantization.quant_layers(whole) if name.endswith("qk")]
    assert isinstance(matmul, QuantMatmul)
    matmul.layer_index = linear.layer_index
    with torch.no_grad():
        matmul.weight_scales.copy_(linear.weight_scales)
        matmul.set_act_scales(linear.act_scales, bool(linear.act_signed), linear.act_offsets)
    for training in (True, False):
        linear.train(training)
        matmul.train(training)
        rtol = 1e-5 if training and hardware == "paper" else 0
        torch.testing.assert_close(matmul(x, w)[0, 0], linear(x[0, 0]), rtol=rtol, atol=rtol)
        torch.testing.assert_close(matmul(x, w, 0.5)[0, 0], linear(x[0, 0]) * 0.5, rtol=rtol, atol=rtol)
