"""Closed-form energy: against counts written out in plain loops, and what is refused."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import cimq
from cimq.cost_model import LayerShape
from cimq.cost_model.component_energy import energy_table

COMPONENTS = {
    "write_energy_pj": 1000.0,
    "mvm_energy_pj": 30.0,
    "adc_energy_pj": 1.667,
    "dac_energy_pj": 0.417,
    "digital_energy_pj": 0.021,
    "buffer_energy_pj_per_byte": 0.639,
    "bus_energy_pj_per_byte": 0.432,
}


def counted(hw: cimq.Hardware, shape: LayerShape, w: int, a: int) -> dict[str, int]:
    """Events of a layer, one tile after the other."""
    slices = max(1, math.ceil((w - 1) / hw.cell_bits)) if hw.sign_magnitude else math.ceil(w / hw.cell_bits)
    columns = shape.outputs * slices * (2 if hw.mapping == "differential_column" else 1) + (hw.mapping == "offset")
    rows = shape.inputs * (2 if hw.mapping == "differential_row" else 1)
    subtracts = hw.mapping == "differential_column" and hw.adc.placement == "differential"
    events = dict.fromkeys(("write", "mvm", "adc", "dac", "bytes"), 0)
    digits = math.ceil(a / hw.dac_bits)
    for top in range(0, rows, hw.rows):
        for _ in range(0, columns, hw.cols):
            events["write"] += 1
            events["mvm"] += shape.invocations * digits
            events["dac"] += shape.invocations * digits * (min(rows, top + hw.rows) - top)
        events["adc"] += shape.invocations * digits * (columns // 2 if subtracts else columns)
    events["bytes"] = shape.invocations * (math.ceil(shape.inputs * a / 8) + shape.outputs)
    return {name: shape.repeats * count for name, count in events.items()}


@given(
    st.integers(1, 200), st.integers(1, 300), st.integers(1, 5), st.integers(1, 3), st.integers(1, 8),
    st.integers(1, 8), st.sampled_from(["differential_column", "differential_row", "offset"]),
    st.sampled_from(["differential", "per_column"]), st.integers(1, 4), st.integers(1, 3), st.booleans(),
)  # fmt: skip
def test_energy_is_counted_events_times_their_energies(
    m: int, n: int, invocations: int, repeats: int, w: int, a: int, mapping: str, placement: str, c: int, d: int,
    sign_magnitude: bool,
) -> None:  # fmt: skip
    hw = cimq.Hardware(
        rows=64, cols=48, cell_bits=c, dac_bits=d, mapping=mapping,
        sign_magnitude=sign_magnitude and mapping != "offset",
        adc={"placement": placement}, energy=COMPONENTS,
    )  # fmt: skip
    shape = LayerShape("l", "Linear", m, n, invocations, repeats)
    events = counted(hw, shape, w, a)
    each = {key.split("_")[0]: round(1000 * value) for key, value in COMPONENTS.items()}
    expected = {
        **{part: events[part] * each[part] for part in ("write", "mvm", "adc", "dac")},
        "digital": events["adc"] * each["digital"],
        "buffer": events["bytes"] * each["buffer"],
        "bus": events["bytes"] * each["bus"],
    }
    report = cimq.energy([shape], cimq.Policy({"l": (w, a)}), hw)
    assert report.parts_pj == {part: fj / 1000 for part, fj in expected.items()}
    assert report.energy_pj == sum(expected.values()) / 1000
    assert energy_table([shape], hw, [w, a])[0][w][a] == sum(expected.values())


def test_a_report_says_what_is_not_described() -> None:
    shapes = [LayerShape("a", "Linear", 10, 512, 1), LayerShape("b", "Linear", 20, 10, 3)]
    hw = cimq.Hardware(energy={"adc_energy_pj": 2.0, "mvm_energy_pj": 1.0})
    report = cimq.energy(shapes, cimq.Policy.uniform(4, 4), hw)
    assert report.missing == ("write", "dac", "digital", "buffer", "bus")
    assert "not described, counted as 0: write, dac, digital, buffer, bus" in str(report)
    assert report.saving == report.uniform8_energy_pj / report.energy_pj
    assert report.saving > 1
    assert sum(layer.energy_pj for layer in report.layers) == report.energy_pj
    assert report.to_dict()["layers"][1]["parts_pj"]["adc"] == report.layers[1].parts_pj["adc"]


@pytest.mark.parametrize("name", ["isaac", "puma"])
def test_presets_with_energies_name_the_source_of_each(name: str) -> None:
    hw = cimq.Hardware.preset(name)
    report = cimq.energy([LayerShape("l", "Linear", 128, 128, 4)], cimq.Policy.uniform(8, 8), hw)
    assert report.parts_pj["adc"] > report.parts_pj["mvm"] > 0  # converters dominate in both publications
    for group in ("energy", "area"):
        for key, value in vars(getattr(hw, group)).items():
            assert value is None or hw.source(f"{group}.{key}"), f"{group}.{key}"


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"hardware": "paper"}, ValueError, "must describe the energy of at least one component"),
        ({"hardware": "isaac", "policy": None}, ValueError, "energy: give a policy"),
        ({"hardware": "isaac", "model_or_bundle": 3}, TypeError, "energy takes a model, a bundle or its folder,"),
        ({"hardware": "isaac", "model_or_bundle": []}, ValueError, "energy: there is no layer"),
    ],
)
def test_what_has_no_energy_is_refused(arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    shapes = [LayerShape("l", "Linear", 10, 10, 1)]
    with pytest.raises(error, match=message):
        cimq.energy(**{"model_or_bundle": shapes, "policy": cimq.Policy.uniform(4, 4), **arguments})
