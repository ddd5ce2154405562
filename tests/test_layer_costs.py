"""Costs of layers that choose ADC bits or a mapping: each as if its choice were the machine of the whole network."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from torch import nn, rand

import cimq
from cimq.cost_model import LayerShape
from cimq.cost_model.machine_parts import machine_area
from cimq.cost_model.policy_table import read_policy_table
from cimq.policy import LayerMachine, Policy

SAR_ENERGY_PJ = {6: 1.20, 8: 1.67, 10: 2.38}
SAR_AREA_UM2 = {8: 1200.0, 10: 3002.0}
ISAAC = cimq.Hardware.preset("isaac").replace(resources={"crossbars": 1}, mapping="differential_column")
SHAPES = [
    LayerShape("conv1", "Conv2d", 64, 147, 3136),
    LayerShape("conv2", "Conv2d", 100, 576, 784, 2),
    LayerShape("fc", "Linear", 10, 512, 1),
    LayerShape("out", "Linear", 10, 512, 1),
]
POLICY = Policy(
    {"conv1": (8, 8), "conv2": (4, 5, 6), "fc": (3, 4, None, "offset"), "out": (3, 4, 10, "differential_row")}
)


def whole(machine: cimq.Hardware, choice: LayerMachine) -> cimq.Hardware:
    """The machine with a choice, without the functions under test."""
    changes: dict[str, Any] = {} if choice.mapping is None else {"mapping": choice.mapping}
    if choice.adc_bits is not None:
        scale = SAR_ENERGY_PJ[choice.adc_bits] / SAR_ENERGY_PJ[8]
        assert machine.energy.adc_energy_pj is not None
        changes |= {"adc": {"bits": choice.adc_bits}, "energy": {"adc_energy_pj": machine.energy.adc_energy_pj * scale}}
    return machine.replace(**changes)


def test_costs_are_those_of_every_layer_on_its_own_machine() -> None:
    time, energy = cimq.latency(SHAPES, POLICY, ISAAC), cimq.energy(SHAPES, POLICY, ISAAC)
    for index, shape in enumerate(SHAPES):
        own, bits = whole(ISAAC, POLICY.machine(index)), Policy({shape.name: POLICY[index]})
        alone, spent = cimq.latency([shape], bits, own).layers[0], cimq.energy([shape], bits, own).layers[0]
        counts = ("tiles", "writes", "mvms", "time_us")
        assert [getattr(time.layers[index], key) for key in counts] == [getattr(alone, key) for key in counts]
        assert energy.layers[index].parts_pj == spent.parts_pj
        assert time.layers[index].machine == energy.layers[index].machine == POLICY.machine(index)
    assert time.time_us == pytest.approx(sum(layer.time_us for layer in time.layers))
    assert energy.energy_pj == pytest.approx(sum(layer.energy_pj for layer in energy.layers))
    plain = Policy(dict(POLICY.items()))
    assert cimq.latency(SHAPES, plain, ISAAC).uniform8_time_us == time.uniform8_time_us
    assert cimq.energy(SHAPES, plain, ISAAC).uniform8_energy_pj == energy.uniform8_energy_pj
    fewer = Policy({**dict(plain.items()), "conv2": (4, 5, 6)})
    ratio = SAR_ENERGY_PJ[6] / SAR_ENERGY_PJ[8]
    before, after = (cimq.energy(SHAPES, policy, ISAAC).layers[1].parts_pj["adc"] for policy in (plain, fewer))
    assert after == pytest.approx(before * ratio, rel=1e-3)  # a conversion is counted in whole femtojoules


def test_reports_name_what_layers_choose() -> None:
    reports = (cimq.latency(SHAPES, POLICY, ISAAC), cimq.energy(SHAPES, POLICY, ISAAC))
    for report in reports:
        rows = json.loads(json.dumps(report.to_dict()))["layers"]
        assert {key: rows[3][key] for key in ("adc_bits", "mapping")} == {"adc_bits": 10, "mapping": "differential_row"}
        assert not {"adc_bits", "mapping", "machine"} & set(rows[0])
        assert "10-bit converters, differential_row" in str(report)
        assert "otherwise" in str(report)
    assert "otherwise" not in str(cimq.latency(SHAPES, Policy.uniform(4, 4), ISAAC))


def test_a_prepared_model_tells_its_own_choices() -> None:
    net = nn.Sequential(nn.Linear(200, 30), nn.ReLU(), nn.Linear(30, 4))
    policy = Policy({"0": (4, 4, 6), "2": (4, 4, None, "offset")})
    model = cimq.prepare(net, policy, ISAAC, example_inputs=rand(2, 200))
    for function in (cimq.latency, cimq.energy):
        report: Any = function(model)
        assert report.hardware == ISAAC
        assert [layer.machine for layer in report.layers] == policy.machines()


def test_bits_whose_energy_is_not_known_are_refused_by_name() -> None:
    few = Policy.uniform(4, 4, adc_bits=3)
    assert cimq.latency(SHAPES, few, ISAAC).writes > 0  # times do not look at converters
    with pytest.raises(
        ValueError, match=r"layer 'conv1' has 3-bit converters and hardware .* is known for 4 to 10 bits"
    ):
        cimq.energy(SHAPES, few, ISAAC)
    silent = ISAAC.replace(energy={"adc_energy_pj": None})
    assert "adc" in cimq.energy(SHAPES, few, silent).missing
    wide = ISAAC.replace(adc={"bits": 12})
    assert cimq.energy(SHAPES, Policy.uniform(4, 4, adc_bits=12), wide).energy_pj > 0  # the machine's own
    with pytest.raises(
        ValueError, match=r"layer 'conv1' has adc_bits 6, but the converters of hardware 'paper' are ideal"
    ):
        cimq.latency(SHAPES, Policy.uniform(4, 4, adc_bits=6))


def test_the_machine_has_the_largest_converters_that_a_layer_uses() -> None:
    plain, fewer = machine_area(ISAAC, 8), machine_area(ISAAC, 8, Policy.uniform(4, 4, adc_bits=4))
    assert fewer == plain  # converters that stop early are no smaller
    more = machine_area(ISAAC, 8, POLICY)
    assert more.parts["adc"] == pytest.approx(plain.parts["adc"] * SAR_AREA_UM2[10] / SAR_AREA_UM2[8])
    shared = ISAAC.replace(resources={"adcs_per_crossbar": None})
    apart = machine_area(shared, 8, Policy.uniform(4, 4, mapping="offset"))
    assert apart.parts["adc"] == pytest.approx(2 * machine_area(shared, 8).parts["adc"])  # a column each, not a pair
    with pytest.raises(
        ValueError, match=r"a layer has 12-bit converters .* the area of a converter changes is known for"
    ):
        machine_area(ISAAC, 8, Policy.uniform(4, 4, adc_bits=12))


def test_tables_of_policies_take_the_longer_rows(tmp_path: Path) -> None:
    layer = {"outputs": 10, "inputs": 512, "invocations": 1}
    entry = {"name": "p", "model": "m", "policy": [[4, 4], [4, 4, None, "offset"]]}
    path = tmp_path / "table.json"
    path.write_text(json.dumps({"hardware": "paper", "layers": {"m": [layer, layer]}, "policies": [entry]}))
    (read,) = read_policy_table(path)
    tiles = {name: [layer.tiles for layer in report.layers] for name, report in read.latencies().items()}
    assert tiles == {"differential_column": [2, 2], "differential_row": [4, 2], "offset": [2, 2]}
