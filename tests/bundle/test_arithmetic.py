"""Activation functions, softmax, normalisations and operands that are constants, from the model to the executor."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from bundle_nets import HARDWARE, images, randomise
from test_export import assert_equal_everywhere
from torch import Tensor, nn

import cimq
from cimq import Policy
from cimq.bundle.fx_reader import read_network


class Between(nn.Module):
    """An operation between two convolutions of 4 channels."""

    def __init__(self, inner: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 4, 3)
        self.inner = inner
        self.last = nn.Conv2d(4, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.inner(self.first(x)))


class Scaled(nn.Module):
    """Parameters and buffers in every place, and the forms in which networks write them."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor([0.4, 0.5, 0.6]).reshape(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor([0.2, 0.3, 0.25]))
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.gamma = nn.Parameter(torch.rand(4, 1, 1))
        self.temperature = nn.Parameter(torch.tensor(1.7))
        self.position = nn.Parameter(torch.randn(1, 4, 6, 6))
        self.log_scale = nn.Parameter(torch.rand(4))
        self.fc = nn.Linear(4, 5)
        self.register_buffer("counts", torch.arange(1, 6))

    def forward(self, x: Tensor) -> Tensor:
        x = (x - self.mean) / self.std[:, None, None]
        x = self.conv(x)
        x = x + self.gamma * x - 0.125
        x = x * self.log_scale.exp().view(1, -1, 1, 1) + self.position
        x = torch.maximum(torch.minimum(x, self.gamma * 3), -x)
        x = 1 - x / self.temperature
        x = x.sub(0.1).mul(0.3).div(0.7).add(1)
        x = torch.rsub(x, 2) + 2 / (x * x + 0.5)
        x = self.fc(x.mean((2, 3)))
        return torch.max(x / self.counts, torch.min(x, -x) * 2)


