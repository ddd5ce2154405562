"""Products made by function calls, with parameters of the enclosing module."""

from __future__ import annotations

import copy
import pickle

import nets
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import cimq
from cimq.quantization import layer_outputs, layer_shapes, quant_layers

pytestmark = pytest.mark.filterwarnings("ignore:convert. left as they stand:cimq.CimqWarning")


class Stem(nn.Module):
    """A convolution and a linear layer by function calls, a batch normalisation after the first, an ordinary layer."""

    def __init__(self) -> None:
        super().__init__()
        self.kernel = nn.Parameter(torch.zeros(6, 3, 3, 3))
        self.norm = nn.BatchNorm2d(6)
        self.conv = nn.Conv2d(6, 6, 3, groups=2)
        self.mix = nn.Parameter(torch.zeros(5, 6))
        self.offset = nn.Parameter(torch.zeros(5))

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.norm(F.conv2d(x, self.kernel, stride=2, padding=1)))
        return F.linear(F.relu(self.conv(x)).mean((2, 3)), self.mix, bias=self.offset)


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = Stem()
        self.head = nn.Linear(5, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.relu(self.stem(x)))


def prepared(bits: int = 5, hardware: object = "paper") -> tuple[nn.Module, Tensor]:
    x = nets.images(6, 12)
    q = cimq.prepare(nets.randomise(Model()), cimq.Policy.uniform(bits, bits), hardware)
    cimq.calibrate(q, [x])
    return q, x


LOSSY = cimq.Hardware.preset("paper").replace(rows=16, adc={"bits": 6})


@pytest.mark.parametrize("hardware", ["paper", LOSSY], ids=["ideal", "lossy"])
def test_function_calls_are_layers(hardware: object) -> None:
    q, x = prepared(hardware=hardware)
    names = ["stem.kernel", "stem.mix", "stem.conv", "head"]
    assert [name for name, _ in quant_layers(q)] == names
    assert [s.name for s in layer_shapes(q, x)] == names
    assert isinstance(q.stem, Stem)
    converted = cimq.convert(q, sample_input=x)
    assert set(layer_outputs(converted, x)) == set(names)
    assert not [m for m in converted.modules() if isinstance(m, nn.BatchNorm2d)]  # folded into stem.kernel
    with torch.no_grad():
        wanted = q.eval()(x)
        assert torch.equal(converted(x[:2]), wanted[:2])
        for again in (copy.deepcopy(q), pickle.loads(pickle.dumps(q))):
            assert torch.equal(again(x), wanted)
            assert again.stem.crossbar_products["kernel"].weight is again.stem.kernel


class Layered(Stem):
    """The same with layers."""

    def __init__(self, stem: Stem) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 6, 3, stride=2, padding=1, bias=False)
        self.last = nn.Linear(6, 5)
        self.norm, self.conv = stem.norm, stem.conv
        self.first.weight, self.last.weight, self.last.bias = stem.kernel, stem.mix, stem.offset

    def forward(self, x: Tensor) -> Tensor:
        return self.last(F.relu(self.conv(F.relu(self.norm(self.first(x))))).mean((2, 3)))


@pytest.mark.parametrize("training", [True, False])
def test_calls_give_what_layers_give(training: bool) -> None:
    model, x = nets.randomise(Model()), nets.images(6, 12)
    twin = copy.deepcopy(model)
    twin.stem = Layered(twin.stem)
    results = []
    for net in (model, twin):
        q = cimq.prepare(net, cimq.Policy.uniform(4, 5), example_inputs=x).train(training)
        results.append(q(x))
    assert torch.equal(*results)


def test_parameters_train() -> None:
    q, x = prepared()
    before = {name: p.detach().clone() for name, p in q.named_parameters()}
    assert len([name for name in before if "kernel" in name]) == 3  # once itself, and its two scales
    history = cimq.finetune(q, [(x, torch.arange(6) % 4)], epochs=4, lr=0.05)
    assert history[-1].loss < history[0].loss
    assert not torch.equal(q.stem.kernel, before["stem.kernel"])
    assert not torch.equal(q.stem.offset, before["stem.offset"])


