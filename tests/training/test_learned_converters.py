"""Converters whose step is trained, and the choice of which conversions gradients pass."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import nets
import pytest
import torch
from torch import nn

import cimq
from cimq.quantization import layer_outputs, quant_layers, set_hardware
from cimq.quantization.quantisers.adc_ranges import SMALLEST_STEP, step_factors

BASE = cimq.Hardware.preset("paper").replace(rows=64, cell_bits=2)
MACHINES = {
    "differential": BASE.replace(adc={"bits": 4, "range": "learned"}),
    "per_column": BASE.replace(adc={"bits": 4, "range": "learned", "placement": "per_column"}),
    "offset": BASE.replace(adc={"bits": 5, "range": "learned"}, mapping="offset"),
    "noisy": BASE.replace(
        adc={"bits": 4, "range": "learned"}, cell={"programming": {"model": "gaussian", "sigma_levels": 0.1}}
    ),
}
LEARNED = MACHINES["differential"]


def prepared(hardware: cimq.Hardware, bits: int = 4, **options: Any) -> tuple[nn.Module, torch.Tensor]:
    x = nets.images(8, 10)
    q = cimq.prepare(nets.randomise(nets.SmallCnn()), cimq.Policy.uniform(bits, bits), hardware, **options)
    cimq.calibrate(q, [(x, None)])
    return q, x


@pytest.mark.parametrize("kind", MACHINES)
def test_learned_steps_start_as_the_calibrated_ones(kind: str) -> None:
    learned, x = prepared(MACHINES[kind])
    calibrated, _ = prepared(MACHINES[kind].replace(adc={"range": "calibrated"}))
    with torch.no_grad():
        assert torch.equal(learned.eval()(x), calibrated.eval()(x))
    for (_, layer), (_, other) in zip(quant_layers(learned), quant_layers(calibrated), strict=True):
        assert torch.equal(layer._mvm_options()["adc_lsb"], other._mvm_options()["adc_lsb"])
        assert isinstance(layer.adc_lsb, nn.Parameter)
        assert other.adc_lsb is None
        assert "adc_lsb" not in other.state_dict()


@pytest.mark.parametrize("kind", MACHINES)
def test_training_moves_the_steps_and_the_result_is_what_is_converted(kind: str) -> None:
    q, x = prepared(MACHINES[kind])
    before = {name: layer.adc_lsb.detach().clone() for name, layer in quant_layers(q)}
    target = torch.arange(8) % 4
    history = cimq.finetune(q, [(x, target)], epochs=25, lr=0.1)
    assert history[-1].loss < 0.6 * history[0].loss
    for name, layer in quant_layers(q):
        used = torch.zeros(8, 8, 8, dtype=torch.bool)
        used[3, 3, :2] = True
        change = (layer.adc_lsb.detach() - before[name]).abs()
        assert (change <= 0.5 * before[name]).all(), name
        assert not change[~used].any()
        lossy = before[name] != 1  # a step of one level that clips nothing has the gradient 0
        assert (change[used & lossy] > 0).all(), name
    converted = cimq.convert(q, sample_input=x)
    with torch.no_grad():
        assert torch.equal(converted(x), q.eval()(x))
    assert all(y.dtype == torch.float32 for y in layer_outputs(converted, x).values())


@pytest.mark.parametrize("factor", [4.0, 0.3], ids=["coarse", "narrow"])
def test_a_bad_start_is_trained_away(factor: float) -> None:
    """Only steps are trained; the result is better than what calibration found."""
    torch.manual_seed(0)
    layer = nn.Linear(64, 16, bias=False)
    x = torch.rand(256, 64)
    q = cimq.prepare(nn.Sequential(layer), cimq.Policy.uniform(4, 4), LEARNED)
    cimq.calibrate(q, [(x, None)])
    wanted = layer(x).detach()
    q.train()
    calibrated = (q(x) - wanted).square().mean().item()
    step = q[0].adc_lsb
    with torch.no_grad():
        step *= factor
    assert (q(x) - wanted).square().mean().item() > 5 * calibrated
    optimizer = torch.optim.SGD([step], lr=0.1, momentum=0.9)
    for _ in range(150):
        optimizer.zero_grad()
        (q(x) - wanted).square().mean().backward()
        optimizer.step()
    assert (q(x) - wanted).square().mean().item() < calibrated


def test_the_gradient_of_the_step_is_the_operators_times_the_lsq_factor() -> None:
    layer = nn.Conv2d(4, 6, 3, padding=1, bias=False)
    x = nets.images(4, 8, channels=4)
    q = cimq.prepare(nn.Sequential(layer), cimq.Policy.uniform(4, 4), LEARNED)
    cimq.calibrate(q, [(x, None)])
    q.train()
    y = q(x)
    y.sum().backward()
    quantised = q[0]
    lsb = quantised._mvm_options()["adc_lsb"].requires_grad_()
    x_q = torch.clamp(torch.round(x / quantised.act_scale), *quantised.act_limits()).detach()
    plain = cimq.ops.crossbar_conv2d(
        x_q, quantised.integer_weight(), LEARNED, weight_bits=4, act_bits=4, act_signed=bool(quantised.act_signed),
        padding=1, adc_lo=torch.zeros(2, dtype=torch.int32), adc_lsb=lsb,
    )  # fmt: skip
    scales = (quantised.act_scale * quantised.weight_scale).detach()
    (plain * scales.reshape(-1, 1, 1)).sum().backward()
    # conversions of a sample: 8 * 8 pixels, 6 outputs, one tile, four digits; the largest code of 4 bits is 7
    unit = quantised.act_scale.detach() * quantised.weight_scale.detach().mean()
    worth = unit * torch.tensor([1.0, 4.0]) * 8
    expected = lsb.grad / (worth.square() * (8 * 8 * 6 * 4 * 7) ** 0.5)
    torch.testing.assert_close(quantised.adc_lsb.grad[3, 3, :2], expected, rtol=1e-4, atol=0)
    torch.testing.assert_close(step_factors(LEARNED, 4, 4, 8 * 8 * 6, 36, unit), expected / lsb.grad)


def test_steps_are_trained_with_the_scales_and_follow_policy_and_state() -> None:
    q, x = prepared(LEARNED)
    groups = {group["name"]: group for group in cimq.param_groups(q, lr=0.1, weight_decay=1e-3)}
    for _, layer in quant_layers(q):
        assert any(p is layer.adc_lsb for p in groups["scales"]["params"])
    assert groups["scales"]["weight_decay"] == 0
    with torch.no_grad():
        q.conv1.adc_lsb[3, 3] *= 1.5
    trained = q.conv1._mvm_options()["adc_lsb"]
    cimq.set_policy(q, cimq.Policy.uniform(2, 3))
    assert q.conv1._mvm_options()["adc_lsb"].shape == (1,)
    cimq.set_policy(q, cimq.Policy.uniform(4, 4))
    assert torch.equal(q.conv1._mvm_options()["adc_lsb"], trained)
    fresh = cimq.prepare(nets.SmallCnn(), cimq.Policy.uniform(4, 4), LEARNED)
    fresh.load_state_dict(q.state_dict())
    with torch.no_grad():
        assert torch.equal(fresh.eval()(x), q.eval()(x))
        assert torch.equal(copy.deepcopy(q)(x), q(x))
    set_hardware(fresh, LEARNED.replace(adc={"range": "full_scale"}))
    assert "conv1.adc_lsb" not in fresh.state_dict()
    fresh.load_state_dict(nets.SmallCnn().state_dict())  # fp32: loads strictly


def test_a_step_that_training_drove_below_zero_stays_usable() -> None:
    q, x = prepared(LEARNED)
    with torch.no_grad():
        q.conv1.adc_lsb[3, 3] = -1.0
        assert torch.equal(q.conv1._mvm_options()["adc_lsb"], torch.full((2,), SMALLEST_STEP))
        assert torch.isfinite(q.eval()(x)).all()
    q.train()(x).square().sum().backward()
    assert q.conv1.adc_lsb.grad[3, 3, :2].abs().min() > 0


def test_no_range_says_what_to_do() -> None:
    q = cimq.prepare(nets.SmallCnn(), hardware=LEARNED)
    for _, layer in quant_layers(q):
        layer.set_act_scales(torch.ones(8), signed=False)
    for mode in (True, False):
        with pytest.raises(ValueError, match=r"'conv1' has no converter range for W8A8; call cimq\.calibrate"):
            q.train(mode)(nets.images(2, 10))


def test_clip_stops_gradients_that_identity_passes() -> None:
    gradients = {}
    for adc_grad in ("identity", "clip"):
        q, x = prepared(LEARNED, adc_grad=adc_grad)
        assert {layer.adc_grad for _, layer in quant_layers(q)} == {adc_grad}
        with torch.no_grad():
            for _, layer in quant_layers(q):
                layer.adc_lsb.mul_(0.1)  # nearly everything clips
        q.train()(x).square().sum().backward()
        gradients[adc_grad] = q.conv2.weight.grad
    assert gradients["clip"].norm() < 0.7 * gradients["identity"].norm()
    q.conv1.adc_grad = "identity"  # the attribute is what counts
    q.conv2.adc_grad = "none"
    with pytest.raises(ValueError, match="adc_grad must be one of identity, clip, got 'none'"):
        q(x)
    with pytest.raises(ValueError, match="adc_grad must be one of identity, clip, got 'none'"):
        cimq.prepare(nets.SmallCnn(), adc_grad="none")


def test_clip_is_identity_where_nothing_clips() -> None:
    gradients = []
    for adc_grad in ("identity", "clip"):
        q, x = prepared(BASE.replace(adc={"bits": 6}), adc_grad=adc_grad)
        q.train()(x).square().sum().backward()
        gradients.append([p.grad for p in q.parameters()])
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


def test_calibrate_chooses_how_ranges_are_found() -> None:
    found = {}
    for method in ("percentile", "mse"):
        q, x = prepared(LEARNED.replace(adc={"bits": 3, "range": "calibrated"}))
        cimq.calibrate(q, [(x, None)], adc_method=method)
        first = q.conv2._mvm_options()["adc_lsb"]
        cimq.set_policy(q, cimq.Policy.uniform(3, 5))  # later bits are found the same way
        found[method] = (first, q.conv2._mvm_options()["adc_lsb"])
    assert all((a != b).any() for a, b in zip(found["percentile"], found["mse"], strict=True))
    with pytest.raises(ValueError, match="adc_method must be one of percentile, mse, got 'max'"):
        cimq.calibrate(q, [(x, None)], adc_method="max")


def test_every_kind_of_product_trains_its_step() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv1d(8, 8, 3, stride=2, padding=1)
            self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.conv(x.transpose(1, 2)).transpose(1, 2)
            return self.attention(x, x, x, need_weights=False)[0]

    torch.manual_seed(0)
    x = torch.randn(3, 9, 8)
    q = cimq.prepare(Net(), cimq.Policy.uniform(4, 4), BASE.replace(adc={"bits": 3, "range": "learned"}))
    cimq.calibrate(q, [(x, None)])
    q.train()(x).square().sum().backward()
    for name, layer in quant_layers(q):
        assert layer.adc_lsb.grad[3, 3, 0].abs() > 0, name


def test_the_training_machine_must_have_the_learned_converter() -> None:
    with pytest.raises(ValueError, match=r"its adc must be that of the machine"):
        cimq.prepare(nets.SmallCnn(), hardware=BASE, training_hardware=LEARNED)
    q, x = prepared(LEARNED, training_hardware=BASE)
    q.train()(x).square().sum().backward()
    assert q.conv1.adc_lsb.grad is None


@pytest.mark.parametrize("kind", [*MACHINES, "one_level"])
def test_the_executor_gives_the_same_integers(kind: str, tmp_path: Path) -> None:
    one_level = BASE.replace(adc={"bits": 10, "range": "learned"})  # every step is exactly 1
    q, x = prepared(MACHINES.get(kind, one_level))
    if kind != "one_level":
        cimq.finetune(q, [(x, torch.arange(8) % 4)], epochs=2, lr=0.1)
    cimq.export(q, tmp_path / "net.cimq", sample_input=x[:1])
    bundle = cimq.load_bundle(tmp_path / "net.cimq")
    with torch.no_grad():
        assert torch.equal(torch.as_tensor(bundle.run(x[:1].numpy())), q.eval()(x[:1]))
