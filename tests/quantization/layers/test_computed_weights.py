"""Weights that a forward computes from parameters: what the product gets goes on the crossbars."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import nets
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import cimq
from cimq.quantization import CrossbarConv2d, CrossbarLinear, layer_shapes, quant_layers

pytestmark = pytest.mark.filterwarnings("ignore:convert. left as they stand:cimq.CimqWarning")


class StdConv2d(nn.Conv2d):
    """Of BiT, the weight by plain operations, one of them in place."""

    def forward(self, x: Tensor) -> Tensor:
        w = self.weight - self.weight.mean((1, 2, 3), keepdim=True)
        w = w / (w.std((1, 2, 3), keepdim=True) + 1e-6)
        w *= 0.5
        return F.conv2d(x, w, self.bias, self.stride, self.padding, self.dilation, self.groups)


class ScaledStdConv2d(nn.Conv2d):
    """Of NFNet, as timm writes it: a batch normalisation of the weight, with a gain."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.gain = nn.Parameter(torch.rand(self.out_channels, 1, 1, 1) + 0.5)
        self.scale = self.weight[0].numel() ** -0.5

    def forward(self, x: Tensor) -> Tensor:
        weight = F.batch_norm(
            self.weight.reshape(1, self.out_channels, -1),
            None,
            None,
            weight=(self.gain * self.scale).view(-1),
            training=True,
            momentum=0.0,
            eps=1e-6,
        ).reshape_as(self.weight)
        return F.conv2d(x, weight, self.bias, self.stride, self.padding, self.dilation, self.groups)


class SpatialMean(nn.Conv2d):
    """A mean that evaluation defines to the bit, of the weight: it must be that on both sides."""

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight - 0.7 * self.weight.mean((2, 3), keepdim=True), self.bias, 1, 1)


class BiasOutside(nn.Conv2d):
    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight, None, 1, 1) + 2 * self.bias.view(-1, 1, 1)


class BiasComputed(nn.Conv2d):
    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight, self.bias * 2, 1, 1)