def test_state_dict_holds_a_parameter_once_and_fp32_loads_strictly() -> None:
    q, x = prepared()
    state = q.state_dict()
    assert {key for key in state if "crossbar_products" not in key} >= set(Model().state_dict())
    assert not [key for key in state if "crossbar_products" in key and key.endswith((".weight", ".bias"))]
    fresh = cimq.prepare(Model(), cimq.Policy.uniform(5, 5))
    fresh.load_state_dict(state)
    with torch.no_grad():
        assert torch.equal(fresh.eval()(x), q.eval()(x))
    other = nets.randomise(Model(), seed=4)
    q.load_state_dict(other.state_dict(), strict=True)
    wanted = cimq.prepare(other, cimq.Policy.uniform(5, 5)).stem.crossbar_products["kernel"].weight_scales[4]
    assert torch.equal(q.stem.crossbar_products["kernel"].weight_scales[4], wanted)
    with pytest.raises(ValueError, match=r"'stem\.kernel' has no activation scale yet"):
        q(x)
    with pytest.raises(RuntimeError, match=r"Missing key.*stem\.kernel"):
        q.load_state_dict({k: v for k, v in other.state_dict().items() if k != "stem.kernel"})


class TiedDecoder(nn.Module):
    """A head that multiplies with the weight of a layer: one weight, one set of integers."""

    def __init__(self) -> None:
        super().__init__()
        self.encode = nn.Linear(6, 6)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(F.relu(self.encode(x)), self.encode.weight)


def test_a_weight_used_by_a_layer_and_by_a_call() -> None:
    q = cimq.prepare(TiedDecoder(), cimq.Policy.uniform(4, 4))
    x = torch.randn(5, 6, generator=torch.Generator().manual_seed(0))
    cimq.calibrate(q, [x])
    assert [name for name, _ in quant_layers(q)] == ["encode_weight", "encode"]
    assert q.crossbar_products["encode_weight"].weight_scales is q.encode.weight_scales
    q(x).sum().backward()
    converted = cimq.convert(q, sample_input=x)
    assert torch.equal(converted.crossbar_products.encode_weight.weight_q, converted.encode.weight_q)


def test_converted_without_a_graph() -> None:
    """The host traces, what is around it does not: its calls are answered by converted layers."""

    class Outer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = Stem()

        def forward(self, x: Tensor) -> Tensor:
            return self.inner(x) if bool(x.abs().sum() > 0) else x

    x = nets.images(4, 12)
    q = cimq.prepare(nets.randomise(Outer()), cimq.Policy.uniform(4, 4), example_inputs=x)
    with pytest.warns(cimq.CimqWarning, match="cannot trace Outer"):
        converted = cimq.convert(q, sample_input=x)
    assert list(layer_outputs(converted, x)) == ["inner.kernel", "inner.conv", "inner.mix"]


@pytest.mark.parametrize(
    ("call", "reason"),
    [
        (lambda m, x: F.linear(x, m.weight * 2), "linear with a weight that is no parameter"),
        (lambda m, x: x @ m.weight, "matmul"),
        (lambda m, x: torch.einsum("ab,bc->ac", x, m.weight), "einsum"),
        (lambda m, x: x.matmul(m.weight), "matmul"),
        (lambda m, x: F.conv1d(x[None], m.weight[:, :, None]), "conv1d"),
    ],
)
def test_calls_that_stay_fp32_are_named(call: object, reason: str) -> None:
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.eye(4))
            self.fine = nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            return call(self, self.fine(x))  # type: ignore[operator]

    with pytest.warns(cimq.CimqWarning, match=f"odd .Odd.: its call of {reason}"):
        q = cimq.prepare(nn.ModuleDict({"odd": Odd()}))
    assert [name for name, _ in quant_layers(q)] == ["odd.fine"]
    cimq.prepare(nn.Sequential(nn.Linear(4, 4), Odd()), exclude=["1"])  # said by the user: no warning
