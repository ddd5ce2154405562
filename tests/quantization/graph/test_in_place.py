"""Converted models of forwards that overwrite tensors which they read again."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import cimq

X = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def bare(y: Tensor) -> Tensor:
    y.relu_()
    return y


def through_dropout(y: Tensor) -> Tensor:
    z = F.dropout(y, 0.5, False)
    z.relu_()
    return z


OVERWRITING: dict[str, Callable[[Tensor], Tensor]] = {
    "relu_": lambda y: y.relu_(),
    "torch.relu_": torch.relu_,
    "F.relu": lambda y: F.relu(y, True),
    "F.relu by name": lambda y: F.relu(y, inplace=True),
    "F.relu6": lambda y: F.relu6(y, inplace=True),
    "F.silu": lambda y: F.silu(y, inplace=True),
    "F.hardswish": lambda y: F.hardswish(y, inplace=True),
    "clamp_": lambda y: y.clamp_(-0.2, 0.3),
    "sigmoid_": lambda y: y.sigmoid_(),
    "add_": lambda y: y.add_(1.0),
    "mul_": lambda y: y.mul_(y),
    "the result is not named": bare,
    "module": nn.ReLU(inplace=True),
    "two": lambda y: y.relu_().mul_(2.0),
    "through dropout": through_dropout,
}


class Overwrites(nn.Module):
    def __init__(self, step: Callable[[Tensor], Tensor], before: Callable[[Tensor], Tensor] = lambda y: y) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.step, self.before = step, before

    def forward(self, x: Tensor) -> Tensor:
        y = self.first(x)
        earlier = y * 1.0
        z = self.step(self.before(y))
        return self.second(z.reshape(y.shape)) + y + earlier


@pytest.mark.filterwarnings("ignore::cimq.CimqWarning")  # some of them are left as they stand
@pytest.mark.parametrize("name", list(OVERWRITING))
def test_who_reads_afterwards_reads_the_result(name: str) -> None:
    torch.manual_seed(0)
    q = cimq.prepare(Overwrites(OVERWRITING[name]).eval(), example_inputs=X)
    with torch.no_grad():
        assert torch.equal(cimq.convert(q, X)(X), q(X))


@pytest.mark.parametrize("view", [lambda y: y.flatten(1), lambda y: y.view(4, -1), lambda y: torch.flatten(y, 2)])
def test_views_that_are_overwritten_stay_as_they_are(view: Callable[[Tensor], Tensor]) -> None:
    torch.manual_seed(0)
    q = cimq.prepare(Overwrites(OVERWRITING["relu_"], view).eval(), example_inputs=X)
    with pytest.warns(cimq.CimqWarning, match="left as they stand, and not exportable: .*relu_"):
        converted = cimq.convert(q, X)
    with torch.no_grad():
        assert torch.equal(converted(X), q(X))


class WholeSize(nn.Module):
    def __init__(self, how: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.conv, self.how = nn.Conv2d(3, 3, 1), how

    def forward(self, x: Tensor) -> Tensor:
        return self.how(self.conv(x).flatten(1), x)


@pytest.mark.parametrize(
    "how",
    [
        lambda y, x: y.view(x.size()),
        lambda y, x: y.reshape(x.shape),
        lambda y, x: torch.reshape(y, x.shape),
        lambda y, x: y.view(*x.shape),
        lambda y, x: y.view(x.size(0), 3, 8, 8),
    ],
)
@pytest.mark.filterwarnings("ignore::cimq.CimqWarning")
def test_views_by_the_size_of_another(how: Callable[[Tensor, Tensor], Tensor]) -> None:
    q = cimq.prepare(WholeSize(how).eval(), example_inputs=X)
    with torch.no_grad():
        assert torch.equal(cimq.convert(q, X)(X), q(X))
