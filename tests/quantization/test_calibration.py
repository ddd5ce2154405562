from __future__ import annotations

import random
from collections import OrderedDict

import nets
import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import cimq
from cimq.quantization import calibrate_converters, layer_shapes, set_hardware


def test_finds_signs_and_sets_every_width() -> None:
    q = cimq.prepare(nets.randomise(nets.SmallCnn()))
    cimq.calibrate(q, [(nets.images(), None)])
    assert [q.conv1.act_signed, q.conv2.act_signed, q.fc.act_signed] == [True, False, False]
    assert bool((q.conv1.act_scales > 0).all())
    assert q.conv1.act_scales[1:].tolist() == sorted(q.conv1.act_scales[1:].tolist(), reverse=True)


def test_minmax_clips_nothing() -> None:
    x = nets.images()
    q = cimq.prepare(nets.randomise(nets.SmallCnn()), cimq.Policy.uniform(8, 8))
    cimq.calibrate(q, [(x, None)], method="minmax")
    low, high = float(x.min()), float(x.max())
    assert q.conv1.act_scale.item() == pytest.approx(max(high / 127, -low / 128))


@pytest.mark.parametrize(
    "batch",
    [
        lambda x: (x, torch.zeros(8)),
        lambda x: [x],
        lambda x: x,
        lambda x: {"x": x, "labels": torch.zeros(8)},
    ],
)
def test_kinds_of_batches(batch: object) -> None:
    q = cimq.prepare(nets.randomise(nets.SmallCnn()))
    cimq.calibrate(q, [batch(nets.images())])  # type: ignore[operator]
    assert q.conv1.act_signed


def test_forward_fn() -> None:
    q = cimq.prepare(nets.randomise(nets.SmallCnn()))
    cimq.calibrate(q, [{"picture": nets.images()}], forward_fn=lambda model, batch: model(batch["picture"]))
    assert q.conv1.act_signed


def test_uses_at_most_so_many_batches_and_keeps_modes_and_random_state() -> None:
    q = cimq.prepare(nets.randomise(nets.SmallCnn())).train()
    q.bn1.eval()
    statistics = q.bn2.running_mean.clone()
    loader = DataLoader(TensorDataset(nets.images(32), torch.zeros(32)), batch_size=4, shuffle=True)
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()
    seen = []

    def forward(model: nn.Module, batch: list[Tensor]) -> None:
        seen.append(len(batch[0]))
        model(batch[0])

    cimq.calibrate(q, loader, batches=3, forward_fn=forward)
    assert seen == [4, 4, 4]
    assert torch.equal(torch.get_rng_state(), states[0])
    assert (random.getstate(), np.random.get_state()[1].tolist()) == states[1:]
    assert q.training
    assert not q.bn1.training
    assert torch.equal(q.bn2.running_mean, statistics)


def test_refusals() -> None:
    q = cimq.prepare(nets.SmallCnn())
    with pytest.raises(ValueError, match="loader is empty"):
        cimq.calibrate(q, [])
    with pytest.raises(ValueError, match="method must be one of mse, minmax"):
        cimq.calibrate(q, [nets.images()], method="kl")
    with pytest.raises(ValueError, match="batches must be at least 1"):
        cimq.calibrate(q, [nets.images()], batches=0)
    with pytest.raises(ValueError, match="input of layer 'conv1' holds NaN"):
        cimq.calibrate(q, [nets.images() * float("inf")])
    with pytest.raises(TypeError, match="a loader must yield"):
        cimq.calibrate(q, [3])


def test_layer_shapes_names_layers_that_are_not_called() -> None:
    with pytest.raises(ValueError, match="does not call spare; calibrate leaves such layers in fp32"):
        layer_shapes(cimq.prepare(nets.SkipsOne()), torch.rand(2, 4))


def test_layer_shapes_match_the_layers() -> None:
    model = nn.Sequential(nn.Conv2d(4, 8, 3, stride=2, groups=2), nn.Flatten(2), nn.Linear(16, 5))
    shapes = layer_shapes(cimq.prepare(model), nets.images(3, 9, channels=4))
    assert [(s.name, s.kind, s.outputs, s.inputs, s.invocations, s.repeats) for s in shapes] == [
        ("0", "conv2d", 4, 18, 16, 2),
        ("2", "linear", 5, 16, 8, 1),
    ]


def test_layer_shapes_count_a_layer_used_twice_twice() -> None:
    shared = nn.Conv2d(3, 3, 3, padding=1)
    shapes = layer_shapes(cimq.prepare(nn.Sequential(shared, shared)), nets.images(2, 5))
    assert [s.invocations for s in shapes] == [50]


