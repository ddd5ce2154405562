"""A row of machines that differ in one resource."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from bundle_nets import write_handmade

from cimq import Hardware
from cimq.bundle.sweep import read_sweep, sweep

# 2 x 2 tiles of the handmade layer, 3 digits.
MACHINE = Hardware.preset("paper").replace(rows=2, cols=4, resources={"bus_bytes_per_us": 1000.0})


@pytest.fixture
def bundle_path(tmp_path: Path) -> Path:
    return write_handmade(tmp_path / "net.cimq")


def test_more_crossbars_take_less_time(bundle_path: Path, tmp_path: Path) -> None:
    found = sweep(bundle_path, "crossbars", [1, 2, None], MACHINE)
    times = [point.simulated.time_us for point in found.points if point.simulated is not None]
    assert [point.writes for point in found.points] == [4, 4, 0]
    assert times[0] > times[1] > times[2]
    assert times[2] == pytest.approx(3 * 1.4 + 2e-3 + 3e-3)
    lines = str(found).splitlines()
    assert lines[0].split() == ["crossbars", "writes", "time", "us", "write", "us", "mvm", "us", "move", "us", "used"]
    assert lines[-1].split()[0] == "inf"
    plain = json.loads(json.dumps(found.to_dict()))
    assert [point["value"] for point in plain["points"]] == [1, 2, None]
    found.plot(tmp_path / "sweep.svg")
    assert "<svg" in (tmp_path / "sweep.svg").read_text()
    assert not (bundle_path / "program.jsonl").exists()


def test_machines_that_are_too_small_are_named(bundle_path: Path, tmp_path: Path) -> None:
    found = sweep(bundle_path, "buffer_bytes", [13, 14], MACHINE)
    assert found.points[0].simulated is None
    assert "13: program.jsonl: line" in str(found)
    assert "needs at least 14 bytes" in found.points[0].refusal
    assert found.points[1].simulated is not None
    with pytest.raises(ValueError, match="there is nothing to draw"):
        sweep(bundle_path, "buffer_bytes", [1], MACHINE).plot(tmp_path / "sweep.png")


def test_machines_without_a_program_are_named(bundle_path: Path) -> None:
    # The pipeline itself simulates, and finds no program that fits the buffer.
    found = sweep(bundle_path, "buffer_bytes", [13, 1000], MACHINE, "pipelined")
    assert found.points[0].writes is None
    assert "resources.buffer_bytes is 13" in found.points[0].refusal
    assert found.points[1].simulated is not None
    assert str(found).splitlines()[2].split() == ["13", *["-"] * 6]
    with pytest.raises(ValueError, match=r"resources\.buffer_bytes is 13"):
        sweep(bundle_path, "buffer_bytes", [13], MACHINE, "pipelined")
    with pytest.raises(ValueError, match="there is no pipeline 'nothing'"):
        sweep(bundle_path, "crossbars", [1, 2], MACHINE, "nothing")


def test_what_cannot_be_varied_is_refused(bundle_path: Path) -> None:
    with pytest.raises(ValueError, match="there is no resource 'rows'; the resources are crossbars, adcs_per_crossbar"):
        sweep(bundle_path, "rows", [1])
    with pytest.raises(ValueError, match="there must be at least one value"):
        sweep(bundle_path, "crossbars", [])
    with pytest.raises(ValueError, match=r"resources\.crossbars must be an integer from 1"):
        sweep(bundle_path, "crossbars", [0])


def test_sweeps_are_read_from_text() -> None:
    assert read_sweep("crossbars=1, 4,inf") == ("crossbars", [1, 4, None])
    assert read_sweep("bus_bytes_per_us=0.5,None") == ("bus_bytes_per_us", [0.5, None])
    for text in ("crossbars", "crossbars=", "=1,"):
        with pytest.raises(ValueError, match="sweep"):
            read_sweep(text)
    with pytest.raises(ValueError, match="'many' in 'crossbars=1,many' must be a number, or inf for no limit"):
        read_sweep("crossbars=1,many")
