"""Inputs of odd shapes and types, and what they are told."""

from __future__ import annotations

import copy

import nets
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import cimq
from cimq.quantization.exact.exact_mode import folded_pairs


@pytest.mark.parametrize("tokens", [3, 5])
@torch.no_grad()
def test_normalisation_of_tokens_is_not_that_of_outputs(tokens: int) -> None:
    """nn.BatchNorm1d takes [N, C, L]: after a linear layer on [N, tokens, features] the tokens are its channels."""
    net = nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(tokens), nn.ReLU(), nn.Linear(5, 2))
    x = torch.randn(8, tokens, 6)
    for _ in range(20):
        net.train()(x * torch.arange(1, tokens + 1).reshape(-1, 1))
    wanted = net.eval()(x)
    q = cimq.prepare(net)
    cimq.calibrate(q, [x])
    torch.testing.assert_close(q(x), wanted, rtol=0.02, atol=0.02)
    assert torch.equal(cimq.convert(q)(x), q(x))

    again = cimq.prepare(net)
    again.load_state_dict(q.state_dict())  # nothing is known of the inputs
    converted = cimq.convert(again)
    if tokens == 5:
        with pytest.raises(ValueError, match=r"layer '0' has a batch normalisation folded.*got \[8, 5, 6\]"):
            converted(x)
    else:
        assert torch.equal(converted(x), q(x))


@torch.no_grad()
def test_normalisation_of_outputs_is_folded() -> None:
    net = nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5))
    q = cimq.prepare(net, example_inputs=torch.randn(8, 6)).eval()
    assert folded_pairs(q) == (("0", "1"),)
    x = torch.randn(4, 6)
    assert torch.equal(cimq.convert(q)(x), q(x))


def test_empty_batches() -> None:
    attention = nn.MultiheadAttention(8, 2, batch_first=True)
    x = torch.randn(2, 3, 8)
    q = cimq.prepare(attention, example_inputs=(x, x, x))
    empty = x[:0]
    for training in (True, False):
        out, weights = q.train(training)(empty, empty, empty)
        assert out.shape == (0, 3, 8)
        assert weights.shape == (0, 3, 3)
    noisy = cimq.prepare(attention, hardware="rram-wan2022", example_inputs=(x, x, x)).eval()
    assert noisy(empty, empty, empty)[0].shape == (0, 3, 8)
    linear = cimq.prepare(nn.Linear(4, 2))
    with pytest.raises(ValueError, match=r"input of layer 'model' is empty, \[0, 4\]"):
        cimq.calibrate(linear, [torch.zeros(0, 4)])


@pytest.mark.parametrize("training", [True, False])
def test_types_are_refused_by_layer(training: bool) -> None:
    x = nets.images()
    q = cimq.prepare(nets.SmallCnn(), example_inputs=x).train(training)
    for other in (x.double(), x.long()):
        with pytest.raises(TypeError, match=r"layer 'conv1' takes float32"):
            q(other)
    with pytest.raises(ValueError, match=r"layer 'conv1' has scales in torch.float16; .*autocast"):
        q.half()(x.half())


class WeightByCall(nn.Module):
    """Products and pooling by function calls that no layer stands for."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3)
        self.weight = nn.Parameter(torch.randn(8, 4) * 0.3)

    def forward(self, x: Tensor) -> Tensor:
        x = F.adaptive_avg_pool2d(self.stem(x), 2)
        x = F.linear(x.permute(0, 2, 3, 1), self.weight.t())
        return F.linear(x, (self.weight / self.weight.norm()).tanh())


@torch.no_grad()
def test_calls_left_as_they_stand_are_as_exact_as_in_the_prepared_model() -> None:
    net, x = nets.randomise(WeightByCall()), nets.images(16, 34)
    with pytest.warns(cimq.CimqWarning, match="linear with a weight that is no parameter"):
        q = cimq.prepare(net)
    cimq.calibrate(q, [x])
    with pytest.warns(cimq.CimqWarning, match="left as they stand"):
        converted = cimq.convert(q.eval())
    wanted = q(x)
    for model in (converted, nets.pickled(converted), copy.deepcopy(converted)):
        assert torch.equal(model(x), wanted)


@torch.no_grad()
def test_wrappers_are_taken_off() -> None:
    x = nets.images()
    q = cimq.prepare(nets.randomise(nets.SmallCnn()), example_inputs=x).eval()
    wanted = q(x)
    average = torch.optim.swa_utils.AveragedModel(q)
    for wrapped in (average, torch.compile(q), nn.DataParallel(q), nn.DataParallel(average)):
        converted = cimq.convert(wrapped)  # a warning would be an error: it can be traced
        assert torch.equal(converted(x), wanted)


@pytest.mark.slow
@torch.no_grad()
def test_compiled_evaluation_equals_eager() -> None:
    x = nets.images()
    q = cimq.prepare(nets.randomise(nets.SmallCnn()), cimq.Policy.uniform(4, 4), example_inputs=x).eval()
    wanted = q(x)
    torch.testing.assert_close(torch.compile(q, backend="aot_eager")(x), wanted)
    assert torch.equal(torch.compile(cimq.convert(q), backend="aot_eager")(x), wanted)
