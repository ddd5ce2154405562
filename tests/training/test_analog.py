"""Training and evaluation on machines whose converters lose something, or whose cells vary."""

from __future__ import annotations

import copy

import nets
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import cimq
from cimq.quantization import layer_outputs, quant_layers, set_chip, set_hardware

PAPER = cimq.Hardware.preset("paper").replace(rows=64, cell_bits=2)
LOSSY = {
    "full_scale": PAPER.replace(adc={"bits": 6}),
    "per_column": PAPER.replace(adc={"bits": 6, "placement": "per_column"}),
    "offset": PAPER.replace(adc={"bits": 7}, mapping="offset"),
    "calibrated": PAPER.replace(adc={"bits": 5, "range": "calibrated"}),
}
NOISY = PAPER.replace(cell={"programming": {"model": "gaussian", "sigma_levels": 0.1}})


def prepared(hardware: cimq.Hardware, bits: int = 4) -> tuple[nn.Module, torch.Tensor]:
    x = nets.images(8, 10)
    q = cimq.prepare(nets.randomise(nets.SmallCnn()), cimq.Policy.uniform(bits, bits), hardware)
    cimq.calibrate(q, [(x, None)])
    return q, x


def test_collapses_only_where_nothing_is_lost() -> None:
    assert PAPER.lossless
    assert not any(hardware.lossless for hardware in (*LOSSY.values(), NOISY))
    granular = PAPER.replace(adc={"bits": 9, "range": "granular"})  # 64 rows * 3 levels * 1, and the sign
    assert granular.lossless
    assert not granular.replace(adc={"bits": 8}).lossless


@pytest.mark.parametrize("kind", LOSSY)
def test_training_sees_the_converter(kind: str) -> None:
    q, x = prepared(LOSSY[kind])
    digital = copy.deepcopy(q)
    set_hardware(digital, PAPER)
    state = copy.deepcopy(q.state_dict())
    lossy, ideal = q.train()(x), digital.train()(x)
    assert not torch.equal(lossy, ideal)
    # The same integers as in evaluation: with batch statistics of this batch, training and evaluation agree.
    q.load_state_dict(state)
    cimq.reestimate_bn(q, [(x, None)])
    count = 8 * 10 * 10
    q.bn1.running_var.mul_((count - 1) / count)  # PyTorch keeps the unbiased variance and uses the biased one
    count = 8 * 3 * 3
    q.bn2.running_var.mul_((count - 1) / count)
    with torch.no_grad():
        torch.testing.assert_close(q.eval()(x), lossy.detach(), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("kind", LOSSY)
def test_gradient_is_straight_through(kind: str) -> None:
    """The crossbar's gradient is that of the fake-quantised product at the same point."""
    layer = nn.Conv2d(3, 6, 3, stride=2, padding=1, groups=3)
    x = nets.images(4, 9)
    weight_of_output = nets.images(4, 5, seed=3, channels=6)
    grads = []
    for hardware in (LOSSY[kind], PAPER):
        q = cimq.prepare(nn.Sequential(copy.deepcopy(layer)), cimq.Policy.uniform(4, 4), hardware)
        cimq.calibrate(q, [x])
        inputs = x.clone().requires_grad_()
        (q.train()(inputs) * weight_of_output).sum().backward()
        grads.append([inputs.grad, *(p.grad for p in q.parameters())])
    for analog, digital in zip(*grads, strict=True):
        torch.testing.assert_close(analog, digital, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("hardware", [*LOSSY.values(), NOISY], ids=[*LOSSY, "noisy"])
def test_converted_equals_prepared_bit_for_bit(hardware: cimq.Hardware) -> None:
    q, x = prepared(hardware)
    converted = cimq.convert(q, sample_input=x)
    with torch.no_grad():
        assert torch.equal(converted(x), q.eval()(x))
    assert all(y.dtype == torch.float32 for y in layer_outputs(converted, x).values())


def test_training_recovers_what_a_coarse_converter_costs() -> None:
    hardware = PAPER.replace(adc={"bits": 4, "range": "calibrated"})
    q, x = prepared(hardware)
    target = torch.arange(8) % 4
    history = cimq.finetune(q, [(x, target)], epochs=25, lr=0.1)
    assert history[-1].loss < 0.5 * history[0].loss
    assert cimq.evaluate(q, [(x, target)]) == 1.0


def test_calibrated_ranges_follow_the_policy_and_the_state_dict() -> None:
    q, x = prepared(LOSSY["calibrated"])
    first = q.conv1._mvm_options()
    assert first["adc_lsb"].shape == (2,)
    cimq.set_policy(q, cimq.Policy.uniform(2, 3))
    second = q.conv1._mvm_options()
    assert second["adc_lsb"].shape == (1,)
    cimq.set_policy(q, cimq.Policy.uniform(4, 4))
    assert torch.equal(q.conv1._mvm_options()["adc_lsb"], first["adc_lsb"])
    fresh = cimq.prepare(nets.SmallCnn(), cimq.Policy.uniform(4, 4), LOSSY["calibrated"])
    fresh.load_state_dict(q.state_dict())
    with torch.no_grad():
        assert torch.equal(fresh.eval()(x), q.eval()(x))
    fresh.load_state_dict(nets.SmallCnn().state_dict())  # fp32: loads strictly, asks for calibration
    with pytest.raises(ValueError, match=r"call cimq\.calibrate"):
        fresh(x)


def test_missing_converter_range_says_what_to_do() -> None:
    q, x = prepared(LOSSY["calibrated"])
    fresh = cimq.prepare(nets.SmallCnn(), cimq.Policy.uniform(4, 4), LOSSY["calibrated"])
    fresh.load_state_dict(q.state_dict())
    cimq.set_policy(fresh, cimq.Policy.uniform(3, 3))  # no data to calibrate from here
    with pytest.raises(ValueError, match=r"'conv1' has no converter range for W3A3; call cimq\.calibrate"):
        fresh.eval()(x)


def test_every_training_step_has_a_fresh_chip_and_evaluation_its_own() -> None:
    q, x = prepared(NOISY)
    with torch.no_grad():
        first, again = q.eval()(x), q(x)
        assert torch.equal(first, again)
        set_chip(q, 1)
        other = q(x)
        assert not torch.equal(first, other)
        set_chip(q, 0)
        assert torch.equal(q(x), first)
        q.conv1.train()
        steps = [q.conv1(x) for _ in range(3)]
    assert not torch.equal(steps[0], steps[1])
    assert not torch.equal(steps[1], steps[2])
    assert int(q.conv1.noise_step) == 3


def test_noisy_training_is_reproducible_and_leaves_the_random_state_alone() -> None:
    results = []
    for _ in range(2):
        q, x = prepared(NOISY)
        state = torch.get_rng_state()
        F.cross_entropy(q.train()(x), torch.arange(8) % 4).backward()
        assert torch.equal(torch.get_rng_state(), state)
        results.append(q.conv2.weight.grad)
    assert torch.equal(*results)
    assert len(quant_layers(q)) == 3
