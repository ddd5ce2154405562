"""Pooling, resizing and shape operations from the prepared model to the executor and onnxruntime, value by value."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from bundle_nets import HARDWARE, images, randomise
from operation_nets import OF_ANY_SIZE, Around, cases
from test_export import assert_equal_everywhere
from torch import Tensor, nn

import cimq
from cimq import Policy
from cimq.bundle.fx_reader import read_network


def prepared(operation: Any, shape: tuple[int, ...], hardware: str = "lossy") -> tuple[nn.Module, Tensor]:
    x = images(4, *shape)
    net = randomise(Around(operation, shape))
    return cimq.prepare(net, Policy.uniform(4, 5), HARDWARE[hardware], example_inputs=x).eval(), x


@pytest.mark.parametrize("name", cases())
def test_executor_equals_the_model(name: str, tmp_path: Path) -> None:
    model, x = prepared(*cases()[name])
    converted = cimq.convert(model, sample_input=x[:2])  # a warning of what it left would be an error
    bundle = cimq.export(converted, tmp_path / "net.cimq", x[:3])  # with the check of onnxruntime
    if name != "pixel unshuffle":  # PyTorch's gives a batch of 0 its own shape back
        assert_equal_everywhere(bundle, converted, x)
    with torch.no_grad():
        assert torch.equal(bundle.run(x), model(x))


@pytest.mark.parametrize("name", OF_ANY_SIZE)
def test_converted_models_take_other_sizes(name: str) -> None:
    model, x = prepared(OF_ANY_SIZE[name], (3, 9, 10), "ideal")
    for converted in (cimq.convert(model), cimq.convert(model, sample_input=x)):
        for size in ((9, 10), (12, 17), (7, 6)):
            other = images(3, 3, *size, seed=2)
            with torch.no_grad():
                assert torch.equal(converted(other), model(other)), size


@pytest.mark.parametrize("name", OF_ANY_SIZE)
def test_evaluation_is_pytorch_within_rounding(name: str) -> None:
    x = images(3, 8, 9, 10)
    operation = OF_ANY_SIZE[name]
    model = cimq.prepare(nn.Sequential(nn.Conv2d(8, 8, 1), Called(operation)), example_inputs=x).eval()
    before = model[0](x)
    with torch.no_grad():
        got, wanted = model(x), operation(before)
    assert got.shape == wanted.shape
    torch.testing.assert_close(got, wanted, rtol=1e-5, atol=2e-6)


class Called(nn.Module):
    def __init__(self, operation: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.operation = operation

    def forward(self, x: Tensor) -> Tensor:
        return self.operation(x)


def test_evaluation_with_gradients() -> None:
    x = images(2, 3, 9, 10).requires_grad_()
    for name in ("bilinear, odd factor", "adaptive average", "average, divisor", "mean of columns", "area"):
        model, _ = prepared(OF_ANY_SIZE[name], (3, 9, 10), "ideal")
        y = model(x)
        with torch.no_grad():
            assert torch.equal(y, model(x))
        (grad,) = torch.autograd.grad(y.sum(), x)
        assert bool(torch.isfinite(grad).all()), name
        assert bool(grad.abs().sum() > 0), name


REFUSED: dict[str, tuple[Callable[[Tensor], Tensor], str]] = {
    "transposed batch": (lambda x: x.transpose(0, 1), "leave the batch first"),
    "rolled batch": (lambda x: x.roll(1, 0), "roll must leave the batch alone"),
    "flipped batch": (lambda x: x.flip(0), "flip must leave the batch alone"),
    "chunks of the batch": (lambda x: x.chunk(1)[0], "taking apart must leave the batch alone"),
    "index into the batch": (lambda x: x[0][None], "indexing must leave the batch alone"),
    "mean over the batch": (lambda x: x.mean((0, 2), keepdim=True), "a mean must leave the batch alone"),
    "sum over the batch": (lambda x: x - x.sum(0), "a mean must leave the batch alone"),
    "squeeze of anything": (lambda x: x.squeeze(), "squeeze without a dimension"),
    "list as index": (lambda x: x[:, [0, 2]], "slices, integers and None only"),
    "stack before the batch": (lambda x: torch.stack([x], 0), "stack must leave the batch alone"),
    "shift by the batch": (lambda x: x.roll(x.size(0), 2), "shape of node .* depends on the batch size"),
    "border by the batch": (
        lambda x: F.pad(x, (x.size(0), 2 - x.size(0))),
        "a number in node .* depends on the batch size",
    ),
    "as many turns as samples": (
        lambda x: x.roll(x.size(0) - 1, 2),
        "operations depend on the batch size from node .* on",
    ),
    "bicubic": (lambda x: F.interpolate(x, scale_factor=2, mode="bicubic"), "interpolate .* has no form"),
    "exact nearest": (lambda x: F.interpolate(x, scale_factor=2, mode="nearest-exact"), "interpolate .* has no form"),
    "roll of everything": (lambda x: x.roll(1), "roll .* has no form"),
    "mean of everything": (lambda x: x.mean() + x, "mean .* has no form"),
}


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.filterwarnings("ignore::cimq.CimqWarning")
def test_what_touches_the_batch_is_refused_by_name(name: str, tmp_path: Path) -> None:
    operation, message = REFUSED[name]
    x = images(2, 3, 6, 6)
    model = cimq.prepare(nn.Sequential(nn.Conv2d(3, 3, 3), Called(operation)), example_inputs=x)
    with pytest.raises(ValueError, match=message):
        cimq.export(model, tmp_path / "net.cimq", x)


def test_a_bundle_says_what_it_holds() -> None:
    wanted = {
        "nearest, twice": ("resize_nearest", {"size": [18, 20], "row_step": 0.5, "column_step": 0.5}),
        "adaptive average": ("adaptive_avg_pool2d", {"size": [4, 3]}),
        "channels last": ("transpose", {"perm": [1, 2, 0]}),
        "flip": ("flip", {"dims": [0, 2]}),
        "mean of channels": ("mean", {"dims": [0]}),
        "circular padding": ("circular_pad", {"before": [0, 2, 3], "after": [0, 4, 1]}),
    }
    for name, (op, attrs) in wanted.items():
        model, x = prepared(*cases()[name])
        nodes = read_network(cimq.convert(model), x).nodes
        assert [node.attrs for node in nodes if node.op == op] == [attrs], name
