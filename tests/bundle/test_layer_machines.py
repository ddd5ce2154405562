"""Bundles whose layers choose ADC bits or a mapping: executor, interpreter, compiler and costs are each layer's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from attention_nets import TOKENS, WIDTH, Fused
from torch import nn

import cimq
from cimq import _C, Policy
from cimq.bundle.explained import explain_layer
from cimq.bundle.folder import write_manifest
from cimq.quantization import get_policy

MACHINE = cimq.Hardware(
    rows=16, cols=32, cell_bits=2, adc={"bits": 5, "range": "granular"}, name="small",
    timing={"adc_time_us": 0.01}, energy={"adc_energy_pj": 2.0, "mvm_energy_pj": 1.0}, area={"adc_area_um2": 500.0},
)  # fmt: skip
NOISE = {"programming": {"model": "gaussian", "sigma_levels": 0.2}, "read": {"model": "constant", "sigma_levels": 0.1}}
# On 16 x 32 arrays what is converted at once must lie in one tile: differential_row needs an even number of rows.
MIXED = Policy({"0": (4, 4, 4), "2": (4, 5, None, "offset"), "5": (3, 4, 6, "differential_row"), "7": (4, 4)})
X = torch.randn(3, 2, 6, 6, generator=torch.Generator().manual_seed(1))


def prepared(machine: cimq.Hardware, policy: Policy = MIXED) -> nn.Module:
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(2, 6, 3), nn.ReLU(), nn.Conv2d(6, 4, 3, groups=2), nn.ReLU(), nn.Flatten(), nn.Linear(16, 8),
        nn.ReLU(), nn.Linear(8, 5),
    )  # fmt: skip
    return cimq.prepare(net.eval(), policy, machine, example_inputs=X)


@pytest.mark.parametrize("kind", ["granular", "calibrated", "learned", "noisy"])
def test_executor_and_interpreter_give_the_integers_of_the_model(kind: str, tmp_path: Path) -> None:
    machine = MACHINE.replace(cell=NOISE) if kind == "noisy" else MACHINE.replace(adc={"range": kind})
    model = prepared(machine)
    bundle = cimq.export(model, tmp_path / "net.cimq", X)  # compares every layer itself
    assert torch.equal(bundle.run(X), model(X))
    output, layers = _C.Interpreter.load(str(bundle.path)).run_layers(X.numpy())
    _, wanted = bundle.run_layers(X)
    assert torch.equal(torch.from_numpy(output), model(X))
    assert all(torch.equal(torch.from_numpy(layers[name]), wanted[name]) for name in wanted)
    assert bundle.policy == MIXED
    assert bundle.hardware == machine
    assert not torch.equal(bundle.run(X), prepared(machine, Policy(dict(MIXED.items())))(X))


def test_a_layer_may_lose_what_the_machine_does_not(tmp_path: Path) -> None:
    machine = MACHINE.replace(adc={"bits": 12})
    exact = prepared(machine, Policy.uniform(4, 4))
    assert exact[0].hardware.lossless
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(2, 6, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 4, 2), nn.Flatten(), nn.Linear(4, 5)
    )
    policy = Policy({"0": (4, 4, 3), "3": (4, 4, None, "offset"), "5": (4, 4, 4)})
    model = cimq.prepare(net.eval(), policy, machine, example_inputs=X)
    bundle = cimq.export(model, tmp_path / "net.cimq", X)
    assert torch.equal(bundle.run(X), model(X))
    assert {name: value.dtype for name, value in bundle.run_layers(X)[1].items()} == {
        "0": torch.float32, "3": torch.int32, "5": torch.float32,
    }  # fmt: skip
    assert torch.equal(torch.from_numpy(_C.Interpreter.load(str(bundle.path)).run_layers(X.numpy())[0]), model(X))


def test_products_of_two_values_have_machines_of_their_own(tmp_path: Path) -> None:
    x = torch.randn(3, TOKENS, WIDTH, generator=torch.Generator().manual_seed(2))
    torch.manual_seed(0)
    model = cimq.prepare(Fused().eval(), Policy.uniform(5, 5), MACHINE.replace(adc={"range": "calibrated"}))
    cimq.calibrate(model, [x])
    names = list(get_policy(model))
    choices = [(5, 5, 6, "offset"), (5, 5, 4), (4, 5, None, "offset"), (5, 5, 6, "differential_row")]
    policy = Policy(dict(zip(names, choices, strict=True)))
    assert [name.rpartition(".")[2] for name in names[:2]] == ["qk", "av"]
    cimq.set_policy(model, policy)
    bundle = cimq.export(model, tmp_path / "net.cimq", x)
    assert bundle.policy == policy
    assert torch.equal(bundle.run(x), cimq.convert(model, sample_input=x)(x))
    assert torch.equal(torch.from_numpy(_C.Interpreter.load(str(bundle.path)).run_layers(x.numpy())[0]), bundle.run(x))
    for machine in (None, MACHINE.replace(adc={"range": "calibrated"}, resources={"crossbars": None})):
        pipeline = "closed_form" if machine is None else "stationary"
        program = cimq.compile(bundle.path, machine, pipeline=pipeline)
        assert {layer.name: layer.machine for layer in program.layers} == {name: policy.machine(name) for name in names}
        assert program.simulated.time_us > 0
    assert cimq.energy(bundle).energy_pj == pytest.approx(cimq.energy(model, sample_input=x).energy_pj)


def test_costs_of_the_bundle_are_those_of_the_model(tmp_path: Path) -> None:
    model = prepared(MACHINE)
    bundle = cimq.export(model, tmp_path / "net.cimq", X)
    program = cimq.compile(bundle.path)
    assert cimq.latency(bundle) == cimq.latency(bundle.path) == program.latency
    time = cimq.latency(model)
    assert [(e.writes, e.mvms, e.time_us, e.machine) for e in program.latency.layers] == [
        (e.writes, e.mvms, e.time_us, e.machine) for e in time.layers
    ]
    assert cimq.energy(bundle) == cimq.energy(bundle.path) == cimq.energy(model)
    assert [layer.machine for layer in program.layers] == MIXED.machines()
    assert program.simulated.time_us > program.latency.time_us  # converters take time besides
    stationary = cimq.compile(bundle.path, MACHINE.replace(resources={"crossbars": None}), pipeline="stationary")
    simulated, closed = stationary.simulated, cimq.energy(model)
    assert simulated.energy_pj is not None
    assert simulated.energy_pj["adc"] == pytest.approx(closed.parts_pj["adc"])
    assert [layer.energy_pj["adc"] for layer in simulated.layers if layer.energy_pj] == pytest.approx(
        [layer.parts_pj["adc"] for layer in closed.layers]
    )
    assert simulated.area is not None
    # Converters of 6 bits, one for each of 32 columns (differential_row), against 5 bits for each of 16 pairs.
    assert simulated.area.parts["adc"] == pytest.approx(500.0 * 627 / 477 * 32 * simulated.area.crossbars)


def test_the_simulated_time_without_converters_is_the_closed_form(tmp_path: Path) -> None:
    bundle = cimq.export(prepared(MACHINE.replace(timing={"adc_time_us": None})), tmp_path / "net.cimq", X)
    program = cimq.compile(bundle.path)
    assert program.simulated.time_us == program.latency.time_us


def test_the_files_say_what_a_layer_chooses(tmp_path: Path) -> None:
    bundle = cimq.export(prepared(MACHINE), tmp_path / "net.cimq", X)
    document = json.loads((bundle.path / "layers.json").read_text())
    assert document["version"] == "1.6.0"
    rows = {node["layer_name"]: node for node in document["nodes"] if "layer_name" in node}
    assert (rows["5"]["adc_bits"], rows["5"]["mapping"]) == (6, "differential_row")
    assert "adc_bits" not in rows["2"]
    assert not {"adc_bits", "mapping"} & set(rows["7"])
    assert (bundle.layers[2].adc_bits, bundle.layers[2].mapping) == (6, "differential_row")
    plain = cimq.export(prepared(MACHINE, Policy.uniform(4, 4)), tmp_path / "plain.cimq", X)
    assert json.loads((plain.path / "layers.json").read_text())["version"] == "1.5.0"
    text = explain_layer(cimq.compile(bundle.path), "5")
    assert "otherwise than the machine: 6-bit converters, differential_row" in text
    assert "of 2 bits, differential_row: 32 word lines" in text
    assert "otherwise" not in explain_layer(cimq.compile(bundle.path), "7")
    with pytest.raises(ValueError, match="emit_c: layer '0' chooses 4-bit converters, and analog-cim-sim has one"):
        cimq.emit_c(bundle.path, tmp_path / "c", MACHINE.replace(cell={}, adc={"range": "full_scale"}))


def test_what_is_chosen_like_the_machine_is_no_choice(tmp_path: Path) -> None:
    own = Policy({"0": (4, 4, 5), "2": (4, 5, None, "differential_column"), "5": (3, 4), "7": (4, 4)})
    plain = Policy({name: tuple(own[name]) for name in own})
    model = prepared(MACHINE, own)
    assert get_policy(model) == own  # stays what was said, for other machines
    same = [cimq.export(net, tmp_path / f"{i}.cimq", X) for i, net in enumerate((model, prepared(MACHINE, plain)))]
    assert len({(bundle.path / "layers.json").read_text() for bundle in same}) == 1
    assert [bundle.policy for bundle in same] == [plain, plain]
    assert "otherwise" not in explain_layer(cimq.compile(same[0].path), "0")
    assert cimq.latency(model).to_dict() == cimq.latency(same[0].path).to_dict()
    assert "otherwise" not in str(cimq.latency(model)) + str(cimq.energy(model))


def changed(bundle: Path, name: str, change: Any) -> None:
    """Rewrites a JSON file of a bundle, and the manifest with it."""
    document = json.loads((bundle / name).read_text())
    change(document)
    (bundle / name).write_text(json.dumps(document))
    (bundle / "manifest.json").unlink()
    write_manifest(bundle, [path.name for path in bundle.iterdir()], {})


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("adc_bits", 5, r"layer '0' has \(4, 4, 4-bit converters\) and \(4, 4, 5-bit converters\)"),
        ("mapping", "offset", r"has \(4, 4, 4-bit converters\) and \(4, 4, 4-bit converters, offset\)"),
        ("adc_bits", 17, "adc_bits must be"),
        ("adc_bits", None, "adc_bits must be"),
        ("mapping", "column", "there is no mapping 'column'"),
    ],
)
def test_files_that_differ_or_are_impossible_are_refused(tmp_path: Path, key: str, value: Any, reason: str) -> None:
    bundle = cimq.export(prepared(MACHINE), tmp_path / "net.cimq", X)

    def change(document: Any) -> None:
        next(node for node in document["nodes"] if node.get("layer_name") == "0")[key] = value

    changed(bundle.path, "layers.json", change)
    with pytest.raises(ValueError, match=reason):
        cimq.load_bundle(bundle.path)


def test_machines_that_cannot_have_the_choice_are_refused_by_name(tmp_path: Path) -> None:
    bundle = cimq.export(prepared(MACHINE), tmp_path / "net.cimq", X)
    with pytest.raises(ValueError, match="layer '0' has adc_bits 4, but the converters of hardware 'paper' are ideal"):
        cimq.compile(bundle.path, "paper")
    with pytest.raises(ValueError, match="layer '0' has adc_bits 4, but the converters of hardware 'paper' are ideal"):
        cimq.latency(bundle, hardware="paper")
