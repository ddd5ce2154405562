"""Inputs with a learned offset (LSQ+): zero points, their folding, their gradients."""

from __future__ import annotations

import nets
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import cimq
from cimq.quantization import layer_outputs, quant_layers
from cimq.quantization.layers.products import zero_correction
from cimq.quantization.quantisers.lsq import Lsq
from cimq.quantization.quantisers.lsq_offset import LsqOffset

pytestmark = pytest.mark.filterwarnings("ignore:convert. left as they stand.*silu:cimq.CimqWarning")

LOSSY = cimq.Hardware.preset("paper").replace(rows=24, cell_bits=2, adc={"bits": 6})
CALIBRATED = cimq.Hardware.preset("paper").replace(rows=24, adc={"bits": 6, "range": "calibrated"})


class Silu(nn.Module):
    """Inputs that are a little negative, padding, and a batch normalisation to fold."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3, padding=1)
        self.conv = nn.Conv2d(6, 8, 3, stride=2, padding=(1, 2), groups=2)
        self.norm = nn.BatchNorm2d(8)
        self.fc = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = F.silu(self.stem(x))
        return self.fc(F.hardtanh(self.norm(self.conv(x)), -0.3, 2.0).mean((2, 3)))


def prepared(bits: int = 4, hardware: object = "paper") -> tuple[nn.Module, Tensor]:
    x = nets.images(6, 9)
    q = cimq.prepare(nets.randomise(Silu()), cimq.Policy.uniform(bits, bits), hardware, act_offset=True)
    cimq.calibrate(q, [x])
    return q, x


@settings(max_examples=60)
@given(st.integers(1, 8), st.floats(-300, 5), st.floats(0.01, 2.0), st.integers(0, 1000))
def test_integers_and_zero_point_give_the_fake_quantised_value(
    bits: int, offset: float, scale: float, seed: int
) -> None:
    x = torch.randn(50, generator=torch.Generator().manual_seed(seed)) * 10
    s, levels = torch.tensor(scale), 2**bits - 1
    quantiser = LsqOffset(s, torch.tensor(offset), bits)
    zero = quantiser.zero
    assert -levels <= int(zero) <= 0
    q = quantiser.integers(x)
    assert q.dtype == torch.uint8
    assert int(q.max()) <= levels
    assert torch.equal((q.int() + zero).float() * s, quantiser.fake(x))
    assert int(quantiser.integers(torch.zeros(1))) == -int(zero)  # the number 0 is on the grid
    again = LsqOffset(quantiser.state()["scale"], quantiser.state()["zero"].float(), bits)
    assert torch.equal(again.integers(x), q)


def test_gradients_are_those_of_the_paper() -> None:
    """Against finite sums written out: inside straight through, outside the bound moves with scale and offset."""
    x = torch.tensor([[-3.0, -0.4, 0.3, 0.75, 9.0]], requires_grad=True)
    scale = torch.tensor(0.5, requires_grad=True)
    offset = torch.tensor(-1.2, requires_grad=True)  # z = -1, grid -0.5 .. 1.0 for two bits
    g = torch.tensor([[1.0, 2.0, 4.0, 8.0, 16.0]])
    y = LsqOffset(scale, offset, 2).fake(x)
    assert y.tolist() == [[-0.5, -0.5, 0.5, 1.0, 1.0]]
    (y * g).sum().backward()
    factor = (5 * 3) ** -0.5
    assert x.grad is not None
    assert x.grad.tolist() == [[0.0, 2.0, 4.0, 8.0, 0.0]]
    inside = 2 * (-1 + 0.8) + 4 * (1 - 0.6) + 8 * (2 - 1.5)
    assert float(scale.grad) == pytest.approx((-1 * 1 + inside + 2 * 16) * factor, rel=1e-5)
    assert float(offset.grad) == pytest.approx(0.5 * 17 * factor, rel=1e-5)


def test_an_offset_is_better_than_a_sign_after_silu() -> None:
    x = F.silu(torch.randn(1, 4000, generator=torch.Generator().manual_seed(0)) * 2)
    for bits in (2, 3, 4, 8):
        quantiser = LsqOffset.calibrate(x, bits, "mse")
        error = ((quantiser.integers(x).int() + quantiser.zero) * quantiser.scale - x).square().mean()
        low, high = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
        signed = Lsq.calibrate(x, low, high).scale
        assert float(error) < float(((x / signed).round().clamp(low, high) * signed - x).square().mean())


def test_minmax_covers_what_was_seen_and_zero() -> None:
    for x in (torch.tensor([[-1.0, 5.0]]), torch.tensor([[2.0, 5.0]]), torch.tensor([[-3.0, -1.0]])):
        for bits in range(1, 9):
            found = LsqOffset.calibrate(x, bits, "minmax")
            s, z = found.scale, found.zero
            assert float(s * z) <= min(0.0, float(x.min())) + float(s) / 2
            assert float(s * (z + 2**bits - 1)) >= max(0.0, float(x.max())) - float(s) / 2
    assert [float(LsqOffset.calibrate(torch.zeros(1, 2), bits, "minmax").scale) for bits in range(1, 9)] == [1.0] * 8


@pytest.mark.parametrize("hardware", ["paper", LOSSY, CALIBRATED], ids=["ideal", "lossy", "calibrated"])
@pytest.mark.parametrize("bits", [1, 4, 8])
def test_converted_equals_prepared_bit_for_bit(bits: int, hardware: object) -> None:
    q, x = prepared(bits, hardware)
    assert not any(layer.act_signed for _, layer in quant_layers(q))
    converted = cimq.convert(q, sample_input=x)
    with torch.no_grad():
        for batch in (x, x[:1]):
            assert torch.equal(converted(batch), q.eval()(batch))
    assert bits == 1 or converted.conv.act_zero < 0


def test_the_crossbar_gets_unsigned_integers_and_the_rest_is_digital() -> None:
    q, x = prepared(4)
    converted = cimq.convert(q)
    Y = layer_outputs(converted, x)["stem"]
    z, w = int(q.stem.act_zero), q.stem.integer_weight()
    x_q = q.stem.quantize_input(x)
    assert (int(x_q.min()), int(x_q.max())) == (0, 15)
    assert torch.equal(Y, F.conv2d(F.pad(x_q.double(), (1, 1, 1, 1), value=-z), w.double()).int())
    assert torch.equal(converted.stem.correction, z * w.flatten(1).sum(1, dtype=torch.int32))
    assert torch.equal(zero_correction(w, torch.tensor(z)), converted.stem.correction)


@pytest.mark.parametrize("hardware", ["paper", LOSSY], ids=["ideal", "lossy"])
def test_training_is_evaluation_on_the_same_grid(hardware: object) -> None:
    q, x = prepared(4, hardware)
    q.norm.eval()
    trained = q.stem.train()(x)
    with torch.no_grad():
        torch.testing.assert_close(q.stem.eval()(x), trained, rtol=1e-4, atol=1e-5)


def test_offsets_learn_survive_the_state_dict_and_have_their_group() -> None:
    q, x = prepared(3)
    scales = cimq.param_groups(q, lr=0.1)[1]["params"]
    assert any(p is q.conv.act_offsets for p in scales)
    history = cimq.finetune(q, [(x, torch.arange(6) % 4)], epochs=8, lr=0.05)
    assert history[-1].loss < history[0].loss
    assert float(q.conv.act_offsets.grad.abs().sum()) > 0
    fresh = cimq.prepare(Silu(), cimq.Policy.uniform(3, 3), act_offset=True)
    fresh.load_state_dict(q.state_dict())
    with torch.no_grad():
        assert torch.equal(fresh.eval()(x), q.eval()(x))
    fresh.load_state_dict(Silu().state_dict())
    with pytest.raises(ValueError, match=r"call cimq\.calibrate"):
        fresh(x)


def test_non_finite_input_is_refused_by_layer_name() -> None:
    q, x = prepared()
    x[0, 0, 0, 0] = float("inf")
    with pytest.raises(ValueError, match="layer 'stem'"), torch.no_grad():
        q.eval()(x)
