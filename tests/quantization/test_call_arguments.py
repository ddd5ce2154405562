"""Models whose forward has optional inputs and flags."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import cimq
from cimq.quantization import quant_layers


class Optional(nn.Module):
    """A second input that may be missing, a flag, and a number."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(8, 6)
        self.norm = nn.BatchNorm1d(6)
        self.second = nn.Linear(6, 3)

    def forward(self, x: Tensor, mask: Tensor | None = None, features: bool = False, gain: float = 1.0) -> Any:
        h = self.first(x)
        if mask is not None:
            h = h * mask
        h = F.relu(self.norm(h))
        if features:
            return {"features": h}
        return self.second(h if gain == 1.0 else h * torch.full((), gain))


X, MASK = torch.randn(8, 8), torch.rand(8, 6)
CALLS: list[dict[str, Any]] = [{}, {"mask": MASK}, {"features": True}, {"gain": 2.0}, {"mask": None, "features": False}]


def prepared(call: dict[str, Any]) -> nn.Module:
    torch.manual_seed(0)
    net = Optional().train()
    net(torch.randn(64, 8) + 1)  # statistics and an affine part of their own
    nn.init.uniform_(net.norm.weight, 0.5, 2.0)
    q = cimq.prepare(net, cimq.Policy.uniform(4, 4), exclude="second" if call.get("features") else ())
    cimq.calibrate(q, [X], forward_fn=lambda model, x: model(x, **call))
    return q.eval()


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("by_sample", [False, True])
@torch.no_grad()
def test_converted_has_the_arguments_of_its_calls(call: dict[str, Any], by_sample: bool) -> None:
    q = prepared(call)
    converted = cimq.convert(q, {"x": X, **call} if by_sample else None)
    assert isinstance(converted, torch.fx.GraphModule)
    wanted = q(X, **call)
    for model in (converted, copy.deepcopy(converted), pickle.loads(pickle.dumps(converted))):
        got = model(X, **({"mask": MASK} if "mask" in call and call["mask"] is not None else {}))
        if call.get("features"):
            got, wanted = got["features"], q(X, **call)["features"]
        assert torch.equal(got, wanted)
    with pytest.raises(TypeError, match="argument"):
        converted(X, gain=3.0)


@torch.no_grad()
def test_arguments_are_those_of_a_copy_too() -> None:
    q = prepared({"mask": MASK})
    for model in (copy.deepcopy(q), pickle.loads(pickle.dumps(q))):
        assert torch.equal(cimq.convert(model)(X, MASK), q(X, MASK))


@torch.no_grad()
def test_example_inputs_may_be_named() -> None:
    q = cimq.prepare(Optional().eval(), example_inputs={"x": X, "mask": MASK})
    assert torch.equal(cimq.convert(q)(X, MASK), q(X, MASK))


@torch.no_grad()
def test_what_differs_between_calls_is_an_input() -> None:
    q = prepared({})
    cimq.calibrate(q, [(X, None), (X, MASK)], forward_fn=lambda model, batch: model(*batch))
    assert torch.equal(cimq.convert(q)(X, MASK), q(X, MASK))


class MaskedBeforeNorm(nn.Module):
    """The normalisation follows the layer directly in one of two ways to call it."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(8, 6)
        self.norm = nn.BatchNorm1d(6)

    def forward(self, x: Tensor, scale: Tensor | None = None) -> Tensor:
        h = self.layer(x)
        return self.norm(h * 2 if scale is None else h)


@torch.no_grad()
def test_a_normalisation_that_follows_in_one_of_two_calls_is_not_folded() -> None:
    net = MaskedBeforeNorm()
    net.norm.running_mean.fill_(1.0)
    net.eval()
    q = cimq.prepare(net, example_inputs=X)
    for scale in (None, MASK):
        # folded, the mean of 1 would be doubled or halved
        torch.testing.assert_close(q(X, scale), net(X, scale), rtol=0.1, atol=0.1)


class Flagged(nn.Module):
    """Its product is a function call, behind a flag."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(5, 8))

    def forward(self, x: Tensor, double: bool = False) -> Tensor:
        y = F.linear(x, self.weight)
        if double:
            y = y * 2
        return y


def test_products_by_function_calls_are_found_behind_flags() -> None:
    q = cimq.prepare(nn.Sequential(nn.Linear(8, 8), Flagged()))
    cimq.calibrate(q, [X])
    assert [name for name, _ in quant_layers(q)] == ["0", "1.weight"]
    q.eval()
    with torch.no_grad():
        assert torch.equal(cimq.convert(q)(X), q(X))
