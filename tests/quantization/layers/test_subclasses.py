"""Layers of a class with a forward of its own, which keep it or stay in fp32."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
import torch.nn.functional as F
from nets import OwnPadding, ScaledConv, ScaledLinear
from torch import Tensor, nn

import cimq
from cimq.quantization import quant_layers


def prepared(model: nn.Module, x: Tensor, bits: int = 8, **options: object) -> nn.Module:
    q = cimq.prepare(model, cimq.Policy.uniform(bits, bits), **options)
    cimq.calibrate(q, [(x, None)])
    return q


@pytest.mark.parametrize(
    ("layer", "size"),
    [
        (OwnPadding(3, 5, 3, stride=2), (2, 3, 9, 9)),
        (ScaledConv(3, 5, 3, padding=1), (2, 3, 8, 8)),
        (ScaledLinear(6, 4), (2, 6)),
    ],
)
def test_subclasses_keep_their_forward(layer: nn.Module, size: tuple[int, ...]) -> None:
    x = torch.randn(size, generator=torch.Generator().manual_seed(0))
    model = nn.Sequential(layer)
    q = prepared(model, x)
    assert isinstance(q[0], type(layer))
    for mode in (True, False):
        wanted = model(x)
        got = q.train(mode)(x)
        assert got.shape == wanted.shape
        assert 0 < ((got - wanted).norm() / wanted.norm()).item() < 0.02
    again = pickle.loads(pickle.dumps(copy.deepcopy(q)))
    assert type(again[0]) is type(q[0])
    assert torch.equal(again(x), q(x))


class DynamicConv(nn.Conv2d):
    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight * (1 + x.mean())
        return F.conv2d(x, weight, self.bias, self.stride, self.padding)


class Flipped(nn.Linear):
    def forward(self, input: Tensor) -> Tensor:
        return F.linear(input[..., :3], self.weight.t())


class TwoProducts(nn.Linear):
    def forward(self, input: Tensor) -> Tensor:
        return F.linear(F.linear(input, self.weight), self.weight)


class NeedsMore(nn.Linear):
    def forward(self, input: Tensor, gain: Tensor) -> Tensor:  # type: ignore[override]
        return super().forward(input) * gain


@pytest.mark.parametrize(
    ("layer", "reason"),
    [
        (DynamicConv(3, 4, 3), r"odd \(DynamicConv\).*a weight or bias that is not the same for every input"),
        (Flipped(4, 3), r"odd \(Flipped\).*a weight \[4, 3\] of torch.float32, and has one \[3, 4\]"),
        (TwoProducts(4, 4), r"odd \(TwoProducts\).*2 times"),
        (NeedsMore(4, 4), r"odd \(NeedsMore\).*fails on a plain input"),
        (nn.Linear(4, 4).half(), "float16"),
        (nn.ConvTranspose2d(3, 3, 2), "this kind of layer is not quantised"),
        (nn.MultiheadAttention(4, 2, vdim=2), "another width than its queries"),
    ],
)
def test_what_cannot_be_quantised_stays_fp32_and_is_named(layer: nn.Module, reason: str) -> None:
    model = nn.ModuleDict({"odd": layer, "fine": nn.Linear(4, 4)})
    with pytest.warns(cimq.CimqWarning, match=reason):
        q = cimq.prepare(model)
    assert type(q["odd"]) is type(layer)
    assert [name for name, _ in quant_layers(q)] == ["fine"]
    with pytest.raises(ValueError, match="to quantise"):
        cimq.prepare(nn.Sequential(layer))
    cimq.prepare(model, exclude=["odd"])  # said by the user: no warning
