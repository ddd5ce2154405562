from __future__ import annotations

import contextlib
import copy
import dataclasses
import operator
import pickle
from collections import UserDict
from collections.abc import Callable
from typing import Any

import nets
import pytest
import torch
import torch.nn.functional as F
from nets import OwnPadding, ScaledConv, ScaledLinear
from test_preparation import prepared
from torch import Tensor, fx, nn

import cimq
from cimq.quantization import CrossbarConv2d, CrossbarLinear, layer_outputs, quant_layers
from cimq.quantization.conversion.fp32_layers import Affine, Conv2dF32, LinearF32
from cimq.quantization.exact.operations import global_avg_pool2d


def check_equal(q: nn.Module, x: Tensor) -> nn.Module:
    """Converts, and compares bit for bit; two batch sizes."""
    converted = cimq.convert(q, sample_input=x)
    q.eval()
    with torch.no_grad():
        for batch in (x, x[:1]):
            got, wanted = converted(batch), q(batch)
            assert got.dtype == wanted.dtype == torch.float32
            assert torch.equal(got, wanted)
        assert float(got.std()) > 0
    return converted


class Functional(nn.Module):
    """Functional calls, a concatenation, a slice, pooling of all kinds, views by size."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3, padding=1)
        self.left = nn.Conv2d(6, 4, 1)
        self.right = nn.Conv2d(6, 4, 3, padding="same", padding_mode="reflect")
        self.norm = nn.BatchNorm2d(8)
        self.drop = nn.Dropout(0.5)
        self.fc1 = nn.Linear(8 * 9, 10)
        self.norm1 = nn.BatchNorm1d(10)
        self.fc2 = nn.Linear(10, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu6(self.stem(x))
        x = F.avg_pool2d(x, 3, stride=2, padding=1)
        x = torch.cat([self.left(x), torch.clamp(self.right(x), -0.5, 0.7)], dim=1)
        x = F.dropout(self.norm(x).relu(), training=self.training)
        x = F.max_pool2d(x, 2)
        x = x.contiguous().view(x.size(0), -1)
        x = self.norm1(self.fc1(self.drop(x)))
        return self.fc2(F.hardtanh(x)).add(1.0 * self.fc2(x).relu())


@pytest.mark.parametrize("bits", [8, 4, 2, 1])
@pytest.mark.parametrize(
    ("make", "size"),
    [
        (nets.SmallCnn, 12),
        (lambda: nets.ResNet(blocks=2), 16),
        (lambda: nets.ResNet(mean_pool=False), 16),
        (Functional, 12),
    ],
)
@pytest.mark.filterwarnings("ignore:convert. left as they stand.*mul:cimq.CimqWarning")
def test_converted_equals_prepared_bit_for_bit(make: object, size: int, bits: int) -> None:
    x = nets.images(6, size)
    check_equal(prepared(nets.randomise(make()), x, bits=bits), x)  # type: ignore[operator]


def test_graph_holds_the_documented_operations_only() -> None:
    x = nets.images(4, 16)
    converted = check_equal(prepared(nets.randomise(nets.ResNet()), x, bits=4), x)
    assert isinstance(converted, fx.GraphModule)
    kinds = {type(converted.get_submodule(n.target)) for n in converted.graph.nodes if n.op == "call_module"}
    assert kinds == {CrossbarConv2d, CrossbarLinear}
    functions = {n.target for n in converted.graph.nodes if n.op == "call_function"}
    assert functions == {F.relu, operator.add, operator.getitem, F.pad, global_avg_pool2d, torch.flatten}
    assert not [n for n in converted.graph.nodes if n.op == "call_method"]


def test_batch_normalisation_is_in_multiplier_and_bias() -> None:
    x = nets.images()
    q = prepared(nets.randomise(nets.SmallCnn()), x, bits=4).eval()
    converted = cimq.convert(q)
    assert not [m for m in converted.modules() if isinstance(m, nn.BatchNorm2d)]
    conv, bn = q.conv2, q.bn2
    gain = bn.weight.double() / torch.sqrt(bn.running_var.double() + bn.eps)
    wanted = (conv.act_scale.double() * conv.weight_scale.double() * gain).float()
    torch.testing.assert_close(converted.conv2.multiplier, wanted, rtol=2e-7, atol=0)
    shift = (conv.bias.double() - bn.running_mean.double()) * gain + bn.bias.double()
    torch.testing.assert_close(converted.conv2.bias, shift.float(), rtol=1e-6, atol=1e-7)
    assert converted.conv1.weight_q.dtype == torch.int8
    assert converted.conv1.padding == (1, 1)  # as the layer it was
    assert converted.conv1.geometry.padding == (1, 1, 1, 1)
    assert converted.fc.layer_name == "fc"
    assert (converted.fc.layer_index, converted.fc.act_signed) == (2, False)


def test_conversion_does_not_change_the_prepared_model() -> None:
    x = nets.images()
    q = prepared(nets.randomise(nets.SmallCnn()), x, bits=4).train()
    before = copy.deepcopy(q.state_dict())
    cimq.convert(q, sample_input=x)
    assert q.training
    assert all(torch.equal(value, before[name]) for name, value in q.state_dict().items())
    assert len(quant_layers(q)) == 3


def test_layer_outputs_are_the_integers() -> None:
    x = nets.images()
    q = prepared(nets.randomise(nets.SmallCnn()), x, bits=4).eval()
    converted = cimq.convert(q)
    outputs = layer_outputs(converted, x)
    assert list(outputs) == ["conv1", "conv2", "fc"]
    x_q = cimq.ops.quantize(x, q.conv1.act_scale.detach(), -8, 7)
    wanted = F.conv2d(x_q.double(), q.conv1.integer_weight().double(), padding=1).to(torch.int32)
    assert outputs["conv1"].dtype == torch.int32
    assert torch.equal(outputs["conv1"], wanted)
    with pytest.raises(ValueError, match=r"no converted layers; call cimq\.convert"):
        layer_outputs(q, x)


def test_layers_called_twice() -> None:
    shared = nn.Linear(6, 6)
    x = torch.randn(5, 6, generator=torch.Generator().manual_seed(0))
    q = prepared(nn.Sequential(shared, nn.ReLU(), shared, nn.Linear(6, 2)), x, bits=4)
    converted = check_equal(q, x)
    assert list(layer_outputs(converted, x)) == ["0", "0#1", "3"]


@pytest.mark.parametrize("layer", [nn.Linear(6, 3), nn.Conv2d(3, 4, 3)])
def test_a_model_that_is_one_layer(layer: nn.Module) -> None:
    x = nets.images(4, 6) if isinstance(layer, nn.Conv2d) else torch.rand(5, 6)
    q = prepared(layer, x, bits=4)
    assert [name for name, _ in quant_layers(q)] == ["model"]
    assert list(layer_outputs(check_equal(q, x), x)) == ["model"]


class SharedNorm(nn.Module):
    """One batch normalisation after two layers, and a layer whose result is used twice: nothing may be folded."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(3, 4, 3, padding=1)
        self.b = nn.Conv2d(4, 4, 3, padding=1)
        self.c = nn.Conv2d(4, 4, 1)
        self.norm = nn.BatchNorm2d(4)
        self.norm_c = nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.norm(self.b(torch.relu(self.norm(self.a(x))))))
        y = self.c(x)
        return self.norm_c(y) + y


