"""cimq.hardware: round trips, presets with sources, replace, and what is refused."""

from __future__ import annotations

import copy
import dataclasses
import json
import pickle
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import cimq
from cimq.hardware import (
    Adc,
    Area,
    Cell,
    Drift,
    Energy,
    Hardware,
    Programming,
    ReadNoise,
    Resources,
    StuckAt,
    Timing,
    Wires,
    presets,
)

PAPER = Hardware.preset("paper")

counts = st.none() | st.integers(1, 10**12)
quantities = st.none() | st.floats(0, 1e15)
rates = st.none() | st.floats(1e-3, 1e15)
texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40)


def filled(
    kind: type[Any], values: st.SearchStrategy[Any], **special: st.SearchStrategy[Any]
) -> st.SearchStrategy[Any]:
    fields = {field.name: values for field in dataclasses.fields(kind)}
    return st.builds(kind, **{**fields, **special})


def lists(low: float, high: float, count: int) -> st.SearchStrategy[tuple[float, ...]]:
    return st.lists(st.floats(low, high), min_size=count, max_size=count).map(tuple)


@st.composite
def cells(draw: st.DrawFn, cell_bits: int) -> tuple[Cell, Wires]:
    levels = 2**cell_bits
    sigma, ratio = st.floats(0, 16), st.floats(0, 4)
    programming = [
        st.just(Programming()),
        st.builds(Programming, st.just("gaussian"), sigma),
        st.builds(Programming, st.just("proportional"), sigma_ratio=ratio),
        st.builds(Programming, st.just("lognormal"), sigma_ln=ratio),
        st.builds(Programming, st.just("polynomial"), coefficients_levels=lists(-1, 1, 3)),
        st.builds(Programming, st.just("table"), sigmas_levels=lists(0, 16, levels), means_levels=lists(0, 99, levels)),
    ]
    read = [
        st.just(ReadNoise()),
        st.builds(ReadNoise, st.just("constant"), sigma),
        st.builds(ReadNoise, st.just("proportional"), sigma_ratio=ratio),
    ]
    window: dict[str, float] = {}
    wires = Wires()
    if draw(st.booleans()):
        high = draw(st.floats(1e-3, 1e12))
        low = high * draw(st.floats(1e-6, 0.25))
        names = draw(st.sampled_from([("g_min_microsiemens", "g_max_microsiemens"), ("lrs_ohm", "hrs_ohm")]))
        window = dict(zip(names, (low, high), strict=True))
        programming += [
            st.builds(Programming, st.just("gaussian"), sigma_microsiemens=st.floats(0, 1e15)),
            st.builds(
                Programming,
                st.just("polynomial"),
                coefficients_microsiemens=lists(-1, 1, 2),
                reference_microsiemens=st.none() | st.floats(1e-3, 1e3),
            ),
            st.builds(Programming, st.just("table"), sigmas_microsiemens=lists(0, 9, levels)),
        ]
        wires = draw(st.builds(Wires, st.floats(0, 1e6), st.floats(0, 1e6), st.floats(0, 1)))
    times = sorted(draw(st.lists(st.floats(1e-9, 1e12), min_size=2, max_size=2)))
    hrs = draw(st.floats(0, 1))
    cell = Cell(
        **window,
        programming=draw(st.one_of(programming)),
        read=draw(st.one_of(read)),
        stuck_at=draw(st.sampled_from([StuckAt(), StuckAt(hrs, 0.5 * (1 - hrs))])),
        drift=Drift(draw(st.floats(-4, 4)), draw(ratio), *times),
    )
    return cell, wires


@st.composite
def machines(draw: st.DrawFn) -> Hardware:
    mapping = draw(st.sampled_from(["differential_column", "differential_row", "offset"]))
    cell_bits = draw(st.integers(1, 6))
    cell, wires = draw(cells(cell_bits))
    return Hardware(
        name=draw(texts.filter(lambda text: len(text.encode()) <= 200)),
        rows=draw(st.integers(2, 65536)),
        cols=draw(st.integers(1, 65536)),
        cell_bits=cell_bits,
        dac_bits=draw(st.integers(1, 8)),
        mapping=mapping,
        sign_magnitude=mapping != "offset" and draw(st.booleans()),
        adc=draw(
            st.builds(
                Adc,
                st.none() | st.integers(2, 16),
                st.sampled_from(["full_scale", "granular", "calibrated", "learned"]),
                st.sampled_from(["per_column", "differential"]),
            )
            | st.builds(
                Adc,
                st.none() | st.integers(2, 16),
                st.sampled_from(["calibrated", "learned"]),
                st.sampled_from(["per_column", "differential"]),
                st.just("column"),
            )
        ),
        cell=cell,
        wires=wires,
        timing=Timing(
            draw(st.just(0.0) | st.floats(1e-6, 1e9)),
            draw(st.floats(1e-6, 1e9)),
            draw(st.none() | st.just(0.0) | st.floats(1e-6, 1e9)),
            draw(st.none() | st.just(0.0) | st.floats(1e-6, 1e9)),
        ),
        resources=draw(filled(Resources, counts, bus_bytes_per_us=rates)),
        energy=draw(filled(Energy, quantities)),
        area=draw(filled(Area, quantities)),
        sources=draw(st.dictionaries(st.sampled_from(["rows", "timing.mvm_time_us", "adc.bits"]), texts)),
    )


