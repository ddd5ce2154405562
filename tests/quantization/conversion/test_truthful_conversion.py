"""Converted models equal prepared ones at every size, or say that they cannot be: what torch.fx reads differently."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import nets
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import cimq
from cimq.quantization import CrossbarConv1d, CrossbarConv2d, CrossbarLinear

pytestmark = pytest.mark.filterwarnings("ignore::cimq.CimqWarning")  # of layers not called, of what is left
X = torch.randn(2, 4, 6, 6, generator=torch.Generator().manual_seed(0))
OTHERS = (torch.randn(3, 4, 9, 9), torch.randn(1, 4, 7, 6))


def check(model: nn.Module, *inputs: Tensor, others: tuple[Any, ...] = ()) -> list[nn.Module]:
    """Converted without and with a sample, compared on the inputs and on `others`."""
    sample: Any = inputs if len(inputs) > 1 else inputs[0]
    q = cimq.prepare(nets.randomise(model).eval(), example_inputs=sample).eval()
    made = [cimq.convert(q), cimq.convert(q, sample)]
    with torch.no_grad():
        for given_inputs in (inputs, *((other,) if isinstance(other, Tensor) else other for other in others)):
            wanted = q(*(value.clone() for value in given_inputs))
            for converted in made:
                got = converted(*(value.clone() for value in given_inputs))
                assert got.dtype == wanted.dtype
                assert torch.equal(got, wanted)
    return made


class Pair(nn.Module):
    """Two convolutions, and what a test does with them."""

    def __init__(self, how: Callable[[Any, Tensor], Tensor]) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1)
        self.register_buffer("count", torch.zeros(()))
        self.how = how

    def forward(self, x: Tensor) -> Tensor:
        return self.how(self, x)


def assigned(function: Callable[[Any, Any], Any]) -> Callable[[Any, Tensor], Tensor]:
    def how(m: Any, x: Tensor) -> Tensor:
        h = m.a(x)
        skip = h
        h = function(h, m.b(x))
        return m.b(F.relu(h)) + skip

    return how


@pytest.mark.parametrize(
    "function",
    [
        operator.iadd,
        operator.isub,
        operator.imul,
        operator.itruediv,
        lambda a, b: operator.iadd(a, 0.5),
        lambda a, b: torch.add(a, b, out=a),
        lambda a, b: a.add_(b),
    ],
)
def test_operators_with_an_assignment(function: Callable[[Any, Any], Any]) -> None:
    for converted in check(Pair(assigned(function)), X, others=OTHERS):
        assert isinstance(converted.a, CrossbarConv2d)


def test_sums_in_place_are_exportable(tmp_path: Any) -> None:
    def how(m: Any, x: Tensor) -> Tensor:
        h = skip = m.a(x)
        h += m.b(x)
        return F.relu(h) + skip

    q = cimq.prepare(nets.randomise(Pair(how)).eval(), example_inputs=X).eval()
    with torch.no_grad():
        for name, model in (("a", q), ("b", cimq.convert(q))):  # one that is converted already has no other results
            assert torch.equal(torch.as_tensor(cimq.export(model, tmp_path / f"{name}.cimq", X).run(X)), q(X))


def view_taken_before(m: Any, x: Tensor) -> Tensor:
    h = m.a(x)
    flat = h.flatten(1)
    h.relu_()
    return flat + m.b(h).flatten(1)


def other_view_of_the_same(m: Any, x: Tensor) -> Tensor:
    h = m.a(x)
    first, second = h.flatten(1), h.flatten(2)
    first *= 2
    return second.flatten(1) + m.b(x).flatten(1)


def through_dropout_made_before(m: Any, x: Tensor) -> Tensor:
    h = m.a(x)
    kept = F.dropout(input=h, p=0.5, training=m.training)
    h += 1
    return m.b(kept)


def into_one_of_two_parts(m: Any, x: Tensor) -> Tensor:
    h = m.a(x)
    first, second = h.chunk(2, 1)
    first += second
    return m.b(torch.cat([first, second], 1)) + h


def into_an_operand(m: Any, x: Tensor) -> Tensor:
    h, k = m.a(x), m.b(x)
    torch.mul(h, h, out=k)
    return m.b(k)


def sizes_are_no_tensors(m: Any, x: Tensor) -> Tensor:
    rows = kept = x.shape[0]
    rows *= 2
    shape = whole = x.shape
    shape += (1,)
    return m.b(m.a(x)).reshape(rows // 2, -1) * kept + len(whole)


def asks_for_the_type(m: Any, x: Tensor) -> Tensor:
    y = m.a(x)
    if isinstance(y, Tensor) and torch.is_tensor(x) and isinstance(x.shape[1], int):
        y = -y
    return m.b(y)


def view_as_another_type(m: Any, x: Tensor) -> Tensor:
    return m.b(m.a(x).view(torch.int32).view(torch.float32))


def a_column(m: Any, x: Tensor) -> Tensor:
    y = m.a(x).amax((1, 2, 3))
    return y.view(y.size(0), 1).reshape(x.size(0), -1)


def batch_of_another(m: Any, x: Tensor) -> Tensor:
    y = m.a(x).flatten(0, 1)
    return y.reshape(x.size(0), -1) + m.b(x).view(x.shape[0], -1)


def mean_of_frames(m: Any, x: Tensor) -> Tensor:
    return m.a(x).unsqueeze(2).mean((2, 3))


@pytest.mark.parametrize(
    "how",
    [
        view_taken_before,
        other_view_of_the_same,
        through_dropout_made_before,
        into_one_of_two_parts,
        into_an_operand,
        sizes_are_no_tensors,
        asks_for_the_type,
        view_as_another_type,
        a_column,
        batch_of_another,
        mean_of_frames,
        lambda m, x: m.b(F.adaptive_avg_pool2d(m.a(x), 3)),
        lambda m, x: F.adaptive_avg_pool2d(m.a(x), (None, 2)),
    ],
)
def test_forwards_that_are_easily_misread(how: Callable[[Any, Tensor], Tensor]) -> None:
    check(Pair(how), X, others=OTHERS)


def random_numbers(m: Any, x: Tensor) -> Tensor:
    return m.a(x) + torch.randn(4, 1, 1)


def counts(m: Any, x: Tensor) -> Tensor:
    m.count += 1
    return m.a(x) * m.count


def writes_a_constant(m: Any, x: Tensor) -> Tensor:
    total = torch.zeros(4)
    total += m.a(x).amax((0, 2, 3))
    return total


def writes_a_parameter(m: Any, x: Tensor) -> Tensor:
    m.a.bias.mul_(0.5)
    return m.a(x) + m.a.bias.reshape(-1, 1, 1)


@pytest.mark.parametrize("how", [random_numbers, counts, writes_a_constant, writes_a_parameter])
def test_what_a_graph_cannot_hold_keeps_its_forward(how: Callable[[Any, Tensor], Tensor], tmp_path: Any) -> None:
    """A graph would hold random numbers as constants, count once, and add to the constant of the call before."""
    q = cimq.prepare(nets.randomise(Pair(how)).eval(), example_inputs=X).eval()
    with pytest.warns(cimq.CimqWarning, match="cannot trace Pair .*its forward is kept"), torch.no_grad():
        converted = cimq.convert(q)
    with torch.no_grad():
        for _ in range(3):
            torch.manual_seed(0)
            wanted = q(X)
            torch.manual_seed(0)
            assert torch.equal(converted(X), wanted)
    with pytest.raises(ValueError, match=r"no torch\.fx graph: .*cannot trace|converted model does not give"):
        cimq.export(q, tmp_path / "a.cimq", X)


def test_a_list_as_input_is_no_tensor() -> None:
    class OfList(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(4, 3)

        def forward(self, parts: list[Tensor]) -> Tensor:
            return self.linear(parts if isinstance(parts, Tensor) else torch.cat(parts))

    q = cimq.prepare(nets.randomise(OfList()).eval())
    parts = [torch.randn(2, 4), torch.randn(3, 4)]
    cimq.calibrate(q, [parts], forward_fn=lambda model, batch: model(batch))
    with torch.no_grad():
        for converted in (cimq.convert(q), cimq.convert(q, (parts,))):
            assert torch.equal(converted(parts), q.eval()(parts))


def test_the_output_of_attention_is_a_tuple() -> None:
    class Attends(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

        def forward(self, x: Tensor) -> Tensor:
            y = self.attention(x, x, x)
            y = y if isinstance(y, (Tensor | None, str)) else y[0]
            y += x
            return y

    check(Attends(), torch.randn(2, 5, 8), others=(torch.randn(3, 4, 8),))


def test_types_in_place_are_guarded() -> None:
    def how(m: Any, x: Tensor) -> Tensor:
        h = m.a(x)
        h += m.b(x).double()
        return h

    q = cimq.prepare(nets.randomise(Pair(how)).eval(), example_inputs=X).eval()
    with torch.no_grad():
        assert q(X).dtype == torch.float32
        with pytest.raises(TypeError, match=r"in place on torch\.float32 got an operand that makes it torch\.float64"):
            cimq.convert(q)(X)


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv1d(4, 8, 3, stride=2, padding=1),
        nn.Conv2d(4, 8, (3, 1), padding="same", groups=2),
        nn.Linear(4, 3),
        nn.Conv2d(4, 8, 3, padding=(1, 2), padding_mode="reflect", dilation=(1, 2), bias=False),
    ],
)
@pytest.mark.parametrize("exclude", [False, True])
def test_converted_layers_show_the_attributes_they_had(layer: nn.Module, exclude: bool) -> None:
    x = torch.randn(2, 4, 12) if isinstance(layer, nn.Conv1d) else torch.randn(2, 4, 12, 12)
    x = torch.randn(2, 4) if isinstance(layer, nn.Linear) else x
    other = [name for name, value in vars(layer).items() if not name.startswith("_") and not callable(value)]
    net = nn.Sequential(layer, nn.Flatten(), nn.LazyLinear(2)).eval()
    net(x)
    q = cimq.prepare(net, exclude=["0"] if exclude else [], example_inputs=x)
    converted = cimq.convert(q, x).get_submodule("0")
    for name in other:
        assert getattr(converted, name) == getattr(layer, name), name
    if not exclude:
        assert isinstance(converted, (CrossbarConv1d, CrossbarConv2d, CrossbarLinear))


# ---- random networks ----
STEPS: dict[str, Callable[[Any, int, Tensor, Tensor], Tensor]] = {
    "conv": lambda m, i, y, kept: m.convs[i](y),
    "add": lambda m, i, y, kept: y + kept,
    "iadd": lambda m, i, y, kept: operator.iadd(y, kept.detach() * 1),
    "isub number": lambda m, i, y, kept: operator.isub(y, 0.25),
    "imul itself": lambda m, i, y, kept: operator.imul(y, y),
    "relu_": lambda m, i, y, kept: y.relu_(),
    "relu": lambda m, i, y, kept: F.relu(y),
    "relu6 in place": lambda m, i, y, kept: F.relu6(y, True),
    "silu": lambda m, i, y, kept: F.silu(y, inplace=bool(i % 2)),
    "clamp": lambda m, i, y, kept: torch.clamp(y, -0.5, kept.amax()),
    "dropout": lambda m, i, y, kept: F.dropout(y, training=m.training),
    "norm": lambda m, i, y, kept: m.norm(y),
    "view there and back": lambda m, i, y, kept: y.reshape(y.size(0), -1).view(y.shape),
    "by the other's batch": lambda m, i, y, kept: y.flatten(0, 1).reshape(kept.size(0), -1).view_as(y),
    "view of it overwritten": lambda m, i, y, kept: operator.iadd(y.reshape(y.size(0), -1), 1.0).view(y.shape),
    "crop": lambda m, i, y, kept: F.pad(y[:, :, 1:], (0, 0, 1, 0)),
    "pad the half": lambda m, i, y, kept: F.pad(y, (0, 0, 0, y.size(2) // 2))[..., : y.size(2), :],
    "gate": lambda m, i, y, kept: y * torch.sigmoid(F.adaptive_avg_pool2d(y, 1)),
    "mean gate": lambda m, i, y, kept: y * y.mean((2, 3), keepdim=True),
    "negative mean gate": lambda m, i, y, kept: y + y.mean([-1, -2], True),
    "mean of channels": lambda m, i, y, kept: y + y.mean(1, keepdim=True),
    "max": lambda m, i, y, kept: F.max_pool2d(y, 3, 1, 1),
    "max with indices": lambda m, i, y, kept: F.max_pool2d(y, 3, 1, 1, return_indices=True)[0],
    "avg": lambda m, i, y, kept: F.avg_pool2d(y, 3, 1, 1, False, bool(i % 2)),
    "adaptive": lambda m, i, y, kept: y + F.adaptive_avg_pool2d(y, (2, 1)).mean((2, 3), keepdim=True),
    "chunks": lambda m, i, y, kept: torch.cat(tuple(reversed(y.chunk(2, 1))), -3),
    "out": lambda m, i, y, kept: torch.add(y, 1.0, out=y),
    "kind": lambda m, i, y, kept: -y if isinstance(y, Tensor) else y,
    "scaled by a size": lambda m, i, y, kept: y * (1.0 / y.shape[-1]),
}


class Random(nn.Module):
    def __init__(self, steps: list[str], keep: int) -> None:
        super().__init__()
        self.convs = nn.ModuleList([nn.Conv2d(4, 4, 3, padding=1) for _ in steps])
        self.last = nn.Conv2d(4, 2, 1)
        self.norm = nn.BatchNorm2d(4)
        self.steps, self.keep = steps, keep

    def forward(self, x: Tensor) -> Tensor:
        y = kept = self.last.weight.sum() * 0 + x * 1.0
        for i, step in enumerate(self.steps):
            if i == self.keep:
                kept = y
            y = STEPS[step](self, i, y, kept)
        return self.last(y) + kept[:, :2]


@settings(max_examples=60, deadline=None)
@given(
    steps=st.lists(st.sampled_from(sorted(STEPS)), min_size=1, max_size=6),
    keep=st.integers(0, 3),
    size=st.tuples(st.integers(1, 3), st.integers(3, 9), st.integers(3, 9)),
    with_sample=st.booleans(),
)
def test_random_networks_at_other_sizes_than_the_samples(
    steps: list[str], keep: int, size: tuple[int, int, int], with_sample: bool
) -> None:
    generator = torch.Generator().manual_seed(len(steps))
    q = cimq.prepare(nets.randomise(Random(steps, keep)).eval(), example_inputs=X).eval()
    try:
        converted = cimq.convert(q, X.clone() if with_sample else None)
    except (TypeError, ValueError):
        return
    with torch.no_grad():
        for x in (X, torch.randn(size[0], 4, *size[1:], generator=generator)):
            wanted = q(x.clone())
            try:
                got = converted(x.clone())
            except (TypeError, ValueError):
                continue
            assert torch.equal(got, wanted)