class PaddedOutside(StdConv2d):
    """With a submodule."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.pad = nn.ZeroPad2d((0, 1, 0, 1))

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(self.pad(x)) * self.weight.amax()


class HalvedLinear(nn.Linear):
    def forward(self, input: Tensor) -> Tensor:
        return F.linear(input, 0.5 * self.weight, self.bias)


CONVS = [StdConv2d, ScaledStdConv2d, SpatialMean, BiasOutside, BiasComputed, PaddedOutside]


@pytest.mark.parametrize("kind", CONVS)
def test_convolutions(kind: Callable[..., nn.Module]) -> None:
    x = nets.images(4, 12)
    torch.manual_seed(0)
    body = [kind(3, 5, 3, padding=1), nn.BatchNorm2d(5), nn.ReLU(), kind(5, 6, 3, padding=1)]
    model = nets.randomise(nn.Sequential(*body, nn.Flatten(), HalvedLinear(864, 3)))
    if kind is PaddedOutside:
        model[-1] = HalvedLinear(1176, 3)
    model.eval()
    q = cimq.prepare(model, cimq.Policy.uniform(8, 8), example_inputs=x).eval()
    assert [name for name, _ in quant_layers(q)] == ["0", "3", "5"]
    with torch.no_grad():
        wanted = model(x)
        assert float((q(x) - wanted).norm() / wanted.norm()) < 0.03
        for converted in (cimq.convert(q), cimq.convert(q, x)):
            for batch in (x, x[:1]):
                assert torch.equal(converted(batch), q(batch))
            assert isinstance(converted.get_submodule("0"), CrossbarConv2d)
            assert isinstance(converted.get_submodule("5"), CrossbarLinear)
        for again in (copy.deepcopy(q), pickle.loads(pickle.dumps(q))):
            assert torch.equal(again(x), q(x))


@pytest.mark.parametrize("kind", CONVS[:2])
def test_they_train_through_the_computation(kind: Callable[..., nn.Module]) -> None:
    x = nets.images(16, 8)
    torch.manual_seed(0)
    model = nn.Sequential(kind(3, 5, 3, padding=1), nn.Flatten(), nn.Linear(320, 3))
    q = cimq.prepare(model, cimq.Policy.uniform(8, 8), example_inputs=x).train()
    for net in (model, q):
        net.zero_grad()
        F.cross_entropy(net(x), torch.arange(16) % 3).backward()
    for name, parameter in model[0].named_parameters():
        got, wanted = q[0].get_parameter(name).grad, parameter.grad
        assert float((got - wanted).norm() / wanted.norm()) < 0.1, name
    history = cimq.finetune(q, [(x, torch.arange(16) % 3)], epochs=3, lr=0.02, progress=False)
    assert history[-1].loss < history[0].loss
    with torch.no_grad():
        assert torch.equal(cimq.convert(q)(x), q.eval()(x))


def test_scales_are_those_of_the_computed_weight() -> None:
    q = cimq.prepare(nn.Sequential(StdConv2d(3, 5, 3)), cimq.Policy.uniform(4, 4))
    weight = q[0].operands()[0]
    torch.testing.assert_close(weight.std((1, 2, 3)), 0.5 * torch.ones(5), rtol=1e-4, atol=0)
    assert int(q[0].integer_weight().abs().max()) == 7


class Conv1D(nn.Module):
    """transformers.pytorch_utils.Conv1D: the linear layer of GPT-2, its weight [in, out]."""

    def __init__(self, outputs: int, inputs: int) -> None:
        super().__init__()
        self.nf = outputs
        self.weight = nn.Parameter(torch.randn(inputs, outputs) * 0.3)
        self.bias = nn.Parameter(torch.randn(outputs) * 0.1)

    def forward(self, x: Tensor) -> Tensor:
        size_out = x.size()[:-1] + (self.nf,)  # noqa: RUF005  as it is written there
        x = torch.addmm(self.bias, x.view(-1, x.size(-1)), self.weight)
        return x.view(size_out)


@pytest.mark.parametrize("traced", [True, False])
def test_linear_layers_with_their_weight_transposed(traced: bool) -> None:
    class Twice(nn.Sequential):
        def forward(self, input: Tensor) -> Tensor:
            return super().forward(input if traced or float(input.sum()) > -1e9 else -input)

    torch.manual_seed(0)
    x = torch.randn(4, 5, 6)
    model = Twice(Conv1D(7, 6), nn.Identity(), Conv1D(3, 7))
    q = cimq.prepare(model, cimq.Policy.uniform(8, 8), example_inputs=x)
    assert [name for name, _ in quant_layers(q)] == ["0.weight", "2.weight"]
    shapes = [(s.outputs, s.inputs, s.invocations) for s in layer_shapes(q)]
    assert shapes == [(7, 6, 5), (3, 7, 5)]  # per sample: five tokens
    assert [(s.outputs, s.inputs, s.invocations) for s in layer_shapes(q, x)] == shapes
    assert not [key for key in q.state_dict() if key.endswith((".matrix", "products.weight.weight"))]
    q.load_state_dict(q.state_dict())
    with torch.no_grad():
        assert float((q.eval()(x) - model(x)).norm() / model(x).norm()) < 0.03
    twin = nn.Sequential(nn.Linear(6, 7), nn.Identity(), nn.Linear(7, 3))
    for linear, conv1d in ((twin[0], model[0]), (twin[2], model[2])):
        linear.load_state_dict({"weight": conv1d.weight.t(), "bias": conv1d.bias})
    twin = cimq.prepare(twin, cimq.Policy.uniform(8, 8), example_inputs=x)
    for net in (q, twin):
        net.train()(x).square().mean().backward()
    torch.testing.assert_close(q[0].weight.grad, twin[0].weight.grad.t(), rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(q[0].bias.grad, twin[0].bias.grad, rtol=1e-5, atol=1e-7)
    with torch.no_grad():
        q.eval()
        if traced:
            assert torch.equal(cimq.convert(q)(x[:2]), q(x[:2]))
        else:
            with pytest.warns(cimq.CimqWarning, match="cannot trace Twice"):
                assert torch.equal(cimq.convert(q, x)(x), q(x))
        for again in (copy.deepcopy(q), q):
            assert torch.equal(again(x), q(x))
            assert again[0].crossbar_products["weight"].matrix is again[0].weight