@settings(max_examples=150)
@given(machines())
def test_round_trips_keep_everything(tmp_path_factory: pytest.TempPathFactory, hw: Hardware) -> None:
    folder = tmp_path_factory.mktemp("hw", numbered=True)
    (copies := [Hardware.from_dict(hw.to_dict()), Hardware.from_json(hw.to_json())]).append(copy.deepcopy(hw))
    copies.append(pickle.loads(pickle.dumps(hw)))
    copies.append(dataclasses.replace(hw))
    copies.append(Hardware.from_dict(json.loads(json.dumps(hw.to_dict()))))
    for name in ("h.json", "h.yaml", "h.yml"):
        hw.save(folder / name)
        copies.append(Hardware.from_file(folder / name))
    for other in copies:
        assert other == hw
        assert hash(other) == hash(hw)
        assert other.to_dict() == hw.to_dict()
        assert other.to_json() == hw.to_json()
    assert sorted(path.name for path in folder.iterdir()) == ["h.json", "h.yaml", "h.yml"]


def test_python_and_cpp_have_the_same_fields() -> None:
    def keys(value: Any) -> Any:
        if dataclasses.is_dataclass(value):
            return {field.name: keys(getattr(value, field.name)) for field in dataclasses.fields(value)}
        return None

    def leaves(value: Any) -> Any:
        return {key: leaves(item) for key, item in value.items()} if isinstance(value, dict) and value else None

    assert keys(Hardware()) == leaves(Hardware().to_dict())


def test_defaults_are_the_paper_numbers() -> None:
    assert Hardware() == PAPER.replace(name="custom")
    assert Hardware.from_dict({}) == Hardware()
    assert (PAPER.rows, PAPER.cols, PAPER.cell_bits, PAPER.dac_bits) == (256, 256, 4, 1)
    assert (PAPER.timing, PAPER.resources.crossbars) == (Timing(56.0, 1.4), 1)
    assert (PAPER.mapping, PAPER.adc.bits, PAPER.sign_magnitude) == ("differential_column", None, False)


def test_presets_have_a_source_for_every_number() -> None:
    assert cimq.presets() == presets()
    assert {"paper", "paper-2b", "rram-wan2022", "rram-wan2022-1d", "rram-wan2022-2d", "rram-milo2021"} <= set(
        presets()
    )
    assert {"rram-cmo-hfox", "pcm-joshi2020", "pcm-nandakumar2019"} <= set(presets())

    def numbers(value: Any, path: str = "") -> dict[str, Any]:
        if isinstance(value, dict):
            return {
                leaf: number
                for key, item in value.items()
                for leaf, number in numbers(item, f"{path}.{key}".lstrip(".")).items()
            }
        is_number = isinstance(value, (int, float, list)) and not isinstance(value, bool)
        return {path: value} if is_number else {}

    # An effect that is off has the numbers of the default cell: nothing to source.
    default = Hardware().to_dict()
    off = numbers({"cell": default["cell"], "wires": default["wires"]})
    for name in presets():
        hw = Hardware.preset(name)
        assert hw.name == name
        fields = hw.to_dict()
        for path, number in numbers({key: fields[key] for key in fields if key != "sources"}).items():
            assert off.get(path) == number or hw.source(path), f"{name}: {path}"
    two = Hardware.preset("paper-2b")
    assert two == PAPER.replace(name="paper-2b", cell_bits=2)
    assert two.source("cell_bits") != PAPER.source("cell_bits")


