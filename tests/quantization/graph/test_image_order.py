"""The order of images in training: channels-last where nothing can tell, and nothing but the order differs."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from nets import ResNet, SmallCnn
from torch import Tensor, nn

import cimq
from cimq import ops
from cimq.quantization.graph.image_order import does_not_depend_on_order

needs_integers = pytest.mark.skipif(not ops.has_integer_convolutions(), reason="a CPU without AVX-512 VNNI")
X = torch.randn(4, 3, 12, 12, generator=torch.Generator().manual_seed(0))
LAST = torch.channels_last


def prepared(net: nn.Module, **options: Any) -> Any:
    model = cimq.prepare(net, cimq.Policy.uniform(4, 4), **options)
    cimq.calibrate(model, [X])
    return model.train()


def orders(model: nn.Module, x: Tensor = X) -> list[bool]:
    """Whether the output of each quantised convolution is in channels-last order."""
    seen: list[bool] = []
    hooks = [
        layer.register_forward_hook(lambda _, __, y: seen.append(y.is_contiguous(memory_format=LAST)))
        for _, layer in cimq.quantization.quant_layers(model)
        if isinstance(layer, nn.Conv2d)
    ]
    model(x)
    for hook in hooks:
        hook.remove()
    return seen


class Views(nn.Module):
    """A forward whose steps are given by name."""

    def __init__(self, *steps: str) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.steps = steps

    def forward(self, x: Tensor, flat: bool = False, mask: Tensor | None = None) -> Any:
        x = F.relu(self.conv2(F.relu(self.conv1(x))))
        for step in self.steps:
            if step == "view" or (step == "view in training" and self.training):
                x = x.view(x.size(0), -1)
            if step == "view in evaluation" and not self.training:
                x = x.view(x.size(0), -1)
            if step == "view of one pixel":
                x = self.pool(x).view(x.size(0), -1)
            if step == "view of one pixel by a function":
                x = F.adaptive_avg_pool2d(x, (1, 1)).view(-1, 4)
            if step == "view of a matrix":
                x = x.mean([2, 3]).view(x.size(0), -1) + x.flatten(1).view(4, -1)[:, :4]
            if step == "view of the mean of a dimension":
                x = x.mean((0, 1)).view(-1)
            if step == "view with a mask" and mask is not None:
                x = x.view(x.size(0), -1)
            if step == "view by a flag" and flat:
                x = x.view(x.size(0), -1)
            if step == "stride" and x.stride(1) == 1:
                x = x * 2
            if step == "as_strided":
                x = torch.as_strided(x, (2, 2), (1, 2))
            if step == "values" and x.sum() > 0:
                x = x * 2
            if step == "reshape":
                x = x.reshape(x.shape[0], -1)
            if step == "flatten":
                x = torch.flatten(x, 1)
            if step == "mean":
                x = x.mean((2, 3))
            if step == "concatenation":
                x = torch.cat([x, x + 1], 1).permute(0, 2, 3, 1).unflatten(3, (2, 4))
        return x


@pytest.mark.parametrize(
    ("step", "free"),
    [
        ("view", False),
        ("view in training", False),
        ("view with a mask", False),
        ("view by a flag", False),
        ("stride", False),
        ("as_strided", False),
        ("values", False),  # cannot be traced
        ("nothing", True),
        ("view in evaluation", True),
        ("view of one pixel", True),
        ("view of one pixel by a function", True),
        ("view of a matrix", True),
        ("view of the mean of a dimension", False),
        ("reshape", True),
        ("flatten", True),
        ("mean", True),
        ("concatenation", True),
    ],
)
def test_what_depends_on_the_order_is_found(step: str, free: bool) -> None:
    model = cimq.prepare(Views(step))
    assert does_not_depend_on_order(model) is free
    assert model.conv1.channels_last is free


@needs_integers
@pytest.mark.parametrize("net", [SmallCnn, ResNet])
def test_only_the_order_differs(net: type[nn.Module]) -> None:
    start = net()
    results = []
    for memory_format in (None, torch.preserve_format):
        model = prepared(start, memory_format=memory_format)
        assert set(orders(copy.deepcopy(model))) == {memory_format is None}
        loss = F.cross_entropy(model(X), torch.arange(4))
        loss.backward()
        results.append((loss.detach(), {name: p.grad for name, p in model.named_parameters() if p.grad is not None}))
    (ours, gradients), (wanted, others) = results
    torch.testing.assert_close(ours, wanted, rtol=1e-3, atol=1e-4)
    for name, gradient in others.items():
        # A value beside a tie of a second layer may fall to its other side.
        assert (gradients[name] - gradient).norm() <= 0.05 * gradient.norm() + 1e-5, name


class Dictionary(nn.Module):
    """Images in a dict and in a tuple."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, x: Tensor) -> dict[str, Any]:
        y = self.conv(x)
        return {"y": y, "more": (F.relu(y), y.mean((2, 3)), 3)}


