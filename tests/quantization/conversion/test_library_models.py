"""What layers of model libraries do beside calling layers: timm's normalisation with activation, types of weights."""

from __future__ import annotations

from pathlib import Path

import nets
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import cimq
from cimq.quantization.conversion.converted import CrossbarConv1d
from cimq.quantization.conversion.fp32_layers import Affine


class NormAct(nn.BatchNorm2d):
    """As timm's BatchNormAct2d: a subclass with an activation in its forward."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.act = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        x = F.batch_norm(
            x,
            self.running_mean if not self.training or self.track_running_stats else None,
            self.running_var if not self.training or self.track_running_stats else None,
            self.weight,
            self.bias,
            self.training or (self.running_mean is None and self.running_var is None),
            0.1,
            self.eps,
        )
        return self.act(x)


class Net(nn.Module):
    def __init__(self, traceable: bool) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, bias=False)
        self.norm = NormAct(8)
        self.head = nn.Linear(8, 4)
        self.traceable = traceable

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.conv(x))
        if not self.traceable and x.sum() > 1e30:
            raise ValueError("overflow")
        return self.head(x.mean((2, 3)))


@pytest.mark.parametrize("traceable", [True, False])
@pytest.mark.filterwarnings("ignore:convert. torch.fx cannot trace")
@torch.no_grad()
def test_normalisation_with_activation_keeps_it(traceable: bool) -> None:
    net, x = nets.randomise(Net(traceable)), nets.images()
    net.eval().norm.bias.sub_(0.5)
    q = cimq.prepare(net, example_inputs=x)
    wanted = net(x)
    torch.testing.assert_close(q(x), wanted, rtol=0.02, atol=0.02)
    assert torch.equal(cimq.convert(q)(x), q(x))


def test_normalisation_by_call_is_exported(tmp_path: Path) -> None:
    x = nets.images()
    q = cimq.prepare(nets.randomise(Net(True)).eval(), example_inputs=x)
    with torch.no_grad():
        assert isinstance(cimq.convert(q).get_submodule("norm.affine_of_call"), Affine)
        assert torch.equal(cimq.export(q, tmp_path / "net.cimq", sample_input=x).run(x), q(x))


class LooksAtWeights(nn.Module):
    """As the embeddings of transformers: the input gets the type of the weight."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 8, 4, stride=4)
        self.mixer = nn.Conv1d(8, 8, 3)
        self.head = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x.to(self.patches.weight.dtype)).flatten(2)
        x = self.mixer(x.to(self.mixer.weight.device))
        if self.head.weight.dtype != x.dtype or x.shape[0] > 1000:
            raise TypeError("types differ")
        return self.head(x.mean(2))


@pytest.mark.filterwarnings("ignore:convert. torch.fx cannot trace")
@torch.no_grad()
def test_converted_layers_have_a_weight_to_look_at() -> None:
    net, x = nets.randomise(LooksAtWeights()).eval(), nets.images()
    q = cimq.prepare(net, example_inputs=x)
    converted = cimq.convert(q)
    assert torch.equal(converted(x), q(x))
    for name in ("patches", "mixer", "head"):
        layer = converted.get_submodule(name)
        step = layer.w_scale.reshape((-1,) + (1,) * (net.get_submodule(name).weight.dim() - 1))
        assert ((layer.weight - net.get_submodule(name).weight).abs() <= 0.501 * step).float().mean() > 0.98
    assert isinstance(converted.mixer, CrossbarConv1d)


class OneOfTwoWays(nn.Module):
    """Traced with all its inputs, but not without the optional one: layers are replaced in its own forward."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(8, 6)
        self.norm = nn.BatchNorm1d(6)

    def forward(self, x: Tensor, scale: Tensor | None = None) -> Tensor:
        if scale is None and x.sum() > 1e30:
            raise ValueError("overflow")
        return self.norm(self.layer(x))


@torch.no_grad()
def test_normalisations_are_folded_in_a_forward_that_is_kept() -> None:
    torch.manual_seed(0)
    net, x = nets.randomise(OneOfTwoWays()).eval(), torch.randn(8, 8)
    q = cimq.prepare(net, example_inputs=x)
    with pytest.warns(cimq.CimqWarning, match=r"torch\.fx cannot trace OneOfTwoWays"):
        converted = cimq.convert(q)
    assert torch.equal(converted(x), q(x))
    torch.testing.assert_close(q(x), net(x), rtol=0.02, atol=0.02)
