"""The drawings of a bundle on its machine hold what the simulation says."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import cimq
from cimq.bundle.programs import compiled
from cimq.report import write_report
from cimq.report.machine_view import machine_view

# Exporting says that the closed form is about one crossbar.
pytestmark = pytest.mark.filterwarnings("ignore:hardware 'custom' has:cimq.CimqWarning")


@pytest.fixture(scope="module")
def bundle_for(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Exports a small network for a machine with some resources."""
    torch.manual_seed(0)
    x = torch.randn(2, 3, 8, 8)
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 12, 3), nn.ReLU(), nn.Flatten(), nn.Linear(192, 5))

    def make(**resources: Any) -> Path:
        hardware = cimq.Hardware.preset("paper").replace(rows=32, cols=32, resources=resources)
        model = cimq.prepare(net, cimq.Policy.uniform(4, 4), hardware)
        cimq.calibrate(model, [x])
        folder = tmp_path_factory.mktemp("bundles") / "net.cimq"
        cimq.export(cimq.convert(model), folder, sample_input=x)
        return folder

    return make


@pytest.mark.parametrize("crossbars", [1, 2, 5])
def test_stripes_are_the_work_of_the_crossbars(bundle_for: Any, crossbars: int) -> None:
    bundle = bundle_for(crossbars=crossbars)
    view = machine_view(bundle)
    time = compiled(bundle, pipeline=view.pipeline).simulated
    assert view.time_us == time.time_us
    assert [bar.name for bar in view.bars] == [layer.name for layer in time.layers]
    assert len(view.plan.squares) == time.crossbars <= crossbars
    assert view.plan.left_out == 0
    work = sum(square.busy for square in view.plan.squares) * view.time_us
    assert work == pytest.approx(sum(layer.write_us + layer.mvm_us + layer.adc_us for layer in time.layers))
    for square in view.plan.squares:
        assert sum(stripe.height for stripe in square.stripes) == pytest.approx(view.plan.side)
    for bar, layer in zip(view.bars, time.layers, strict=True):
        assert bar.x == pytest.approx(view.width * layer.begin_us / time.time_us, abs=1.0)
    assert sum(spent for _, spent in view.causes) == pytest.approx(view.time_us)


def test_crossbars_that_hold_one_tile_stand_in_the_order_of_the_layers(bundle_for: Any) -> None:
    bundle = bundle_for(crossbars=None)
    view = machine_view(bundle)
    program = compiled(bundle, pipeline=view.pipeline)
    used = [len(layer.tiles) * layer.repeats * layer.copies for layer in program.layers]
    assert view.crossbars == sum(used)
    assert view.plan.each == 1
    hues = [square.stripes[0].hue for square in view.plan.squares]
    expected = [bar.hue for bar, count in zip(view.bars, used, strict=True) for _ in range(count)]
    assert hues == expected


def test_the_page_shows_both_drawings(bundle_for: Any, make_run: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    make_run(tmp_path)
    bundle_for(crossbars=3).rename(tmp_path / "net.cimq")
    page = write_report(tmp_path).read_text(encoding="utf-8")
    assert page == write_report(tmp_path).read_text(encoding="utf-8")
    assert "On the machine, event by event" in page
    assert page.count("of the time</title>") == 3  # one per crossbar


def test_a_machine_without_room_is_named(bundle_for: Any) -> None:
    view = machine_view(bundle_for(buffer_bytes=8))
    assert "buffer" in view.refusal
    assert view.bars == ()
