"""cimq.cost_model: the paper's table to the last digit, a written-out reference, errors."""

from __future__ import annotations

import copy
import dataclasses
import json
import math
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import nn

import cimq
from cimq.cost_model import LatencyReport, LayerShape, cost_table, latency
from cimq.hardware import Hardware
from cimq.policy import Policy

MAPPINGS = ["differential_column", "differential_row", "offset"]
PUBLISHED = Path(__file__).parent / "data" / "policies_date2026.json"


def published() -> dict[str, Any]:
    content: dict[str, Any] = json.loads(PUBLISHED.read_text())
    return content


def machine(table: dict[str, Any], cell_bits: int, mapping: str) -> Hardware:
    given = table["hardware"]
    return Hardware(
        rows=given["rows"],
        cols=given["cols"],
        dac_bits=given["dac_bits"],
        cell_bits=cell_bits,
        mapping=mapping,
        timing={"write_time_us": given["write_time_us"], "mvm_time_us": given["mvm_time_us"]},
    )


@pytest.mark.parametrize("mapping", MAPPINGS)
def test_published_table_is_reproduced_exactly(mapping: str) -> None:
    table = published()
    assert len(table["policies"]) == 5
    for row in table["policies"]:
        layers = [LayerShape(f"l{i}", **layer) for i, layer in enumerate(table["layers"][row["model"]])]
        hardware = machine(table, row["cell_bits"], mapping)
        report = latency(layers, Policy.from_pairs(row["policy"]), hardware)
        uniform = latency(layers, Policy.uniform(8, 8), hardware)
        assert {
            "writes": report.writes,
            "mvms": report.mvms,
            "time_us": report.time_us,
            "uniform8_writes": uniform.writes,
            "uniform8_mvms": uniform.mvms,
            "uniform8_time_us": report.uniform8_time_us,
            "speedup": round(report.speedup, 6),
        } == row["expected"][mapping], (row["name"], mapping)
        assert uniform.time_us == report.uniform8_time_us


def test_headline_speedup() -> None:
    table = published()
    row = next(row for row in table["policies"] if row["model"] == "vgg16")
    layers = [LayerShape(f"l{i}", **layer) for i, layer in enumerate(table["layers"]["vgg16"])]
    report = latency(layers, Policy.from_pairs(row["policy"]), "paper")
    assert (report.writes, report.mvms, report.time_us, f"{report.speedup:.3f}") == (7494, 3267072, 4993564.8, "2.482")


# The formula of docs/numbers.md in ten lines of exact rationals.
def reference(hw: Hardware, shape: LayerShape, w: int, a: int) -> tuple[int, int, int, Fraction]:
    slices = max(1, math.ceil(Fraction(w - hw.sign_magnitude, hw.cell_bits)))
    columns, rows = shape.outputs * slices, shape.inputs
    columns, rows = {
        "differential_column": (2 * columns, rows),
        "differential_row": (columns, 2 * rows),
        "offset": (columns + 1, rows),
    }[hw.mapping]
    tiles = math.ceil(Fraction(columns, hw.cols)) * math.ceil(Fraction(rows, hw.rows))
    writes = shape.repeats * tiles
    mvms = shape.repeats * shape.invocations * tiles * math.ceil(Fraction(a, hw.dac_bits))
    time = writes * Fraction(str(hw.timing.write_time_us)) + mvms * Fraction(str(hw.timing.mvm_time_us))
    return tiles, writes, mvms, time


sizes = st.integers(1, 5000)
shapes = st.builds(
    LayerShape,
    name=st.just("layer"),
    kind=st.just("Linear"),
    outputs=sizes,
    inputs=st.integers(1, 30000),
    invocations=st.integers(1, 60000),
    repeats=st.integers(1, 64),
)
bits = st.integers(1, 8)
times_us = st.integers(1, 10**9).map(lambda ps: ps / 10**6)
LARGEST_TIME_US = Fraction(2**63 - 1, 10**6)  # times are summed in picoseconds of 63 bits


@st.composite
def machines(draw: st.DrawFn) -> Hardware:
    mapping = draw(st.sampled_from(MAPPINGS))
    return Hardware(
        rows=draw(st.integers(2, 1024)),
        cols=draw(st.integers(1, 1024)),
        cell_bits=draw(bits),
        dac_bits=draw(bits),
        mapping=mapping,
        sign_magnitude=mapping != "offset" and draw(st.booleans()),
        timing={"write_time_us": draw(times_us), "mvm_time_us": draw(times_us)},
    )