@needs_integers
@pytest.mark.parametrize("duplicate", [lambda m: m, copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_outputs_have_the_order_of_the_inputs(duplicate: Any) -> None:
    model = duplicate(prepared(Dictionary()))
    assert orders(model) == [True]
    found = model(X)
    found["y"].view(4, -1)
    found["more"][0].view(4, -1).sum().backward()
    assert found["more"][2] == 3
    last = model(X.to(memory_format=LAST))
    assert last["y"].is_contiguous(memory_format=LAST)
    torch.testing.assert_close(last["y"], found["y"])


@needs_integers
@pytest.mark.parametrize("last", [nn.Flatten(2), nn.Unflatten(1, (2, 2)), nn.Identity(), nn.Flatten(0, 1)])
def test_outputs_of_other_dimensions_can_be_viewed(last: nn.Module) -> None:
    model = prepared(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), last))
    assert orders(model) == [True]
    model(X).view(-1)
    if isinstance(last, nn.Identity):
        model(X[0]).view(-1)


def test_dilated_groups_keep_the_order() -> None:
    model = cimq.prepare(nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3, dilation=2, groups=2)))
    assert not model[0].channels_last


class Counts(nn.Module):
    """Buffers and numbers that the forward of training changes."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.register_buffer("center", torch.ones(4))
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.center.mul_(0.9)
            self.calls += 1
            self.noise = torch.randn(4)
        return self.conv(x) * self.center.reshape(1, -1, 1, 1)


@pytest.mark.parametrize("training", [False, True])
def test_tracing_changes_nothing(training: bool) -> None:
    net = Counts().train(training)
    torch.manual_seed(3)
    model = cimq.prepare(net)
    drawn = torch.rand(())
    torch.manual_seed(3)
    assert torch.equal(drawn, torch.rand(()))
    for module in (net, model):
        assert module.calls == 0
        assert torch.equal(module.center, torch.ones(4))
        assert not hasattr(module, "noise")
        assert module.training is training


@needs_integers
def test_the_order_can_be_chosen() -> None:
    assert orders(prepared(Views("values"))) == [False, False]
    assert orders(prepared(Views("values"), memory_format=LAST)) == [True, True]
    assert orders(prepared(Views("mean"), memory_format=torch.preserve_format)) == [False, False]
    assert orders(prepared(Views("mean")), X.to(memory_format=LAST)) == [True, True]


def test_other_orders_are_refused_before_anything_changes() -> None:
    net = SmallCnn()
    with pytest.raises(ValueError, match=r"memory_format must be torch\.channels_last, torch\.preserve_format or None"):
        cimq.prepare(net, memory_format=torch.contiguous_format, inplace=True)
    assert type(net.conv1) is nn.Conv2d


def test_subclasses_with_a_forward_of_their_own_keep_the_order() -> None:
    class Odd(nn.Conv2d):
        def forward(self, input: Tensor) -> Tensor:
            return super().forward(input).view(input.shape[0], -1)

    model = cimq.prepare(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), Odd(4, 4, 3)))
    assert not model[0].channels_last
    cimq.calibrate(model, [X])
    model.train()(X).sum().backward()