class Tokens(nn.Module):
    """A ViT's block without its attention: layer norms, GELU, layer scale."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(6, 8)
        self.norm1 = nn.LayerNorm(8)
        self.norm2 = nn.LayerNorm((5, 8), eps=1e-3, bias=False)
        self.fc1 = nn.Linear(8, 12)
        self.fc2 = nn.Linear(12, 8)
        self.scale = nn.Parameter(torch.rand(8))

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        x = x + self.scale * self.fc2(F.gelu(self.fc1(self.norm1(x)), approximate="tanh"))
        x = self.norm2(F.layer_norm(x, (8,)))
        return F.log_softmax(x, -1) + x.softmax(dim=1)


OPERATIONS: dict[str, tuple[Any, set[str]]] = {
    "leaky_relu": (nn.LeakyReLU(0.1), {"leaky_relu"}),
    "leaky_relu in place": (nn.LeakyReLU(-0.3, inplace=True), {"leaky_relu"}),
    "prelu": (nn.PReLU(), {"prelu"}),
    "prelu per channel": (nn.PReLU(4), {"prelu"}),
    "elu": (nn.ELU(0.7), {"elu"}),
    "elu in place": (nn.ELU(inplace=True), {"elu"}),
    "tanh": (nn.Tanh(), {"tanh"}),
    "gelu": (nn.GELU(), {"gelu"}),
    "gelu by tanh": (nn.GELU("tanh"), {"gelu_tanh"}),
    "softmax": (nn.Softmax(1), {"softmax"}),
    "softmax2d": (nn.Softmax2d(), {"softmax"}),
    "softmax of rows": (nn.Softmax(-1), {"softmax"}),
    "log_softmax": (nn.LogSoftmax(-2), {"log_softmax"}),
    "hardtanh": (nn.Hardtanh(-0.5, 0.75), {"clamp"}),
    "layer_norm": (nn.LayerNorm((6, 6)), {"layer_norm"}),
    "layer_norm of all": (nn.LayerNorm((4, 6, 6), elementwise_affine=False), {"layer_norm"}),
    "group_norm": (nn.GroupNorm(2, 4), {"group_norm"}),
    "group_norm of one": (nn.GroupNorm(1, 4, eps=1e-3, affine=False), {"group_norm"}),
    "instances": (nn.GroupNorm(4, 4), {"group_norm"}),
}


def prepared(net: nn.Module, x: Tensor, hardware: Any = "paper") -> nn.Module:
    return cimq.prepare(randomise(net), Policy.uniform(4, 5), hardware, example_inputs=x).eval()


def assert_chain(model: nn.Module, x: Tensor, folder: Path) -> set[str]:
    """Prepared, converted, executed and, within rounding (by export), in onnxruntime; the operations of the bundle."""
    converted = cimq.convert(model, sample_input=x)
    bundle = cimq.export(model, folder, x[:3])
    assert bundle.check().equal
    assert_equal_everywhere(bundle, converted, x)
    with torch.no_grad():
        assert torch.equal(bundle.run(x), model(x))
    return {node.op for node in read_network(converted, x).nodes}


@pytest.mark.parametrize("name", OPERATIONS)
def test_every_operation(name: str, tmp_path: Path) -> None:
    module, expected = OPERATIONS[name]
    x = images(5, 3, 8, 8)
    assert assert_chain(prepared(Between(module), x), x, tmp_path / "net.cimq") >= expected


@pytest.mark.parametrize("hardware", ["ideal", "lossy and noisy"])
@pytest.mark.parametrize("net", [Scaled, Tokens])
def test_networks(net: type[nn.Module], hardware: str, tmp_path: Path) -> None:
    x = images(5, 3, 6, 6) if net is Scaled else images(5, 5, 6)
    operations = assert_chain(prepared(net(), x, HARDWARE[hardware]), x, tmp_path / "net.cimq")
    if net is Scaled:
        assert operations >= {"constant", "add", "sub", "mul", "div", "minimum", "maximum"}
    else:
        assert operations >= {"layer_norm", "gelu_tanh", "softmax", "log_softmax", "constant"}


FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "leaky_relu": F.leaky_relu,
    "elu": lambda x: F.elu(x, 0.3),
    "torch.tanh": torch.tanh,
    "method tanh": lambda x: x.tanh(),
    "gelu": F.gelu,
    "F.softmax": lambda x: F.softmax(x, dim=1),
    "torch.softmax": lambda x: torch.softmax(x, -1),
    "torch.log_softmax": lambda x: torch.log_softmax(x, 2),
    "hardtanh": lambda x: F.hardtanh(x, -0.4, 0.3),
    "layer_norm": lambda x: F.layer_norm(x, (6, 6), eps=1e-4),
    "group_norm": lambda x: F.group_norm(x, 2),
    "number first": lambda x: 0.1 + 3 * (1 - x),
    "divided by a number": lambda x: x / 0.3,
    "divided by an integer": lambda x: x / 3,
    "reciprocal": lambda x: 0.7 / (x * x + 1),
    "negative": lambda x: -x + torch.neg(x) * 2,
    "torch.sub": lambda x: torch.sub(x, 0.1),
    "torch.div": lambda x: torch.div(x, 7),
    "two values": lambda x: torch.maximum(x, x * x) - torch.minimum(x, x / 2),
    "broadcast": lambda x: x - x.mean((2, 3), keepdim=True),
    "added broadcast": lambda x: x.mean((2, 3), keepdim=True) + x,
    "divided broadcast": lambda x: x / (x.mean((2, 3), keepdim=True) * x.mean((2, 3), keepdim=True) + 1),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions(name: str, tmp_path: Path) -> None:
    x = images(4, 3, 8, 8)
    assert_chain(prepared(Between(FUNCTIONS[name]), x), x, tmp_path / "net.cimq")


def test_shared_parameters_and_copies() -> None:
    """A converted model with parameters as operands gives no gradient and can be copied and pickled."""
    import copy
    import pickle

    x = images(3, 3, 6, 6)
    converted = cimq.convert(prepared(Scaled(), x), sample_input=x)
    y = converted(x)
    assert not y.requires_grad
    for other in (copy.deepcopy(converted), pickle.loads(pickle.dumps(converted))):
        assert torch.equal(other(x), y)


class Refused(nn.Module):
    def __init__(self, inner: Callable[..., Tensor], parameter: Tensor) -> None:
        super().__init__()
        self.fc = nn.Linear(6, 6)
        self.inner = inner
        self.register_buffer("table", parameter.clone())

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(self.fc(x), self.table)


REFUSALS: dict[str, tuple[Callable[..., Tensor], Tensor, str]] = {
    "one value per sample": (lambda x, t: x * t, torch.rand(2, 1), "one value for the whole batch"),
    "not finite": (lambda x, t: x + t, torch.tensor([0.0, float("inf"), 0, 0, 0, 0]), "must be finite"),
    "softmax along the batch": (lambda x, t: x.softmax(0), torch.ones(1), "must not be along the batch"),
    "another dimension": (lambda x, t: x * t, torch.ones(1, 3, 1, 1), "as many dimensions|must be the batch"),
    "clamp with a buffer": (lambda x, t: torch.clamp(x, t), torch.ones(6), "clamp.*reads the tensor 'table'"),
    "number of values": (lambda x, t: x / x.tolist()[0][0], torch.ones(1), "tolist .* makes a number of values"),
    "depends on the batch": (lambda x, t: x / x.shape[0], torch.ones(1), "depends on the batch size"),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_what_a_bundle_cannot_hold_is_refused(name: str, tmp_path: Path) -> None:
    inner, table, text = REFUSALS[name]
    x = images(2, 6)
    model = prepared(Refused(inner, table), x)
    model.table.copy_(table)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", cimq.CimqWarning)  # of what is left as it stands
        model = cimq.convert(model)
    with pytest.raises(ValueError, match=text):
        cimq.export(model, tmp_path / "net.cimq", x)
    assert list(tmp_path.iterdir()) == []


def test_gradients_in_evaluation_are_those_of_pytorch() -> None:
    x = images(3, 5, 6)
    model = prepared(Tokens(), x)
    inputs = x.clone().requires_grad_()
    y = model(inputs)
    with torch.no_grad():
        assert torch.equal(y.detach(), model(x))
    y.square().sum().backward()
    assert inputs.grad is not None
    assert model.scale.grad is not None
    assert bool(torch.isfinite(inputs.grad).all())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_other_types_keep_the_functions_of_pytorch(dtype: torch.dtype) -> None:
    from cimq.quantization.exact import functions as functions

    x = torch.randn(3, 4, 5).to(dtype)
    for kind, reference in (("silu", F.silu), ("gelu", F.gelu), ("tanh", torch.tanh), ("elu", F.elu)):
        assert torch.equal(functions.activation(x, kind), reference(x))
    assert torch.equal(functions.softmax(x, 1), F.softmax(x, 1))
    assert torch.equal(functions.softmax(x, 1, True), F.log_softmax(x, 1))
    assert torch.equal(functions.layer_norm(x, (5,), None, None, 1e-5), F.layer_norm(x, (5,)))
    assert torch.equal(functions.group_norm(x, 2, None, None, 1e-5), F.group_norm(x, 2))