def test_norms_that_cannot_be_folded_become_affine() -> None:
    x = nets.images()
    converted = check_equal(prepared(nets.randomise(SharedNorm()), x, bits=4), x)
    assert sum(isinstance(m, Affine) for m in converted.modules()) == 2


@pytest.mark.parametrize("exclude", [["conv1", "fc"], ["conv2"]])
def test_layers_left_in_fp32_keep_a_defined_order_of_additions(exclude: list[str]) -> None:
    x = nets.images()
    converted = check_equal(prepared(nets.randomise(nets.SmallCnn()), x, bits=4, exclude=exclude), x)
    assert sum(isinstance(m, (Conv2dF32, LinearF32)) for m in converted.modules()) == len(exclude)


@pytest.mark.parametrize(
    "layers",
    [
        [nn.Conv2d(3, 4, 3, groups=1), nn.BatchNorm2d(4, affine=False), nn.ReLU6()],
        [nn.Conv2d(3, 6, 3, stride=2, dilation=2, padding="valid"), nn.Hardtanh(), nn.AvgPool2d(2, 1)],
        [nn.Conv2d(3, 6, (2, 3), padding="same", groups=3, bias=False), nn.Identity(), nn.Flatten(), nn.LazyLinear(3)],
        [nn.Conv2d(3, 4, 3, padding=2, padding_mode="circular"), nn.BatchNorm2d(4), nn.Dropout()],
        [nn.BatchNorm2d(3), nn.Conv2d(3, 4, 1), nn.MaxPool2d(3, 2, 1, ceil_mode=True)],
        [nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4, track_running_stats=False)],
        [nn.Conv2d(3, 4, 1), nn.AdaptiveAvgPool2d((2, 3))],
    ],
)
@pytest.mark.filterwarnings("ignore:convert. left as they stand:cimq.CimqWarning")
def test_kinds_of_layers(layers: list[nn.Module]) -> None:
    x = nets.images(4, 12)
    model = nn.Sequential(*layers)
    with torch.no_grad():
        model(x)
    check_equal(prepared(nets.randomise(model), x, bits=5), x)


