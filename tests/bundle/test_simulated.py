"""The time of a program: what `simulated` reports, the trace, `explain`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from bundle_nets import write_handmade

import cimq
from cimq import Hardware
from cimq.bundle.explained import explain_layer

# 2 x 2 tiles of the handmade layer (4 inputs, 3 outputs, 3 digits), each in a crossbar of its own.
MACHINE = Hardware.preset("paper").replace(
    rows=2,
    cols=4,
    timing={"adc_time_us": 1.0, "vector_time_us": 0.1},
    resources={"crossbars": None, "adcs_per_crossbar": 1, "bus_bytes_per_us": 1.0, "vector_lanes": 1},
    energy={"mvm_energy_pj": 100.0, "bus_energy_pj_per_byte": 2.0},
    area={"crossbar_area_um2": 50.0},
)


@pytest.fixture
def bundle_path(tmp_path: Path) -> Path:
    return write_handmade(tmp_path / "net.cimq")


def test_time_is_taken_apart(bundle_path: Path) -> None:
    simulated = cimq.compile(bundle_path, MACHINE, pipeline="stationary").simulated
    # QUANT of 4 elements, 2 bytes in, 3 digits at two conversions each on the wider tiles, the last of them 1.4 us
    # behind (min of 1.4 and 2), SHADD of 3 lines, 3 bytes back, REQ and ReLU of 3 elements.
    assert simulated.time_us == pytest.approx(0.4 + 2 + 3 * 2 + 1.4 + 0.3 + 3 + 0.3 + 0.3)
    assert simulated.critical_us == pytest.approx(
        {"write": 0, "mvm": 3 * 1.4, "adc": 3 * 0.6 + 1.4, "move": 5, "digital": 1.3, "stall": 0}
    )
    assert simulated.between_layers_us["digital"] == pytest.approx(0.3)
    (layer,) = simulated.layers
    assert sum(layer.critical_us.values()) + 0.3 == pytest.approx(simulated.time_us)
    assert simulated.mvm_us == simulated.critical_us["mvm"]
    assert simulated.write_us == 0
    assert simulated.buffer_bytes == 2 + 3 * 4
    assert simulated.uses == pytest.approx({"bus_in": 2 / 13.7, "bus_out": 3 / 13.7, "vector_unit": 1.3 / 13.7})
    assert simulated.energy_pj is not None
    assert simulated.energy_pj["mvm"] == 4 * 3 * 100
    assert simulated.energy_pj["bus"] == (2 + 3) * 2
    assert simulated.area is not None
    assert simulated.area.parts == {"crossbar": 4 * 50}
    text = str(simulated)
    assert "4.2 us multiplying" in text
    assert "stall" not in text
    assert "energy: 1.2 nJ (mvm 1.2, bus 0.0)" in text
    assert "(between)" in text
    assert json.loads(json.dumps(simulated.to_dict()))["layers"][0]["critical_us"]["move"] == 5


def test_a_machine_that_describes_little_reports_little(bundle_path: Path) -> None:
    simulated = cimq.compile(bundle_path).simulated
    assert simulated.energy_pj is simulated.area is None
    assert simulated.uses == {}
    text = str(simulated)
    assert "energy" not in text
    assert "area" not in text
    assert "move" not in text


def test_vectors_and_sums_must_fit_the_buffer(bundle_path: Path) -> None:
    enough = MACHINE.replace(resources={"buffer_bytes": 14})
    assert cimq.compile(bundle_path, enough, pipeline="stationary").simulated.buffer_bytes == 14
    small = cimq.compile(bundle_path, MACHINE.replace(resources={"buffer_bytes": 13}), pipeline="stationary")
    with pytest.raises(ValueError, match=r"MVM needs 12 bytes for the sums .* layer 'fc', .* needs at least 14 bytes"):
        _ = small.simulated


def test_the_trace_ends_with_the_program(bundle_path: Path, tmp_path: Path) -> None:
    program = cimq.compile(bundle_path, MACHINE, pipeline="stationary")
    program.save_trace(tmp_path / "trace.json")
    events = [event for event in json.loads((tmp_path / "trace.json").read_text())["traceEvents"] if event["ph"] == "X"]
    assert max(event["ts"] + event["dur"] for event in events) == pytest.approx(program.simulated.time_us)
    assert {event["cat"] for event in events} == {"layer", "mvm", "move", "digital"}
    assert {event["tid"] for event in events if event["cat"] == "mvm"} == {0, 1, 2, 3}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, "most of that is moving data; what would help: a wider bus: it is in use 21.9 % of the time"),
        ({"resources": {"bus_bytes_per_us": None}}, "fewer activation bits: a digit less saves 1.4 us"),
        (
            {"resources": {"bus_bytes_per_us": None}, "timing": {"mvm_time_us": 0.5, "adc_time_us": 0.5}},
            "more converters for a crossbar: 2 converters would keep up with its cells",
        ),
        (
            {"resources": {"bus_bytes_per_us": None}, "timing": {"mvm_time_us": 0.5}},
            "faster converters: one conversion takes longer than reading the cells",
        ),
        (
            {"resources": {"bus_bytes_per_us": None}, "timing": {"mvm_time_us": 1.0, "adc_time_us": 0.5}},
            "fewer activation bits: a digit less saves 1.0 us",
        ),
        ({"timing": {"vector_time_us": 50.0}}, "more vector lanes: they are in use"),
        ({"resources": {"crossbars": 1}}, "crossbars for all tiles, so that they stay"),
    ],
)
def test_a_layer_is_explained(bundle_path: Path, changes: dict[str, dict[str, float]], words: str) -> None:
    text = explain_layer(cimq.compile(bundle_path, MACHINE.replace(**changes), pipeline="stationary"), "fc")
    assert "4 word lines x 6 bit lines" in text
    assert "on arrays of 2 x 4: 2 x 2 tiles (rows x columns), 75.0 % of their cells used" in text
    assert words in text
    stays = "resources" not in changes or "crossbars" not in changes["resources"]
    assert ("all 4 tiles stay" in text) == stays
    assert ("4 of 4 tiles are written for every sample, 56 us each" in text) != stays


def test_explain_names_the_nearest_layer(bundle_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no crossbar layer 'fcc' \(did you mean 'fc'\?\); the layers are fc"):
        explain_layer(cimq.compile(bundle_path), "fcc")