def test_an_input_of_zeros_is_named() -> None:
    net = nn.Sequential(OrderedDict(fc=nn.Linear(4, 4), relu=nn.ReLU(), head=nn.Linear(4, 2)))
    nn.init.constant_(net.fc.bias, -1e9)
    q = cimq.prepare(net, cimq.Policy.uniform(4, 4))
    with pytest.warns(cimq.CimqWarning, match=r"these layers is zero in all 2 batches: head\. Their") as caught:
        cimq.calibrate(q, [torch.rand(8, 4)] * 2)
    assert len(caught) == 1
    assert q.head.act_scale.item() == 1


def test_scales_are_float32_whatever_the_default_dtype() -> None:
    torch.set_default_dtype(torch.float64)
    try:
        net = nets.randomise(nets.SmallCnn()).float()
        x = nets.images().float()
        q = cimq.prepare(net, cimq.Policy.uniform(4, 4))
        cimq.calibrate(q, [x])
        cimq.set_policy(q, cimq.Policy.uniform(3, 3))
        training = q.train()(x)
        training.sum().backward()
        evaluation = q.eval()(x)
        converted = cimq.convert(q)(x)
    finally:
        torch.set_default_dtype(torch.float32)
    assert {p.dtype for p in q.parameters()} == {training.dtype} == {evaluation.dtype} == {torch.float32}
    assert torch.equal(evaluation, converted)


def test_reestimated_statistics_are_the_mean_over_batches() -> None:
    q = cimq.prepare(nets.randomise(nets.SmallCnn()), cimq.Policy.uniform(8, 8)).eval()
    batches = [nets.images(8, seed=seed) for seed in range(3)]
    cimq.calibrate(q, batches)
    cimq.reestimate_bn(q, batches)
    q.conv1.train()
    with torch.no_grad():
        means = torch.stack([q.conv1(x).mean((0, 2, 3)) for x in batches]).mean(0)
    torch.testing.assert_close(q.bn1.running_mean, means, rtol=1e-4, atol=1e-5)
    assert q.bn1.momentum == 0.1
    assert not q.bn1.training
    with pytest.raises(ValueError, match="loader is empty"):
        cimq.reestimate_bn(q, [])
    torch.testing.assert_close(q.bn1.running_mean, means, rtol=1e-4, atol=1e-5)


def test_converter_ranges_of_a_trained_network_on_another_machine() -> None:
    x = torch.rand(32, 40)
    machine = cimq.Hardware.preset("paper").replace(rows=16, adc={"bits": 3, "range": "calibrated"})
    q = cimq.prepare(nn.Sequential(nn.Linear(40, 8)), cimq.Policy.uniform(4, 4), "paper")
    cimq.calibrate(q, [x])
    layer = q[0]
    with torch.no_grad():
        layer.act_scales.mul_(1.5)  # as training might
    trained = layer.act_scales.clone()
    set_hardware(q, machine)
    with pytest.raises(ValueError, match="calibrate"):
        q.eval()(x)
    calibrate_converters(q, [x])
    assert torch.equal(layer.act_scales, trained)
    ranges = layer.adc_ranges[layer.weight_bits - 1, layer.act_bits - 1]
    assert (ranges[1] > 0).any()
    assert q(x).isfinite().all()
    before = ranges.clone()
    calibrate_converters(q, [x], adc_method="mse")
    assert not torch.equal(before, ranges)


def test_converter_ranges_refusals() -> None:
    x = torch.rand(4, 40)
    machine = cimq.Hardware.preset("paper").replace(adc={"bits": 6, "range": "calibrated"})
    q = cimq.prepare(nn.Sequential(nn.Linear(40, 8)), cimq.Policy.uniform(4, 4), machine)
    with pytest.raises(ValueError, match=r"not calibrated: 0; call calibrate"):
        calibrate_converters(q, [x])
    cimq.calibrate(q, [x])
    with pytest.raises(ValueError, match="adc_method must be one of percentile, mse, got 'max'"):
        calibrate_converters(q, [x], adc_method="max")
    with pytest.raises(ValueError, match="the loader is empty or does not reach 0"):
        calibrate_converters(q, [])
    with pytest.raises(ValueError, match="input of layer '0' holds NaN"):
        calibrate_converters(q, [x * float("nan")])
    set_hardware(q, "paper")
    with pytest.raises(ValueError, match=r"no layer's machine has adc.range calibrated or learned"):
        calibrate_converters(q, [x])