@pytest.mark.parametrize("layer", [ScaledConv(3, 5, 3, padding=1), nn.Sequential(nn.Flatten(), ScaledLinear(432, 4))])
def test_subclasses_are_traced_around_their_product(layer: nn.Module) -> None:
    x = nets.images(4, 12)
    convolution = isinstance(layer, nn.Conv2d)
    norm = nn.BatchNorm2d(5) if convolution else nn.Identity()
    # The multiplication by 2 has a form, the absolute value has none.
    warned = contextlib.nullcontext() if convolution else pytest.warns(cimq.CimqWarning, match="left as they stand")
    with warned:
        converted = check_equal(prepared(nets.randomise(nn.Sequential(layer, norm)), x, bits=4), x)
    assert len([m for m in converted.modules() if isinstance(m, (CrossbarConv2d, CrossbarLinear))]) == 1


def test_subclass_that_cannot_be_traced_stays_and_is_named() -> None:
    x = nets.images(4, 12)
    q = prepared(nets.randomise(nn.Sequential(OwnPadding(3, 5, 3, stride=2), nn.BatchNorm2d(5))), x, bits=4)
    with pytest.warns(cimq.CimqWarning, match=r"not exportable: 0 \(QuantOwnPadding\)"):
        check_equal(q, x)


class DataDependent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.norm = nn.BatchNorm2d(4)
        self.fc = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.conv(x))
        if bool(x.abs().sum() > 0):
            x = torch.relu(x)
        return self.fc(x.mean((2, 3)))


def test_untraceable_model_keeps_its_forward() -> None:
    x = nets.images(4, 12)
    q = prepared(nets.randomise(DataDependent()), x, bits=4)
    with pytest.warns(cimq.CimqWarning, match=r"cannot trace DataDependent"):
        converted = check_equal(q, x)
    assert isinstance(converted.conv, CrossbarConv2d)
    assert isinstance(converted.norm, Affine)


