"""Programs that compute several samples: what they count, how their time is told, and where they go."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bundle_nets import write_handmade

import cimq
from cimq import Hardware
from cimq.bundle.programs import compile_layers
from cimq.bundle.sweep import sweep

# 2 x 2 tiles of the handmade layer, 3 digits, one after the other in one crossbar.
MACHINE = Hardware.preset("paper").replace(
    rows=2, cols=4, energy={"write_energy_pj": 10.0, "mvm_energy_pj": 1.0}, resources={"crossbars": 1}
)
WRITES = 4 * 56.0
MVMS = 4 * 3 * 1.4


@pytest.fixture
def bundle_path(tmp_path: Path) -> Path:
    return write_handmade(tmp_path / "net.cimq")


@pytest.mark.parametrize("pipeline", ["closed_form", "stationary", "pipelined"])
def test_writes_are_shared(bundle_path: Path, pipeline: str) -> None:
    one = cimq.compile(bundle_path, MACHINE, pipeline=pipeline)
    program = cimq.compile(bundle_path, MACHINE, pipeline=pipeline, batch=3)
    assert (program.batch, program.writes, program.mvms) == (3, 4, 3 * 12)
    time = program.simulated
    assert time.batch == 3
    assert time.batch_us == pytest.approx(WRITES + 3 * MVMS)
    assert time.time_us == pytest.approx(time.batch_us / 3)
    # Of the first sample everything but the last tile is done before that is written.
    assert time.first_us == pytest.approx(WRITES + 3 * MVMS - 2 * MVMS / 4)
    assert time.critical_us["write"] == pytest.approx(WRITES / 3)
    assert sum(time.critical_us.values()) == pytest.approx(time.time_us)
    assert time.energy_pj is not None
    assert time.energy_pj["write"] == pytest.approx(4 * 10.0 / 3)
    assert time.energy_pj["mvm"] == pytest.approx(12.0)
    assert time.layers[0].writes == pytest.approx(4 / 3)
    assert time.layers[0].mvms == 12
    assert time.layers[0].end_us == pytest.approx(time.batch_us)
    assert "a sample" in str(time)
    assert "batch: 3 samples in 274.4 us, the first after 266.0 us" in str(time)
    assert one.simulated.batch_us == one.simulated.time_us == one.simulated.first_us == pytest.approx(WRITES + MVMS)
    assert "batch" not in str(one.simulated)
    assert "batch" not in one.text
    assert json.loads(program.text.splitlines()[0])["batch"] == 3
    events = [event for event in program.events() if event["ph"] == "X"]
    assert max(event["ts"] + event["dur"] for event in events) == pytest.approx(time.batch_us)


def test_values_that_crossbars_hold_are_written_for_each_sample() -> None:
    # x [2, 3, 4] times its first two rows, transposed: two matrices of one tile.
    rows = {"start": [0, 0, 0], "stop": [2, 2, 4], "step": [1, 1, 1]}
    part = {"name": "k", "op": "slice", "inputs": ["x"], "shape": [2, 2, 4], "attrs": rows, "tensors": {}}
    product = {"name": "qk", "op": "crossbar_matmul", "inputs": ["x", "k"], "shape": [2, 3, 2], "attrs": {}}
    product |= {"layer_name": "qk", "layer_index": 0, "weight_bits": 3, "act_bits": 2, "act_signed": False}
    product |= {"outputs": 2, "inputs_per_output": 4, "invocations": 3, "repeats": 2}
    product["tensors"] = {role: f"qk.{role}" for role in ("x_scale", "w_scale", "multiplier")}
    layers: dict[str, Any] = {"schema": "cimq.layers", "version": "1.5.0", "output": "qk", "nodes": [part, product]}
    layers["input"] = {"name": "x", "shape": [2, 3, 4], "dtype": "float32"}
    machine = Hardware.preset("paper")
    one = compile_layers(json.dumps(layers), machine)
    program = compile_layers(json.dumps(layers), machine, batch=5)
    assert (one.writes, program.writes) == (2, 5 * 2)
    assert program.simulated.batch_us == pytest.approx(5 * one.simulated.time_us)
    assert program.simulated.time_us == pytest.approx(one.latency.time_us)


def test_a_program_of_a_batch_goes_elsewhere(bundle_path: Path, tmp_path: Path) -> None:
    assert cimq.compile(bundle_path, batch=2).path is None
    assert not (bundle_path / "program.jsonl").exists()
    assert cimq.compile(bundle_path, batch=2, out=tmp_path / "two.jsonl").path == tmp_path / "two.jsonl"
    assert cimq.compile(bundle_path, batch=np.int64(2), out=tmp_path / "new" / "same.jsonl").batch == 2
    assert (tmp_path / "new" / "same.jsonl").read_text() == (tmp_path / "two.jsonl").read_text()
    assert (tmp_path / "two.jsonl").read_text().startswith('{"op":"PROGRAM","isa":"cimq-isa","version":"1.5.0"')


def test_batches_that_cannot_be_are_refused(bundle_path: Path) -> None:
    with pytest.raises(ValueError, match="batch must be from 1 to 65536, got 0"):
        cimq.compile(bundle_path, batch=0)
    with pytest.raises(ValueError, match=r"batch must be an integer, got 2\.0"):
        cimq.compile(bundle_path, batch=2.0)  # type: ignore[arg-type]
    for batch in (2**63, -(2**63) - 1):
        with pytest.raises(ValueError, match=f"^compile: batch must fit 64 bits, got {batch}$"):
            cimq.compile(bundle_path, batch=batch)
    # The sums of all samples wait for the tiles of the second round.
    machine = MACHINE.replace(resources={"crossbars": 1, "buffer_bytes": 1000})
    assert cimq.compile(bundle_path, machine, batch=2).simulated.buffer_bytes < 1000
    with pytest.raises(ValueError, match=r"resources\.buffer_bytes is 1000"):
        _ = cimq.compile(bundle_path, machine, batch=200).simulated


def test_batches_are_swept(bundle_path: Path) -> None:
    found = sweep(bundle_path, "batch", [1, 2, 8], MACHINE)
    times = [point.simulated.time_us for point in found.points if point.simulated is not None]
    assert times == pytest.approx([WRITES / batch + MVMS for batch in (1, 2, 8)])
    assert [point.writes for point in found.points] == [4, 2, 0.5]
    assert [line.split()[:2] for line in str(found).splitlines()[2:]] == [["1", "4"], ["2", "2.00"], ["8", "0.50"]]
    (point,) = sweep(bundle_path, "crossbars", [1], MACHINE, batch=8).points
    assert point.simulated is not None
    assert point.simulated.time_us == pytest.approx(times[-1])
    with pytest.raises(ValueError, match="batch is what differs, and is also given as 2"):
        sweep(bundle_path, "batch", [1], MACHINE, batch=2)
    values: list[tuple[Any, str]] = [
        (None, "inf"),
        (1.5, r"1\.5"),
        (2.0, r"2\.0"),
        ("4", "'4'"),
        (True, "True"),
        (0, "0"),
    ]
    for value, shown in values:
        with pytest.raises(ValueError, match=f"^sweep: a batch must be an integer above 0, got {shown}$"):
            sweep(bundle_path, "batch", [1, value], MACHINE)
