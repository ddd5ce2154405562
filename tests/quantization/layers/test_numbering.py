"""Layers prepared one by one, and hooks between a layer and the normalisation that it computes."""

from __future__ import annotations

import warnings

import nets
import pytest
import torch
from torch import Tensor, nn

import cimq
from cimq.quantization import get_policy, layer_shapes, quant_layers, set_chip

NOISY = cimq.Hardware.preset("paper").replace(cell={"programming": {"model": "gaussian", "sigma_levels": 0.3}})
X = torch.rand(4, 8, generator=torch.Generator().manual_seed(0))


def one_by_one() -> nn.Sequential:
    m = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8))
    m[2].load_state_dict(m[0].state_dict())
    for i in (0, 2):
        m[i] = cimq.prepare(m[i], None, NOISY, example_inputs=X)
    return m.eval()


@pytest.mark.parametrize(
    "call",
    [
        lambda m: cimq.calibrate(m, [X]),
        lambda m: layer_shapes(m, X),
        lambda m: cimq.convert(m),
        lambda m: set_chip(m, 0),
        lambda m: cimq.set_policy(m, cimq.Policy({"0": (8, 8), "2": (8, 8)})),
        lambda m: cimq.evaluate(m, [(X, torch.arange(4))]),
        lambda m: cimq.reestimate_bn(m, [X]),
        lambda m: cimq.finetune(m, [(X, torch.arange(4))], epochs=1, lr=1e-9, progress=False),
    ],
)
def test_they_get_names_and_noise_of_their_own(call: object) -> None:
    m = one_by_one()
    with torch.no_grad():
        assert torch.equal(m[0](X), m[2](X))  # models of their own, on the same cells
    with pytest.warns(cimq.CimqWarning, match=r"prepared one by one and shared the name 'model' and noise.*named 0, 2"):
        call(m)  # type: ignore[operator]
    with torch.no_grad():
        assert not torch.equal(m[0](X), m[2](X))
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # said once
            assert [name for name, _ in quant_layers(m)] == ["0", "2"]
            assert list(get_policy(m)) == ["0", "2"]
            assert torch.equal(cimq.convert(m, X)(X), m(X))


def test_parts_with_different_names_are_numbered() -> None:
    m = nn.ModuleDict({"a": nn.Sequential(nn.Linear(8, 8)), "b": nn.Sequential(nn.ReLU(), nn.Linear(8, 8))})
    for key in m:
        m[key] = cimq.prepare(m[key], None, NOISY, example_inputs=X)
    with pytest.warns(cimq.CimqWarning, match="shared noise; from now on they are numbered, and named 0, 1"):
        layers = quant_layers(m)
    assert [(name, layer.layer_index) for name, layer in layers] == [("0", 0), ("1", 1)]


def test_a_part_that_is_prepared_later() -> None:
    q = cimq.prepare(nn.Sequential(nn.Linear(8, 8), nn.Sequential(nn.Linear(8, 8))), None, NOISY, example_inputs=X)
    q.append(cimq.prepare(nn.Sequential(nn.Linear(8, 3)), None, NOISY, example_inputs=X))
    with pytest.warns(cimq.CimqWarning, match=r"shared the name '0' and noise.*named 0, 1\.0, 2\.0"):
        layers = quant_layers(q)
    assert [layer.layer_index for _, layer in layers] == [0, 1, 2]


def test_one_prepare_is_left_alone() -> None:
    shared = nn.Linear(8, 8)
    q = cimq.prepare(nn.Sequential(shared, nn.ReLU(), shared, nn.Linear(8, 2)), example_inputs=X)
    assert [(name, layer.layer_index) for name, layer in quant_layers(q)] == [("0", 0), ("3", 1)]


@pytest.mark.parametrize("where", ["conv", "norm"])
def test_hooks_between_a_layer_and_its_normalisation_are_named(where: str) -> None:
    x = nets.images(4, 8)
    q = cimq.prepare(nets.randomise(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))), example_inputs=x).eval()
    seen: list[Tensor] = []
    if where == "conv":
        q[0].register_forward_hook(lambda module, args, output: seen.append(output))
    else:
        q[1].register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    with torch.no_grad():
        with pytest.warns(cimq.CimqWarning, match="hook on the output of '0' sees normalised .*'1' is part of"):
            y = q(x)
        assert torch.equal(seen[-1], y)  # what the warning says
        q(x)  # said once: a second warning would be an error
        q.train()(x)


def test_hooks_elsewhere_are_not() -> None:
    x = nets.images(4, 8)
    q = cimq.prepare(nets.randomise(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU())), example_inputs=x)
    seen: list[Tensor] = []
    q[1].register_forward_hook(lambda module, args, output: seen.append(output))
    q[2].register_forward_hook(lambda module, args, output: seen.append(output))
    with torch.no_grad():
        q.eval()(x)
    assert len(seen) == 2