def test_replace_merges_mappings_and_takes_dataclasses() -> None:
    hw = PAPER.replace(adc={"bits": 6}, cell={"programming": {"model": "gaussian", "sigma_levels": 0.5}}, rows=128)
    assert hw.adc == Adc(6, "full_scale", "differential")
    assert hw.replace(adc={"range": "granular"}).adc == Adc(6, "granular", "differential")
    assert hw.replace(adc=Adc(4)).adc == Adc(4)
    assert hw.replace(cell=Cell(hrs_ohm=1e6, lrs_ohm=1e4)).cell.programming == Programming()
    assert hw.replace(adc=None).adc == Adc()
    table = hw.replace(cell={"programming": {"model": "table", "sigmas_levels": [0.1] * 16}})  # another model: afresh
    assert table.cell.programming == Programming("table", sigmas_levels=(0.1,) * 16)
    assert table.replace(cell={"programming": {"model": "none"}}).cell == Cell()
    assert hw.replace(rows=np.int64(64), timing={"mvm_time_us": np.float32(0.5)}).timing.mvm_time_us == 0.5
    assert (PAPER.rows, PAPER.adc.bits) == (256, None)


def test_replace_forgets_the_source_and_name_of_what_changed() -> None:
    hw = PAPER.replace(rows=128)
    assert (hw.name, hw.source("rows")) == ("custom", None)
    assert hw.source("cols") == PAPER.source("cols") is not None
    assert PAPER.replace(rows=256).name == "paper"
    named = PAPER.replace(name="mine", rows=128, sources={"rows": "data sheet"})
    assert (named.name, named.source("rows")) == ("mine", "data sheet")
    assert PAPER.replace(sources=(("rows", "x"),)).source("rows") == "x"


def test_it_is_frozen_and_usable_as_key() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        PAPER.rows = 3  # type: ignore[misc]
    assert len({PAPER, Hardware.preset("paper"), PAPER.replace(rows=64)}) == 2


def test_slices_and_digits() -> None:
    assert [PAPER.weight_slices(w) for w in (1, 4, 5, 8)] == [1, 1, 2, 2]
    assert PAPER.replace(sign_magnitude=True).weight_slices(5) == 1
    assert PAPER.replace(dac_bits=3).input_digits(8) == 3
    with pytest.raises(ValueError, match="weight_bits must be an integer from 1 to 8, got 9"):
        PAPER.weight_slices(9)


