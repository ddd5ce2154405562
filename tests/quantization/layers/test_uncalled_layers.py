"""Layers that a model does not call in evaluation: they stay fp32, with one warning that names them."""

from __future__ import annotations

import warnings
from typing import Any

import nets
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import cimq


class HeadsForTraining(nn.Module):
    """Like torchvision's GoogLeNet and Swin: heads that evaluation does not call, and a weight that is only read."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)
        self.side, self.side_norm = nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4)
        self.attention = nn.MultiheadAttention(4, 2)
        self.read = nn.Linear(4, 4)
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Any:
        x = self.norm(self.stem(x)).relu()
        pooled = x.mean((2, 3))
        if not self.training:
            return self.head(_read(pooled, self.read.weight))
        side = self.side_norm(self.side(x)).mean((2, 3))
        side = side + self.attention(pooled, pooled, pooled)[0]
        return self.head(pooled), side


@torch.fx.wrap
def _read(x: Tensor, weight: Tensor) -> Tensor:
    return F.linear(x, weight)


@pytest.fixture
def with_side_heads() -> tuple[nn.Module, Tensor]:
    torch.manual_seed(0)
    x = torch.randn(4, 3, 8, 8)
    model = HeadsForTraining()
    model(x)
    q = cimq.prepare(model.eval(), cimq.Policy.uniform(4, 4))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        cimq.calibrate(q, [x])
    (message,) = [str(w.message) for w in caught if "the model calls these layers for none" in str(w.message)]
    names = ["side", "attention.in_proj", "attention.qk", "attention.av", "attention.out_proj", "read"]
    assert ", ".join(names) + ". They stay fp32" in message
    return q, x


@pytest.mark.filterwarnings("ignore:convert. left as they stand")  # _read
def test_layers_that_are_not_called_stay_fp32(with_side_heads: tuple[nn.Module, Tensor]) -> None:
    q, x = with_side_heads
    assert list(cimq.quantization.get_policy(q)) == ["stem", "head"]
    converted = cimq.convert(q, sample_input=x)  # compares the outputs
    assert not any(isinstance(module, cimq.quantization.QuantLayer) for module in converted.modules())
    assert cimq.latency(q) == cimq.latency(q, sample_input=x)
    q.train()
    outputs, side = q(x)
    (outputs.sum() + side.sum()).backward()
    assert all(p.grad is not None for p in (q.side.weight, q.attention.in_proj_weight))
    floats = HeadsForTraining()
    floats.load_state_dict({k: v for k, v in q.state_dict().items() if k in floats.state_dict()})
    with torch.no_grad():
        activations = torch.randn(4, 4, 6, 6)
        assert torch.equal(q.side(activations), floats.side(activations))


@pytest.mark.filterwarnings("ignore:convert. left as they stand")  # _read
def test_layers_that_are_not_called_stay_fp32_after_loading(with_side_heads: tuple[nn.Module, Tensor]) -> None:
    q, x = with_side_heads
    fresh = cimq.prepare(HeadsForTraining(), cimq.Policy.uniform(4, 4)).eval()
    fresh.load_state_dict(q.state_dict())
    assert torch.equal(cimq.convert(fresh, sample_input=x)(x), cimq.convert(q)(x))
    fresh.load_state_dict(HeadsForTraining().state_dict())
    with pytest.raises(ValueError, match="'stem' has no activation scale yet"):
        fresh(x)
    assert "side" in cimq.quantization.get_policy(fresh)  # what was seen is no longer known


def test_layers_that_calibration_sees_the_second_time_are_quantised() -> None:
    torch.manual_seed(0)
    q = cimq.prepare(nets.SkipsOne())
    with pytest.warns(cimq.CimqWarning, match=r"none of the 1 batches, in evaluation: spare\."):
        cimq.calibrate(q, [torch.rand(2, 4)])
    q.forward = lambda x: q.spare(q.used(x))  # type: ignore[method-assign]
    cimq.calibrate(q, [torch.rand(2, 4)])
    assert list(cimq.quantization.get_policy(q)) == ["used", "spare"]


def test_a_model_that_calls_none_of_its_layers_is_refused() -> None:
    q = cimq.prepare(nets.SkipsOne())
    with pytest.raises(ValueError, match="calls none of its quantised layers: used, spare"):
        cimq.calibrate(q, [torch.rand(2, 4)], forward_fn=lambda model, batch: batch)


def test_statistics_of_normalisations_that_evaluation_does_not_call_are_kept(
    with_side_heads: tuple[nn.Module, Tensor],
) -> None:
    q, x = with_side_heads
    mean = q.side_norm.running_mean.clone()
    cimq.reestimate_bn(q, [x])
    assert torch.equal(q.side_norm.running_mean, mean)
    assert int(q.side_norm.num_batches_tracked) == 1
