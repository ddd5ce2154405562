"""1-D convolutions: on crossbars, 2-D ones with one row."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
import torch.nn.functional as F
from nets import randomise
from torch import Tensor, nn

import cimq
from cimq.quantization import CrossbarConv1d, QuantConv1d, layer_outputs, layer_shapes

pytestmark = pytest.mark.filterwarnings("ignore:convert. left as they stand:cimq.CimqWarning")
LOSSY = cimq.Hardware.preset("paper").replace(rows=8, adc={"bits": 6, "range": "calibrated"})


def signals(count: int, channels: int, length: int) -> Tensor:
    return torch.randn(count, channels, length, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    "conv",
    [
        nn.Conv1d(4, 6, 3),
        nn.Conv1d(4, 6, 5, stride=2, padding=2, bias=False),
        nn.Conv1d(4, 8, 3, padding="same", dilation=2, groups=4),
        nn.Conv1d(4, 4, 4, padding="same", groups=2),
        nn.Conv1d(4, 6, 3, padding=2, padding_mode="circular"),
    ],
)
@pytest.mark.parametrize("hardware", ["paper", LOSSY], ids=["ideal", "lossy"])
def test_geometries(conv: nn.Conv1d, hardware: object) -> None:
    x = signals(3, 4, 11)
    q = cimq.prepare(nn.Sequential(conv, nn.BatchNorm1d(conv.out_channels)), hardware=hardware, example_inputs=x)
    assert isinstance(q[0], QuantConv1d)
    wanted = conv(x)
    q.train()
    got = q[0](x)
    assert got.shape == wanted.shape
    if hardware == "paper":
        assert 0 < ((got - wanted).norm() / wanted.norm()).item() < 0.02
    got.square().sum().backward()
    assert float(q[0].weight.grad.abs().sum()) > 0
    converted = cimq.convert(q, sample_input=x)
    assert isinstance(converted.get_submodule("0"), CrossbarConv1d)
    assert len(list(converted.children())) == 1  # the normalisation is in the multiplier
    with torch.no_grad():
        assert torch.equal(pickle.loads(pickle.dumps(copy.deepcopy(converted)))(x), q.eval()(x))
        assert torch.equal(q[0](x[0]), q[0](x)[0])


class Causal(nn.Conv1d):
    """Pads on the left alone."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(F.pad(x, (self.dilation[0] * (self.kernel_size[0] - 1), 0)))


def test_subclass_with_its_own_padding() -> None:
    model = randomise(
        nn.Sequential(Causal(3, 6, 3, dilation=2), nn.ReLU(), Causal(6, 4, 2), nn.Flatten(), nn.Linear(36, 3))
    )
    x = signals(4, 3, 9)
    q = cimq.prepare(model, cimq.Policy.uniform(4, 4), example_inputs=x)
    assert [(s.kind, s.outputs, s.inputs, s.invocations) for s in layer_shapes(q, x)] == [
        ("conv1d", 6, 9, 9),
        ("conv1d", 4, 12, 9),
        ("linear", 3, 36, 1),
    ]
    q.train()(x).sum().backward()
    converted = cimq.convert(q, sample_input=x)
    Y = layer_outputs(converted, x)["0"].squeeze(-2)
    x_q = F.pad(q[0].quantize_input(x).double(), (4, 0))
    assert torch.equal(Y, F.conv1d(x_q, q[0].integer_weight().double(), dilation=2).int())
