"""Products that stay in fp32 are named by calibration, those that are quantised or known are not."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import cimq


class Untraceable(nn.Module):
    """Products by function calls behind a branch on data, which torch.fx refuses."""

    def __init__(self, product: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(6, 6) / 3)
        self.product = product

    def forward(self, x: Tensor) -> Tensor:
        if float(x.detach().sum()) > 1e9:
            return x
        return self.product(x, self.weight)


class Net(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.first = nn.Linear(6, 6)
        self.inner = inner
        self.last = nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.last(self.inner(self.first(x)))
        return y


def said(model: nn.Module, **options: object) -> str:
    """What calibration says; prepare must say nothing."""
    q = cimq.prepare(model, **options)  # type: ignore[arg-type]
    x = torch.randn(4, 6)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        cimq.calibrate(q, [x, x])
    assert len(caught) <= 1
    assert not q._forward_hooks.keys() - {q.__dict__["_cimq_hooks"][1]}  # nothing is left behind
    return str(caught[0].message) if caught else ""


@pytest.mark.parametrize(
    ("product", "name"),
    [
        (F.linear, "linear x1"),
        (torch.matmul, "matmul x1"),
        (lambda x, w: x @ w, "matmul x1"),
        (lambda x, w: (x @ w).mm(w), "matmul x1, mm x1"),
        (lambda x, w: torch.einsum("bi,ij->bj", x, w), "einsum x1"),
        (lambda x, w: torch.addmm(x, x, w), "addmm x1"),
        (lambda x, w: torch.bmm(x[None], w[None])[0], "bmm x1"),
        (lambda x, w: x[None].baddbmm(x[None], w[None])[0], "baddbmm x1"),
        (lambda x, w: F.conv1d(x[:, None], w[:1, None, :3], padding=1)[:, 0], "conv1d x1"),
        (lambda x, w: F.conv2d(x[:, None, None], w[None, None, :1, :3], padding=(0, 1))[:, 0, 0], "conv2d x1"),
        (lambda x, w: F.scaled_dot_product_attention(*([x[None, None]] * 3))[0, 0], "scaled_dot_product_attention x1"),
        (lambda x, w: torch.tensordot(x, w, 1), "tensordot x1"),
    ],
)
def test_products_of_untraceable_forwards_are_named(product: Callable[[Tensor, Tensor], Tensor], name: str) -> None:
    text = said(Net(Untraceable(product)))
    assert text.startswith(f"calibrate: these products stay fp32 (calls per run of the model): inner: {name}. To put")


def test_every_module_is_named_and_an_error_in_between_is_survived() -> None:
    class Deep(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.blocks = nn.ModuleList([Untraceable(torch.matmul) for _ in range(3)])
            self.fails = Untraceable(lambda x, w: x.nothing_of_this_name)

        def forward(self, x: Tensor) -> Tensor:
            for block in self.blocks:
                try:
                    self.fails(x)
                except AttributeError:
                    x = block(x)
            return x @ x.T @ x if bool(x.isfinite().all()) else x

    text = said(Net(Deep()))
    assert "inner.blocks.0: matmul x1; inner.blocks.1: matmul x1; inner.blocks.2: matmul x1; inner: matmul x2." in text


def test_quantised_and_excluded_products_are_not_named() -> None:
    traceable = Net(nn.Sequential(nn.Linear(6, 6), nn.ReLU()))
    assert said(traceable) == ""
    assert said(Net(Untraceable(torch.matmul)), exclude="inner") == ""

    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.qkv = nn.Parameter(torch.randn(18, 6))
            self.attention = nn.MultiheadAttention(6, 2, batch_first=True)

        def forward(self, x: Tensor) -> Tensor:
            q, k, v = F.linear(x[None], self.qkv).chunk(3, -1)
            y = F.scaled_dot_product_attention(q, k, v)
            z: Tensor = self.attention(y, y, y)[0][0]
            return z

    assert said(Net(Attention())) == ""


class TwoCalls(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.matmul(torch.einsum("bi,ci->bc", x, x), x)


def test_what_prepare_has_named_is_not_named_again() -> None:
    with pytest.warns(cimq.CimqWarning, match=r"inner \(TwoCalls\): its call of einsum; inner \(TwoCalls\): its call"):
        q = cimq.prepare(Net(TwoCalls()))
    cimq.calibrate(q, [torch.randn(4, 6)])  # CimqWarning is an error in the tests
    with pytest.warns(cimq.CimqWarning, match="inner"):
        q = cimq.prepare(Net(nn.Sequential(nn.ConvTranspose1d(1, 1, 1), nn.Flatten(0))), exclude="first")
    q.inner = Untraceable(torch.matmul)  # new since then
    with pytest.warns(cimq.CimqWarning, match="inner: matmul x1"):
        cimq.calibrate(q, [torch.randn(4, 6)])


def test_products_of_constants_are_not_named() -> None:
    class Positions(Untraceable):
        def __init__(self) -> None:
            super().__init__(self.encode)
            self.register_buffer("cache", torch.zeros(6, 6))

        def encode(self, x: Tensor, w: Tensor) -> Tensor:
            angles = torch.einsum("i,j->ij", torch.arange(x.shape[1]).float(), w[0])
            scale = (w @ w.T).diagonal()
            return x * scale + angles.sin()[0]

    class Cache(Positions):
        def encode(self, x: Tensor, w: Tensor) -> Tensor:
            self.cache[:4] = x.detach()
            return x + (self.cache @ w)[:4]

    assert said(Net(Positions())) == ""
    assert "inner: matmul x1" in said(Net(Cache()))


def test_torchscript_is_named() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own word about TorchScript
        scripted = torch.jit.script(nn.Sequential(nn.Linear(6, 6)))
    q = cimq.prepare(Net(scripted))
    with pytest.warns(cimq.CimqWarning, match=r"inner: all of it \(TorchScript\)"):
        cimq.calibrate(q, [torch.randn(4, 6)])


def test_many_modules_are_shortened() -> None:
    blocks = nn.Sequential(*[Untraceable(torch.matmul) for _ in range(30)])
    assert "inner.19: matmul x1; ... (30 modules in all)." in said(Net(blocks))


def test_compiled_modules_are_watched_too() -> None:
    net = Net(Untraceable(torch.matmul))
    net.inner.compile(backend="eager")
    assert "inner: matmul x1." in said(net)