@settings(max_examples=150)
@given(machines(), st.lists(st.tuples(shapes, bits, bits), min_size=1, max_size=4))
def test_latency_equals_the_written_out_formula(hw: Hardware, layers: list[tuple[LayerShape, int, int]]) -> None:
    named = [dataclasses.replace(shape, name=f"l{i}") for i, (shape, _, _) in enumerate(layers)]
    policy = Policy.from_pairs([(w, a) for _, w, a in layers])
    expected = [reference(hw, *layer) for layer in layers]
    uniform8 = sum(reference(hw, shape, 8, 8)[3] for shape, _, _ in layers)
    total = sum(row[3] for row in expected)
    if max(total, uniform8) > LARGEST_TIME_US:
        with pytest.raises(ValueError, match="63 bits"):
            latency(named, policy, hw)
        return
    report = latency(named, policy, hw)
    assert [(layer.tiles, layer.writes, layer.mvms) for layer in report.layers] == [row[:3] for row in expected]
    assert [layer.time_us for layer in report.layers] == [float(row[3]) for row in expected]
    assert (report.time_us, report.uniform8_time_us) == (float(total), float(uniform8))
    assert report.speedup == pytest.approx(float(uniform8 / total), rel=1e-15)


@settings(max_examples=40)
@given(machines(), shapes)
def test_cost_table_agrees_with_latency_and_never_falls_with_bits(hw: Hardware, shape: LayerShape) -> None:
    assume(reference(hw, shape, 8, 8)[3] <= LARGEST_TIME_US)
    table = cost_table([shape], hw, range(1, 9))[0]
    for w in (1, 3, 8):
        for a in (1, 4, 7):
            assert table[w][a] == latency([shape], Policy.uniform(w, a), hw).time_us
    for w in range(1, 8):
        assert all(table[w][a] <= table[w + 1][a] and table[a][w] <= table[a][w + 1] for a in range(1, 9))


SHAPES = [
    LayerShape("conv1", "Conv2d", 64, 147, 12544),
    LayerShape("fc", "Linear", 10, 512, 1),
]


def test_report_says_what_each_layer_costs() -> None:
    report = latency(SHAPES, Policy({"conv1": (8, 8), "fc": (4, 4)}), "paper")
    assert isinstance(report, LatencyReport)
    assert [layer.name for layer in report.layers] == ["conv1", "fc"]
    assert report.layers[1].time_us == report.layers[1].write_time_us + report.layers[1].mvm_time_us == 2 * 56 + 8 * 1.4
    assert report.write_time_us + report.mvm_time_us == report.time_us
    assert json.loads(json.dumps(report.to_dict()))["layers"][0]["mvms"] == 12544 * 8
    text = str(report)
    assert "conv1" in text
    assert "uniform 8-bit" in text
    assert len({len(line) for line in text.splitlines()[1:2]}) == 1


def test_policy_file_and_hardware_file(tmp_path: Path) -> None:
    Policy.uniform(4, 4).save(tmp_path / "p.json")
    Hardware.preset("paper-2b").save(tmp_path / "h.yaml")
    by_file = latency(SHAPES, tmp_path / "p.json", tmp_path / "h.yaml")
    assert by_file.time_us == latency(SHAPES, Policy.uniform(4, 4), "paper-2b").time_us
    assert latency(SHAPES, str(tmp_path / "p.json")).hardware == Hardware.preset("paper")


@pytest.mark.parametrize(
    ("key", "value"), [("outputs", 0), ("inputs", -4), ("invocations", 1.5), ("repeats", True), ("outputs", 2**63)]
)
def test_impossible_sizes_name_layer_and_key(key: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"layer 'conv1': {key} must be"):
        dataclasses.replace(SHAPES[0], **{key: value})


def test_counts_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="layer 'big': the number of MVMs exceeds 63 bits"):
        latency([LayerShape("big", "Linear", 1, 1, 2**62, 8)], Policy.uniform(8, 8))
    nearly = [LayerShape(f"l{i}", "Linear", 1, 1, 2**39) for i in range(8)]
    with pytest.raises(ValueError, match="time of the network in picoseconds exceeds 63 bits"):
        latency(nearly, Policy.uniform(8, 8))


def test_what_is_missing_or_does_not_fit_is_said() -> None:
    with pytest.raises(ValueError, match="give a policy"):
        latency(SHAPES)
    with pytest.raises(ValueError, match="1 rows of bits do not fit 2 layers"):
        latency(SHAPES, Policy.from_pairs([(8, 8)]))
    with pytest.raises(ValueError, match="lacks 'fc'"):
        latency(SHAPES, Policy({"conv1": (8, 8)}))
    with pytest.raises(ValueError, match="no layer that could be on a crossbar"):
        latency([], Policy.uniform(8, 8))
    with pytest.raises(TypeError, match="latency takes a model, a bundle or its folder, an ONNX file or LayerShapes"):
        latency(3)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"policy must be a cimq\.Policy or a file, got list"):
        latency(SHAPES, [(8, 8)])  # type: ignore[arg-type]
    with pytest.raises(FileNotFoundError, match="is not a folder"):
        latency("nowhere.cimq")
    with pytest.raises(ValueError, match="layer 'fc': weight_bits must be from 1 to 8, got 9"):
        cost_table(SHAPES[1:], "paper", [9])


# ---- models and bundles ----


def network() -> nn.Module:
    torch.manual_seed(0)
    layers = [nn.Conv2d(4, 8, 3, padding=1, groups=2), nn.ReLU(), nn.Conv2d(8, 6, 3, stride=2), nn.Flatten()]
    return nn.Sequential(*layers, nn.Linear(6 * 9, 10))


