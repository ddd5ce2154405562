"""Models that were changed on the object: a forward that is not that of its class, hooks that give another value."""

from __future__ import annotations

import types
from collections.abc import Callable
from typing import Any

import nets
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import cimq
from cimq.quantization import quant_layers


def small() -> nn.Sequential:
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 4),
    )
    return nets.randomise(net).eval()  # type: ignore[return-value]


def prepared(model: nn.Module, x: Tensor) -> nn.Module:
    return cimq.prepare(model, example_inputs=x).eval()


def assert_converted(q: nn.Module, model: nn.Module, x: Tensor) -> None:
    with torch.no_grad():
        wanted = q(x)
        assert float((wanted - model(x)).abs().max()) < 0.05
        assert torch.equal(cimq.convert(q)(x), wanted)


_FORWARDS: dict[int, Callable[[Any, Tensor], Tensor]] = {
    0: lambda self, x: F.conv2d(x, self.weight * 3, self.bias, padding=1),
    1: lambda self, x: x * 7,
    2: lambda self, x: x.abs(),
    3: lambda self, x: x.amax((2, 3), keepdim=True),
    5: lambda self, x: F.linear(x, self.weight * 3, self.bias),
}


@pytest.mark.filterwarnings("ignore::cimq.CimqWarning")
@pytest.mark.parametrize("index", _FORWARDS)
def test_a_forward_set_on_a_module(index: int) -> None:
    x, model = torch.randn(4, 3, 8, 8), small()
    model[index].forward = types.MethodType(_FORWARDS[index], model[index])  # type: ignore[method-assign]
    assert_converted(prepared(model, x), model, x)


def test_a_layer_whose_forward_was_set_stays_fp32_and_says_so() -> None:
    x, model = torch.randn(4, 3, 8, 8), small()
    model[0].forward = types.MethodType(_FORWARDS[0], model[0])  # type: ignore[method-assign]
    with pytest.warns(cimq.CimqWarning, match=r"stays fp32: 0 \(Conv2d\): its forward was set on the object"):
        q = prepared(model, x)
    assert [name for name, _ in quant_layers(q)] == ["5"]


class Backbone(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.features, self.head = small(), nn.Linear(4, 2)

    def without_head(self, x: Tensor) -> Tensor:
        return self.features(x) * 2

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x))


def test_the_forward_of_the_whole_model() -> None:
    x, model = torch.randn(4, 3, 8, 8), Backbone()
    model.forward = model.without_head  # type: ignore[method-assign]
    q = cimq.prepare(model, example_inputs=x, exclude="head").eval()
    assert_converted(q, model, x)
    assert q.forward.__self__ is q  # type: ignore[attr-defined]


@pytest.mark.parametrize("index", [1, 2])
def test_a_forward_set_after_prepare(index: int) -> None:
    x, q = torch.randn(4, 3, 8, 8), prepared(small(), torch.randn(4, 3, 8, 8))
    q[index].forward = lambda x: x * 2  # type: ignore[index]
    with torch.no_grad():
        assert torch.equal(cimq.convert(q)(x), q(x))


def test_a_forward_of_a_layer_set_after_prepare_is_refused() -> None:
    x = torch.randn(4, 3, 8, 8)
    q = prepared(small(), x)
    q[0].forward = lambda x: x * 2  # type: ignore[index]
    with pytest.raises(ValueError, match="the forward of layer '0' was set on the object after prepare"):
        cimq.convert(q)


@pytest.mark.parametrize("index", [0, 2, 5, None])
@pytest.mark.parametrize("kind", ["forward", "pre"])
@pytest.mark.filterwarnings("ignore:a hook on the output of:cimq.CimqWarning")
def test_hooks_that_change_values_are_never_lost_in_silence(index: int | None, kind: str) -> None:
    x, model = torch.randn(4, 3, 8, 8), small()
    module = model if index is None else model[index]
    if kind == "forward":
        module.register_forward_hook(lambda module, args, output: output * 2)
    else:
        module.register_forward_pre_hook(lambda module, args: (args[0] * 2,))
    q = prepared(model, x)
    name = "the model itself" if index is None else repr(str(index))
    with pytest.raises(ValueError, match=f"convert: the model has the forward hooks of {name}"):
        cimq.convert(q)
    with pytest.raises(ValueError, match=f"does not call the forward hooks of {name}; do they change values"):
        cimq.convert(q, x)


def test_hooks_that_look_are_let_go_after_a_check() -> None:
    x, seen, model = torch.randn(4, 3, 8, 8), list[Tensor](), small()
    model[2].register_forward_hook(lambda module, args, output: seen.append(output))
    q = prepared(model, x)
    with torch.no_grad():
        assert torch.equal(cimq.convert(q, x)(x), q(x))
    inner = Backbone()  # hooks of what is traced are part of the graph
    inner.features.register_forward_hook(lambda module, args, output: output + 1)
    assert_converted(prepared(inner, x), inner, x)


def test_hooks_of_pytorch_that_compute_a_weight_are_no_hindrance() -> None:
    x, model = torch.randn(4, 3, 8, 8), small()
    nn.utils.prune.l1_unstructured(model[0], "weight", 0.5)
    assert_converted(prepared(model, x), model, x)
