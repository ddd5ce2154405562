"""Weights that hooks and parametrizations compute from other parameters."""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, prune

import cimq


def pruned() -> nn.Module:
    net = plain()
    prune.l1_unstructured(net[0], "weight", 0.5)
    return net


def old_weight_norm() -> nn.Module:
    net = plain()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        nn.utils.weight_norm(net[0])
    return net


def old_spectral_norm() -> nn.Module:
    net = plain()
    nn.utils.spectral_norm(net[0])
    return net


def weight_norm() -> nn.Module:
    net = plain()
    parametrizations.weight_norm(net[0])
    return net


def plain() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, 3))


@pytest.mark.parametrize("make", [pruned, old_weight_norm, old_spectral_norm, weight_norm])
@pytest.mark.parametrize("inplace", [False, True])
def test_train_and_convert(make: Callable[[], nn.Module], inplace: bool) -> None:
    x, y = torch.randn(16, 12), torch.arange(16) % 3
    net = make()
    with torch.no_grad():
        wanted = net.eval()(x)
    q = cimq.prepare(net, cimq.Policy.uniform(8, 8), inplace=inplace)
    cimq.calibrate(q, [x])
    assert q[0].weight_scales.requires_grad
    with torch.no_grad():
        assert float((q(x) - wanted).abs().max()) < 0.05 * float(wanted.abs().max())
    q.train()
    optimizer = torch.optim.SGD(cimq.param_groups(q, lr=0.5), momentum=0.9)
    for _ in range(2):
        optimizer.zero_grad()
        nn.functional.cross_entropy(q(x), y).backward()
        optimizer.step()
    converted = cimq.convert(q)  # the last step came after the last forward
    with torch.no_grad():
        assert torch.equal(converted(x), q.eval()(x))


def test_pruned_weights_stay_zero() -> None:
    net = pruned()
    q = cimq.prepare(net, cimq.Policy.uniform(4, 4))
    x = torch.randn(16, 12)
    cimq.calibrate(q, [x])
    cimq.finetune(q, [(x, torch.arange(16) % 3)], epochs=3, lr=0.1)
    integers = cimq.convert(q.eval()).get_submodule("0").weight_q
    assert not integers[net[0].weight_mask == 0].any()
    assert integers.any()


def test_frozen_ones_have_frozen_scales() -> None:
    net = pruned()
    net[0].weight_orig.requires_grad_(False)
    q = cimq.prepare(net)
    assert not q[0].weight_scales.requires_grad
    assert q[2].weight_scales.requires_grad


def test_pickling_a_parametrized_layer_says_what_to_do() -> None:
    q = cimq.prepare(weight_norm())
    with pytest.raises(RuntimeError, match=r"layer '0' has parametrizations.*remove_parametrizations"):
        pickle.dumps(q)
