"""Training on a machine that loses nothing multiplies integers, and trains as with floats."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from nets import ResNet, SmallCnn
from torch import Tensor, nn

import cimq
from cimq import ops

needs_integers = pytest.mark.skipif(not ops.has_integer_convolutions(), reason="a CPU without AVX-512 VNNI")
BATCH = torch.Generator().manual_seed(0)
X = torch.randn(8, 3, 16, 16, generator=BATCH)
Y = torch.arange(8) % 4


class MeanPool(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.mean((2, 3))


def prepared(net: nn.Module, policy: cimq.Policy, **options: Any) -> nn.Module:
    torch.manual_seed(0)
    model = cimq.prepare(net, policy, **options)
    cimq.calibrate(model, [X])
    return model.train()


def counted(monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """Outputs of the integer convolutions that run from now on."""
    seen: list[Tensor] = []
    original = ops.fake_quantized_conv2d

    def spy(*args: Any, **options: Any) -> Tensor:
        seen.append(original(*args, **options))
        return seen[-1]

    monkeypatch.setattr(ops, "fake_quantized_conv2d", spy)
    return seen


def gradients(model: nn.Module, x: Tensor, amp: bool = False) -> tuple[Tensor, dict[str, Tensor]]:
    model.zero_grad()
    with torch.autocast("cpu", torch.bfloat16, enabled=amp):
        loss = F.cross_entropy(model(x), Y)
    loss.backward()
    return loss.detach(), {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@needs_integers
@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("per_channel", [True, False])
@pytest.mark.parametrize(("weight_bits", "act_bits"), [(8, 8), (4, 4), (2, 2), (1, 3)])
def test_trains_as_with_floats(
    monkeypatch: pytest.MonkeyPatch, weight_bits: int, act_bits: int, channels_last: bool, per_channel: bool
) -> None:
    # One convolution, and numbers of its own: values that lie next to a tie may fall to its other side.
    torch.manual_seed(1)
    net = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU(), MeanPool(), nn.Linear(8, 4))
    layout = torch.channels_last if channels_last else torch.contiguous_format
    policy = cimq.Policy.uniform(weight_bits, act_bits)
    model = prepared(net, policy, per_channel=per_channel).to(memory_format=layout)
    x = X.to(memory_format=layout)
    seen = counted(monkeypatch)
    loss, ours = gradients(copy.deepcopy(model), x)
    assert len(seen) == 1
    monkeypatch.setattr(ops, "has_integer_convolutions", lambda: False)
    wanted, floats = gradients(copy.deepcopy(model), x)
    assert len(seen) == 1
    torch.testing.assert_close(loss, wanted, rtol=1e-4, atol=1e-5)
    assert ours.keys() == floats.keys()
    for name, grad in floats.items():
        torch.testing.assert_close(
            ours[name], grad, rtol=1e-3, atol=1e-5, msg=lambda text, name=name: f"{name}: {text}"
        )


@needs_integers
def test_autocast_gives_its_type(monkeypatch: pytest.MonkeyPatch) -> None:
    model = prepared(SmallCnn(), cimq.Policy.uniform(4, 4))
    seen = counted(monkeypatch)
    loss, _ = gradients(copy.deepcopy(model), X, amp=True)
    assert [y.dtype for y in seen] == [torch.bfloat16] * 2
    wanted, _ = gradients(copy.deepcopy(model), X)
    torch.testing.assert_close(loss.float(), wanted, rtol=0.05, atol=0.05)


@needs_integers
def test_layouts_stay_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """A view of a channels-last output fails, and models for the usual layout have such views."""
    keep = torch.preserve_format
    conv = prepared(nn.Sequential(nn.Conv2d(3, 4, 3)), cimq.Policy.uniform(4, 4), memory_format=keep)
    seen = counted(monkeypatch)
    conv(X).view(8, -1)
    assert conv(X.to(memory_format=torch.channels_last)).is_contiguous(memory_format=torch.channels_last)
    conv = conv.to(memory_format=torch.channels_last)  # as with nn.Conv2d the order of the weight is enough
    y = conv(X)
    assert y.is_contiguous(memory_format=torch.channels_last)
    y.sum().backward()
    assert conv[0].weight.grad.stride() == conv[0].weight.stride()
    assert len(seen) == 3


def test_models_in_channels_last_order_deploy_as_others(tmp_path: Path) -> None:
    model = prepared(SmallCnn(), cimq.Policy.uniform(4, 4)).to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    model(X).square().mean().backward()
    optimizer.step()
    with torch.no_grad():
        wanted = model.eval()(X)
        converted = cimq.convert(model, X)
        assert torch.equal(converted(X), wanted)
        assert torch.equal(converted(X.to(memory_format=torch.channels_last)), wanted)
    assert torch.equal(cimq.export(converted, tmp_path / "net.cimq", X[:1]).run(X), wanted)


FLOATS: dict[str, Callable[[], tuple[nn.Module, dict[str, Any]]]] = {
    "offset": lambda: (nn.Conv2d(3, 4, 3), {"act_offset": True}),
    "uneven padding": lambda: (nn.Conv2d(3, 4, (2, 2), padding="same"), {}),
    "one channel per group": lambda: (nn.Conv2d(3, 6, 3, groups=3), {}),
}


@needs_integers
@pytest.mark.parametrize("case", list(FLOATS))
def test_others_multiply_floats(monkeypatch: pytest.MonkeyPatch, case: str) -> None:
    layer, options = FLOATS[case]()
    model = prepared(nn.Sequential(layer), cimq.Policy.uniform(4, 4), **options)
    seen = counted(monkeypatch)
    model(X).square().sum().backward()
    assert not seen
    assert layer.weight.grad is None  # a copy was trained
    assert model[0].weight.grad is not None


@needs_integers
def test_training_steps_are_the_same_again() -> None:
    model = prepared(ResNet(), cimq.Policy.uniform(2, 2))
    first, second = copy.deepcopy(model), copy.deepcopy(model)
    for net in (first, second):
        optimizer = torch.optim.SGD(cimq.param_groups(net, 0.05), momentum=0.9)
        for _ in range(3):
            optimizer.zero_grad()
            F.cross_entropy(net(X), Y).backward()
            optimizer.step()
    for a, b in zip(first.state_dict().values(), second.state_dict().values(), strict=True):
        assert torch.equal(a, b)


@needs_integers
def test_compiles_with_the_integer_product(monkeypatch: pytest.MonkeyPatch) -> None:
    model = prepared(SmallCnn(), cimq.Policy.uniform(4, 4))
    eager, traced = copy.deepcopy(model), copy.deepcopy(model)
    names: list[str] = []

    def backend(graph: torch.fx.GraphModule, inputs: list[Tensor]) -> Callable[..., Any]:
        names.extend(str(node.target) for node in graph.graph.nodes)
        return graph.forward

    compiled = torch.compile(traced, backend=backend)
    wanted, found = eager(X), compiled(X)
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)
    assert sum("fake_quantized_conv2d" in name for name in names) == 2
    found.sum().backward()
    wanted.sum().backward()
    torch.testing.assert_close(traced.conv1.weight.grad, eager.conv1.weight.grad, rtol=1e-3, atol=1e-4)