class Gated(nn.Module):
    """Squeeze-excite."""

    def __init__(self, act: nn.Module) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)
        self.act = act
        self.squeeze = nn.Conv2d(8, 2, 1)
        self.excite = nn.Conv2d(2, 8, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.act(self.conv(x))
        gate = F.adaptive_avg_pool2d(x, 1)
        return x * torch.sigmoid(self.excite(F.relu(self.squeeze(gate))))


@pytest.mark.parametrize("act", [nn.SiLU(inplace=True), nn.Hardswish(), nn.ReLU6()])
def test_squeeze_excite(act: nn.Module) -> None:
    x = nets.images(4, 12)
    converted = check_equal(prepared(nets.randomise(Gated(act)), x, bits=4), x)  # a warning would be an error
    assert cimq.ops.activation in {n.target for n in converted.graph.nodes}


def test_operations_without_a_form_stay_and_are_named() -> None:
    x = nets.images(4, 12)
    q = prepared(nets.randomise(nn.Sequential(Gated(nn.Mish()), nn.Softmin(1))), x, bits=4)
    with pytest.warns(cimq.CimqWarning, match=r"not exportable: 0\.act \(Mish\), 1 \(Softmin\)"):
        check_equal(q, x)


def test_replacing_norms_after_prepare_is_seen() -> None:
    x = nets.images()
    q = prepared(nets.randomise(nets.SmallCnn()), x, bits=4).eval()
    with torch.no_grad():
        before = q(x)
        q.bn1 = nn.BatchNorm2d(8).eval()
        after = q(x)
    assert not torch.equal(before, after)
    check_equal(q, x)


@pytest.mark.parametrize("make", [nets.SmallCnn, lambda: nets.ResNet(mean_pool=False)])
def test_converted_model_survives_pickle_and_deepcopy(make: object) -> None:
    x = nets.images(4, 16)
    converted = cimq.convert(prepared(nets.randomise(make()), x, bits=4))  # type: ignore[operator]
    with torch.no_grad():
        wanted = converted(x)
        assert torch.equal(copy.deepcopy(converted)(x), wanted)
        assert torch.equal(pickle.loads(pickle.dumps(copy.deepcopy(converted)))(x), wanted)


def test_refusals() -> None:
    with pytest.raises(ValueError, match=r"no quantised layers; call cimq\.prepare"):
        cimq.convert(nets.SmallCnn())
    with pytest.raises(ValueError, match=r"'conv1' has no activation scale yet; call cimq\.calibrate"):
        cimq.convert(cimq.prepare(nets.SmallCnn()))
    converted = cimq.convert(prepared(nets.SmallCnn(), nets.images()).eval())
    with pytest.raises(ValueError, match="is converted already"):
        cimq.convert(converted)
    with pytest.raises(ValueError, match="prepare: the model is converted"):
        cimq.prepare(converted)


class RandomInEvaluation(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return F.dropout(self.fc(x))


@dataclasses.dataclass
class Scores:
    logits: Tensor


class RandomInside(nn.Module):
    """Its output is of a kind that holds tensors."""

    def __init__(self, make: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.inner = RandomInEvaluation()
        self.make = make

    def forward(self, x: Tensor) -> Any:
        return self.make(self.inner(x))


@pytest.mark.filterwarnings("ignore:convert. :cimq.CimqWarning")
@pytest.mark.parametrize(
    "make", [None, lambda y: [y], lambda y: {"y": y}, lambda y: UserDict(y=y), lambda y: (None, Scores(y))]
)
def test_the_check_finds_models_that_are_random_in_evaluation(make: Callable[[Tensor], Any] | None) -> None:
    x = torch.rand(16, 4)
    model = RandomInEvaluation() if make is None else RandomInside(make)
    with pytest.raises(ValueError, match="something random"):
        cimq.convert(prepared(model, x), sample_input=x)


def test_exact_evaluation_ends_with_an_error_too() -> None:
    from cimq.quantization.exact import exact_mode

    x = nets.images()
    q = prepared(nets.randomise(nets.SmallCnn()), x, bits=4).eval()
    with pytest.raises(ValueError, match="x must have 3 channels"):
        q(x[:, :2])
    assert not exact_mode._state.stack
    assert not torch.overrides._get_current_function_mode_stack()
