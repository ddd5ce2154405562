"""What cannot be prepared, calibrated, converted or exported says so in one sentence, before any work."""

from __future__ import annotations

from pathlib import Path

import nets
import pytest
import torch
from torch import Tensor, nn

import cimq

X = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def backbone() -> nn.Module:
    return nets.randomise(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten())).eval()


@pytest.mark.parametrize(
    ("head", "named"),
    [
        (nn.Linear(144, 4), r"1 \(Linear\)"),
        (nn.Sequential(nn.ReLU(), nn.BatchNorm1d(144)), r"1\.1 \(BatchNorm1d\)"),
        (nn.Sigmoid(), r"1 \(Sigmoid\)"),
        (nn.Sequential(nn.Unflatten(1, (4, 36)), nn.AvgPool1d(2)), r"1\.1 \(AvgPool1d\)"),
        (
            nn.Sequential(nn.Unflatten(1, (4, 6, 6)), nn.UpsamplingBilinear2d(scale_factor=2)),
            r"1\.1 \(UpsamplingBilinear2d\)",
        ),
    ],
)
def test_a_prepared_backbone_with_an_ordinary_head(head: nn.Module, named: str, tmp_path: Path) -> None:
    whole = nn.Sequential(cimq.prepare(backbone(), example_inputs=X), head).eval()
    message = rf"only 0 was prepared.*{named}.*call cimq\.prepare on the whole model$"
    with pytest.raises(ValueError, match=message):
        cimq.convert(whole)
    with pytest.raises(ValueError, match=message):
        cimq.export(whole, tmp_path / "a.cimq", X)


def test_a_call_outside_of_what_was_prepared() -> None:
    class Outside(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = cimq.prepare(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()), example_inputs=X)

        def forward(self, x: Tensor) -> Tensor:
            return self.body(x).mean((2, 3))

    with pytest.raises(ValueError, match="the call mean around it"):
        cimq.convert(Outside().eval())


def test_a_part_of_a_prepared_model() -> None:
    q = cimq.prepare(nn.Sequential(backbone(), nn.Linear(144, 4)).eval(), example_inputs=X)
    with pytest.raises(ValueError, match=r"taken out of a prepared model.*1 \(BatchNorm2d\)"):
        cimq.convert(q[0])


@pytest.mark.filterwarnings("ignore::cimq.CimqWarning")
def test_what_has_the_same_bits_everywhere_may_be_outside() -> None:
    whole = nn.Sequential(nn.ReLU6(), cimq.prepare(backbone(), example_inputs=X.clamp(0, 6)), nn.Hardtanh()).eval()
    with torch.no_grad():
        assert torch.equal(cimq.convert(whole)(X), whole(X))


@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_torchscript_and_exported_graphs() -> None:
    for scripted in (torch.jit.script(backbone()), torch.jit.trace(backbone(), X)):
        with pytest.raises(ValueError, match=r"TorchScript .*; prepare the module that it was scripted or traced from"):
            cimq.prepare(scripted)
    exported = torch.export.export(backbone(), (X,))
    with pytest.raises(TypeError, match=r"got ExportedProgram.*prepare the module that it was exported from"):
        cimq.prepare(exported)
    with pytest.raises(ValueError, match=r"graph of torch\.export, which makes conv2d without layers; prepare the"):
        cimq.prepare(exported.module())
    with pytest.warns(cimq.CimqWarning, match=r"stays fp32: 0 \(GraphModule\): it is a graph of torch\.export"):
        cimq.prepare(nn.Sequential(exported.module(), nn.Linear(144, 2)))


def test_models_and_inputs_without_values(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"prepare: 0\.weight is on the meta device and has no values"):
        cimq.prepare(backbone().to("meta"))
    q = cimq.prepare(backbone())
    with pytest.raises(ValueError, match="calibrate: a batch is on the meta device"):
        cimq.calibrate(q, [X.to("meta")])
    cimq.calibrate(q, [X])
    with pytest.raises(ValueError, match="convert: sample_input is on the meta device"):
        cimq.convert(q, X.to("meta"))
    with pytest.raises(ValueError, match="export: sample_input is on the meta device"):
        cimq.export(q, tmp_path / "a.cimq", X.to("meta"))
    q.to("meta")
    for call in (lambda: cimq.calibrate(q, [X]), lambda: cimq.convert(q), lambda: cimq.export(q, tmp_path / "a", X)):
        with pytest.raises(ValueError, match=r"(calibrate|convert|export): 0\.weight is on the meta device"):
            call()


class Odd(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.fft.rfft(x).abs()


class Fails(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.reshape(-1, 7)


@pytest.mark.filterwarnings("ignore::cimq.CimqWarning")
@pytest.mark.parametrize("odd", [Odd(), Fails()])
def test_errors_have_no_lines_about_the_graph(
    odd: nn.Module, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    q = cimq.prepare(nn.Sequential(nn.Conv2d(3, 4, 3), odd).eval(), example_inputs=torch.rand(7, 3, 9, 9))
    converted, others = cimq.convert(q), torch.rand(2, 3, 10, 10)
    calls = [lambda: cimq.export(q, tmp_path / "a.cimq", others)]
    if isinstance(odd, Fails):
        calls.append(lambda: converted(others))
    for call in calls:
        with pytest.raises((ValueError, RuntimeError)) as raised, torch.no_grad():
            call()
        said = str(raised.value)
        assert not any(text in said for text in ("\n", "While executing", "Original traceback", "tlparse"))
    assert "FX-traced" not in capfd.readouterr().err