HOSTILE: list[tuple[dict[str, Any], str]] = [
    ({"rows": 0}, "rows must be an integer from 1 to 65536, got 0"),
    ({"rows": -1}, "got -1"),
    ({"rows": True}, "rows must be an integer from 1 to 65536, got true"),
    ({"rows": "256"}, 'rows must be an integer from 1 to 65536, got "256"'),
    ({"rows": 256.0}, "rows must be an integer from 1 to 65536, got 256.0"),
    ({"rows": None}, "rows must be an integer from 1 to 65536, got null"),
    ({"rows": 10**30}, "rows must be an integer"),
    ({"rows": 10**400}, "rows must be an integer|not valid JSON"),
    ({"rows": float("nan")}, r"hardware\.rows must be a finite number, got nan"),
    ({"rows": [1]}, "rows must be an integer from 1 to 65536, got a list"),
    ({"rows": object()}, r"hardware\.rows must be a plain value .* got object"),
    ({"rows": np.bool_(True)}, "hardware.rows must be a plain value"),
    ({"cell_bits": 9}, "cell_bits must be an integer from 1 to 8, got 9"),
    ({"mapping": "diferential_row"}, r'mapping must be one of .* \(did you mean "differential_row"\?\)'),
    ({"sign_magnitude": 1}, "sign_magnitude must be true or false, got 1"),
    ({"name": 3}, "name must be a text of 1 to 200 bytes, got 3"),
    ({"rwos": 1}, r"unknown key 'rwos' \(did you mean 'rows'\?\); allowed: name, rows,"),
    ({"zzzzzzzz": 1}, "unknown key 'zzzzzzzz'; allowed: name"),
    ({3: 1}, "hardware has a key that is no text: 3"),
    ({"adc": {"bits": 17}}, r"adc\.bits must be an integer from 1 to 16 or null, got 17"),
    ({"adc": {"bits": 1}}, r"adc\.bits must be at least 2"),
    (
        {"adc": {"bits": 4, "granularity": "column"}},
        r"adc\.granularity must be slice with adc\.range full_scale \(one range for the whole array\); column goes",
    ),
    ({"adc": {"range": "granular", "granularity": "column"}}, r"must be slice with adc\.range granular"),
    ({"adc": {"granularity": "layer"}}, r'granularity must be one of slice, column, got "layer"'),
    ({"adc": 8}, "adc must be an object with keys, got 8"),
    ({"timing": {"write_time_us": float("inf")}}, r"hardware\.timing\.write_time_us must be a finite number, got inf"),
    ({"timing": {"mvm_time_us": -1.4}}, r"timing\.mvm_time_us must be a number from 0"),
    ({"timing": {"mvm_time_us": 1e-9}}, r"timing\.mvm_time_us must be at least one picosecond"),
    ({"timing": {"write_time_us": 1e-9}}, r"timing\.write_time_us must be 0 or at least one picosecond"),
    ({"timing": {"mvm_time": 1.4}}, r"unknown key 'timing\.mvm_time' \(did you mean 'mvm_time_us'\?\)"),
    (
        {"cell": {"read": {"sigma_levels": 0.1}}},
        r"sigma_levels must be 0 with model none: it belongs to model constant",
    ),
    ({"cell": {"read": {"model": "pink"}}}, r"cell\.read\.model must be one of none, constant, proportional, got"),
    ({"cell": {"stuck_at": {"hrs": 0.01}}}, r"unknown key 'cell\.stuck_at\.hrs'; allowed: hrs_rate, lrs_rate"),
    (
        {"cell": {"stuck_at": {"lrs_rate": 1.5}}},
        r"cell\.stuck_at\.lrs_rate must be a number from 0\.0 to 1\.0, got 1\.5",
    ),
    ({"cell": {"drift": {"time_s": 0.5}}}, r"cell\.drift\.time_s must be at least t0_s, .* got 0\.5 and 1"),
    ({"cell": {"drift": {"nu": "fast"}}}, r"cell\.drift\.nu must be a number from -4\.0 to 4\.0"),
    ({"cell": {"programming": {"model": "lognormal"}}}, "model lognormal needs sigma_ln"),
    ({"cell": {"programming": {"model": "weibull"}}}, "model must be one of none, gaussian, proportional, polynomial"),
    (
        {"cell": {"programming": {"model": "polynomial", "coefficients_levels": 0.1}}},
        r"coefficients_levels must be a list of 1 to 16 numbers or null, got 0\.1",
    ),
    (
        {"cell": {"programming": {"model": "table", "sigmas_levels": [0.1] * 8}}},
        r"sigmas_levels must have one value per level \(16 with cell_bits 4\), got 8",
    ),
    ({"cell": {"programming": {"model": "gaussian", "sigma_microsiemens": 1}}}, "sigma_microsiemens needs a .* window"),
    ({"wires": {"word_line_ohm": 1}}, "wires need a conductance window"),
    (
        {"cell": {"g_min_microsiemens": 9, "g_max_microsiemens": 10, "stuck_at": {"hrs_rate": 0.1}}},
        r"the top level must conduct at most 127 level steps .* conducts 150; use fewer cell_bits or a larger on/off",
    ),
    ({"cell": {"programming": {"sigma_levels": 0.1}}}, r"sigma_levels must be 0 with model none, got 0\.1"),
    ({"cell": {"g_min_microsiemens": 5}}, "must both be given, the first below the second"),
    ({"cell": {"hrs_ohm": 1e4, "lrs_ohm": 1e6}}, "the first above the second"),
    ({"energy": {"adc_energy_pj": -1}}, r"energy\.adc_energy_pj must be a number from 0"),
    ({"area": {"adc_area_um2": "1"}}, r"area\.adc_area_um2 must be a number"),
    (
        {"resources": {"crossbars": 0}},
        r"resources\.crossbars must be an integer from 1 to 1000000000000 or null, got 0",
    ),
    ({"mapping": "offset", "sign_magnitude": True}, "sign_magnitude must be false with mapping offset"),
    ({"sources": {"row": "x"}}, r"unknown key 'sources\.row' \(did you mean 'rows'\?\)"),
    ({"sources": {"rows": 3}}, r"sources\.rows must be a text, got 3"),
    ({"base": "papr"}, r"no hardware preset 'papr' \(did you mean 'paper'\?\); there are: isaac, paper, paper-2b"),
    ({"base": 3}, "base must be the name of a preset"),
]


@pytest.mark.parametrize(("fields", "reason"), HOSTILE)
def test_hostile_values_are_named(fields: dict[Any, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        Hardware.from_dict(fields)
    if all(isinstance(key, str) for key in fields) and "base" not in fields:
        with pytest.raises(ValueError, match=reason):
            PAPER.replace(**fields)


def test_a_preset_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Operators take its name at every call; the file is not read and checked each time."""
    first = Hardware.preset("paper")

    def refuse(*_: object) -> None:
        raise AssertionError("read again")

    monkeypatch.setattr("cimq.hardware.read_preset", refuse)
    assert Hardware.preset("paper") is first
    x, w = torch.ones(1, 4, dtype=torch.uint8), torch.ones(2, 4, dtype=torch.int8)
    assert cimq.ops.crossbar_mvm(x, w, "paper", weight_bits=4, act_bits=4).tolist() == [[4, 4]]