NETWORK_SHAPES = [
    LayerShape("0", "conv2d", 4, 2 * 9, 64, 2),
    LayerShape("2", "conv2d", 6, 8 * 9, 9),
    LayerShape("4", "linear", 10, 54, 1),
]


@pytest.mark.parametrize("batch", [1, 3])
def test_latency_of_a_model(batch: int) -> None:
    model = network()
    sample = torch.zeros(batch, 4, 8, 8)
    before = [type(module) for module in model]
    report = latency(model, Policy.uniform(4, 5), "paper-2b", sample_input=sample)
    assert report == latency(NETWORK_SHAPES, Policy.uniform(4, 5), "paper-2b")
    assert [type(module) for module in model] == before


def test_latency_of_a_prepared_model_uses_its_own_bits_and_machine() -> None:
    policy = Policy({"0": (8, 8), "2": (4, 3), "4": (2, 5)})
    machine = Hardware(rows=32, cols=32)
    prepared = cimq.prepare(network(), policy, hardware=machine)
    sample = torch.zeros(1, 4, 8, 8)
    assert latency(prepared, sample_input=sample) == latency(NETWORK_SHAPES, policy, machine)
    assert latency(prepared, Policy.uniform(8, 8), "paper", sample_input=sample).speedup == 1.0


def test_a_calibrated_model_knows_how_often_its_layers_run() -> None:
    prepared = cimq.prepare(network(), Policy.uniform(4, 5))
    with pytest.raises(ValueError, match="a model that is not calibrated needs sample_input="):
        latency(prepared)
    cimq.calibrate(prepared, [torch.randn(3, 4, 8, 8, generator=torch.Generator().manual_seed(n)) for n in range(2)])
    assert latency(copy.deepcopy(prepared)) == latency(NETWORK_SHAPES, Policy.uniform(4, 5), "paper")


def test_latency_of_a_model_says_what_it_needs() -> None:
    with pytest.raises(ValueError, match="needs sample_input="):
        latency(network(), Policy.uniform(4, 4))
    with pytest.raises(ValueError, match="give a policy"):
        latency(network(), sample_input=torch.zeros(1, 4, 8, 8))


def bundle(folder: Path, **changes: Any) -> Path:
    """A folder with the two files of a bundle that latency reads; nodes out of policy order."""
    nodes = []
    for index, shape in reversed(list(enumerate(NETWORK_SHAPES))):
        nodes.append(
            {
                "name": f"n{index}",
                "op": "crossbar_linear" if shape.kind == "linear" else "crossbar_conv2d",
                "layer_name": shape.name,
                "layer_index": index,
                "weight_bits": 4,
                "act_bits": index + 3,
                "outputs": shape.outputs,
                "inputs_per_output": shape.inputs,
                "invocations": shape.invocations,
                "repeats": shape.repeats,
            }
        )
    nodes[0].update(changes)
    nodes.append({"name": "r", "op": "relu"})
    folder.mkdir(exist_ok=True)
    (folder / "layers.json").write_text(json.dumps({"schema": "cimq.layers", "version": "1.0.0", "nodes": nodes}))
    Hardware.preset("paper-2b").save(folder / "hardware.json")
    return folder


def test_latency_of_a_bundle(tmp_path: Path) -> None:
    report = latency(bundle(tmp_path / "m.cimq"))
    expected = latency(NETWORK_SHAPES, Policy.from_pairs([(4, 3), (4, 4), (4, 5)]), "paper-2b")
    assert report.time_us == expected.time_us
    assert [layer.name for layer in report.layers] == ["0", "2", "4"]
    assert latency(str(tmp_path / "m.cimq"), Policy.uniform(8, 8)).speedup == 1.0


def test_damaged_bundles_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="layer '4': invocations must be an integer, got null"):
        latency(bundle(tmp_path / "m.cimq", invocations=None))
    with pytest.raises(ValueError, match="layer '4': act_bits must be an integer from 1 to 8, got 12"):
        latency(bundle(tmp_path / "m.cimq", act_bits=12))
    with pytest.raises(ValueError, match="layer '4': outputs must be an integer from 1"):
        latency(bundle(tmp_path / "m.cimq", outputs=-2))
    with pytest.raises(ValueError, match="'0' is given twice"):
        latency(bundle(tmp_path / "m.cimq", layer_name="0"))
    (tmp_path / "m.cimq" / "layers.json").write_text('{"nodes": 3}')
    with pytest.raises(ValueError, match="must hold a list of nodes"):
        latency(tmp_path / "m.cimq")
    (tmp_path / "m.cimq" / "layers.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"bundle file .*layers\.json does not exist"):
        latency(tmp_path / "m.cimq")


def test_machines_that_the_closed_form_is_not_for_are_named() -> None:
    for count, words in ((4, "4 crossbars"), (None, "unlimited crossbars")):
        machine = Hardware(resources={"crossbars": count})
        with pytest.warns(cimq.CimqWarning, match=f"has {words}, but the closed-form latency is that of one"):
            report = latency(SHAPES, Policy.uniform(8, 8), machine)
        assert report.time_us == latency(SHAPES, Policy.uniform(8, 8)).time_us
