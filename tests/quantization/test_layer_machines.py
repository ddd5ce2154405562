"""Layers that choose ADC bits or a mapping: each computes as if its choice were the machine of the whole network."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import cimq
from cimq.layer_machine import layer_hardware
from cimq.policy import AS_THE_MACHINE, LayerMachine, Policy
from cimq.quantization import get_policy, quant_layers, set_hardware

MACHINE = cimq.Hardware(rows=16, cols=32, cell_bits=2, adc=cimq.hardware.Adc(bits=5, range="granular"), name="small")
RANGES = ("granular", "calibrated", "learned")
NOISE = {"programming": {"model": "gaussian", "sigma_levels": 0.2}, "read": {"model": "constant", "sigma_levels": 0.1}}
# Every layer chooses something else; the last one nothing.
CHOICES = {
    "0": LayerMachine(adc_bits=4),
    "2": LayerMachine(mapping="offset"),
    "4": LayerMachine(adc_bits=3, mapping="differential_row"),
    "7": AS_THE_MACHINE,
}
MIXED = Policy({name: (4, 4, *machine) for name, machine in CHOICES.items()})


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(2, 6, 3), nn.ReLU(), nn.Conv2d(6, 8, 3, groups=2), nn.ReLU(), nn.Conv2d(8, 4, 3), nn.ReLU(),
        nn.Flatten(), nn.Linear(16, 5),
    ).eval()  # fmt: skip


X = torch.randn(4, 2, 8, 8, generator=torch.Generator().manual_seed(1))


def whole(machine: cimq.Hardware, choice: LayerMachine) -> cimq.Hardware:
    """The machine with a choice, without the function under test."""
    changes: dict[str, Any] = {} if choice.adc_bits is None else {"adc": {"bits": choice.adc_bits}}
    return machine.replace(**changes, **({} if choice.mapping is None else {"mapping": choice.mapping}))


def inputs_of(model: nn.Module) -> dict[str, Tensor]:
    """What the layers of the fp32 network get."""
    seen: dict[str, Tensor] = {}
    x = X
    for name, layer in model.named_children():
        seen[name] = x
        x = layer(x).detach()
    return seen


@pytest.mark.parametrize(("range_", "cells"), [("granular", "exact"), ("calibrated", "noisy"), ("learned", "exact")])
def test_a_layer_computes_as_if_the_whole_machine_were_its_own(range_: str, cells: str) -> None:
    machine = MACHINE.replace(adc={"range": range_}, cell=NOISE if cells == "noisy" else {})
    mixed = cimq.prepare(net(), MIXED, machine, example_inputs=X)
    converted = cimq.convert(mixed)
    seen = inputs_of(net())
    for name, choice in CHOICES.items():
        alone = cimq.prepare(net(), Policy.uniform(4, 4), whole(machine, choice), example_inputs=X)
        own, expected = mixed.get_submodule(name), alone.get_submodule(name)
        assert own.hardware.replace(name="x") == expected.hardware.replace(name="x")
        assert torch.equal(own(seen[name]), expected(seen[name]))
        assert torch.equal(
            converted.get_submodule(name)(seen[name]), cimq.convert(alone).get_submodule(name)(seen[name])
        )
        gradients = []
        for layer in (own, expected):
            layer.train()
            torch.manual_seed(2)
            layer(seen[name]).square().sum().backward()
            layer.eval()
            gradients.append([parameter.grad for parameter in layer.parameters()])
        for got, wanted in zip(*gradients, strict=True):
            assert wanted is None or torch.equal(got, wanted)
    plain = cimq.prepare(net(), Policy.uniform(4, 4), machine, example_inputs=X)
    assert not torch.equal(mixed(X), plain(X))  # the choices do matter


@pytest.mark.parametrize("range_", RANGES)
def test_switching_gives_what_a_fresh_model_has(range_: str) -> None:
    machine = MACHINE.replace(adc={"range": range_})
    switched = cimq.prepare(net(), Policy.uniform(4, 4), machine, example_inputs=X)
    plain = switched(X)
    cimq.set_policy(switched, MIXED)
    assert get_policy(switched) == MIXED
    assert torch.equal(switched(X), cimq.prepare(net(), MIXED, machine, example_inputs=X)(X))
    keys = {key for key in switched.state_dict() if key.endswith("adc_machine")}
    assert keys == (set() if range_ == "granular" else {"0.adc_machine", "2.adc_machine", "4.adc_machine"})
    cimq.set_policy(switched, Policy.uniform(4, 4))
    assert torch.equal(switched(X), plain)
    assert not get_policy(switched).chooses_machines


def test_attention_chooses_for_each_of_its_products() -> None:
    machine = MACHINE.replace(adc={"range": "calibrated"})
    torch.manual_seed(0)
    attention = nn.MultiheadAttention(8, 2, batch_first=True).eval()
    x = torch.randn(2, 3, 8)
    names = ["in_proj", "qk", "av", "out_proj"]
    model = cimq.prepare(attention, Policy.uniform(4, 4), machine)
    cimq.calibrate(model, [x], forward_fn=lambda m, batch: m(batch, batch, batch))
    cimq.set_policy(model, Policy(dict.fromkeys(names, (4, 4, 4, "offset"))))
    alone = cimq.prepare(attention, Policy.uniform(4, 4), machine.replace(adc={"bits": 4}, mapping="offset"))
    cimq.calibrate(alone, [x], forward_fn=lambda m, batch: m(batch, batch, batch))
    assert torch.equal(model(x, x, x)[0], alone(x, x, x)[0])


def test_converter_ranges_are_those_of_the_choice() -> None:
    machine = MACHINE.replace(adc={"range": "calibrated"})
    model = cimq.prepare(net(), Policy.uniform(4, 4), machine, example_inputs=X)
    first: Any = model.get_submodule("0")
    before = first.adc_ranges.clone()
    cimq.set_policy(model, Policy.uniform(4, 4, adc_bits=3))
    assert not torch.equal(first.adc_ranges, before)
    first._adc_sample = None  # as after unpickling in a process that has no data
    cimq.set_policy(model, Policy.uniform(4, 4))
    assert torch.equal(first.adc_ranges, before)
    cimq.set_policy(model, Policy.uniform(4, 4, adc_bits=4))
    with pytest.raises(ValueError, match="layer '0' has no converter range for W4A4; call"):
        model(X)


def test_learned_steps_of_a_choice_come_back() -> None:
    model = cimq.prepare(net(), Policy.uniform(4, 4), MACHINE.replace(adc={"range": "learned"}), example_inputs=X)
    first: Any = model.get_submodule("0")
    with torch.no_grad():
        first.adc_lsb *= 1.5  # as if trained
    trained = first.adc_lsb.clone()
    cimq.set_policy(model, MIXED)
    assert not torch.equal(first.adc_lsb, trained)
    cimq.set_policy(model, Policy.uniform(4, 4))
    assert torch.equal(first.adc_lsb, trained)
    cimq.calibrate(model, [X])
    assert not torch.equal(first.adc_lsb, trained)


def test_a_state_with_ranges_of_another_choice_is_refused() -> None:
    machine = MACHINE.replace(adc={"range": "calibrated"})
    mixed = cimq.prepare(net(), MIXED, machine, example_inputs=X)
    state = mixed.state_dict()
    other = cimq.prepare(net(), Policy.uniform(4, 4), machine)
    with pytest.raises(ValueError, match="layer '0': the converter ranges of this state are for 4-bit converters, and"):
        other.load_state_dict(state)
    cimq.set_policy(other, MIXED)
    other.load_state_dict(state)
    assert torch.equal(other(X), mixed(X))
    plain = cimq.prepare(net(), Policy.uniform(4, 4), machine, example_inputs=X).state_dict()
    with pytest.raises(ValueError, match="are for as the machine, and the layer has 4-bit"):
        other.load_state_dict(plain, strict=False)


def test_training_on_a_machine_without_converters_takes_the_mapping() -> None:
    training = MACHINE.replace(adc={"bits": None}, cell=NOISE)
    model = cimq.prepare(net(), MIXED, MACHINE, training_hardware=training, example_inputs=X)
    layer: Any = model.get_submodule("4")
    assert (layer.hardware.adc.bits, layer.hardware.mapping) == (3, "differential_row")
    assert (layer.training_hardware.adc.bits, layer.training_hardware.mapping) == (None, "differential_row")
    steps = int(layer.noise_step)
    model.train()(X)
    cimq.set_policy(model, Policy.uniform(4, 4))
    assert int(layer.noise_step) == steps + 1  # chips of training are never met twice


def test_a_model_moves_with_its_choices() -> None:
    model = cimq.prepare(net(), MIXED, MACHINE, example_inputs=X)
    set_hardware(model, MACHINE.replace(rows=32))
    assert get_policy(model) == MIXED
    assert [layer.hardware.rows for _, layer in quant_layers(model)] == [32] * 4
    with pytest.raises(ValueError, match=r"layer '0' has adc_bits 4, but the converters of hardware 'paper' are ideal"):
        set_hardware(model, "paper")
    assert [layer.hardware.rows for _, layer in quant_layers(model)] == [32] * 4


def test_what_a_machine_cannot_have_is_refused_before_anything_changes() -> None:
    model = cimq.prepare(net(), Policy.uniform(4, 4), MACHINE, example_inputs=X)
    impossible = MIXED.replace({"7": (2, 2, 1)})
    with pytest.raises(ValueError, match=r"layer '7' cannot have 1-bit converters on hardware 'small': .*at least 2"):
        cimq.set_policy(model, impossible)
    assert get_policy(model) == Policy(dict.fromkeys(CHOICES, (4, 4)))
    fresh = net()
    with pytest.raises(ValueError, match="layer '7' cannot have 1-bit converters"):
        cimq.prepare(fresh, impossible, MACHINE, inplace=True)
    assert type(fresh.get_submodule("0")) is nn.Conv2d


def test_offset_has_no_pair_whose_sign_could_be_saved() -> None:
    machine = MACHINE.replace(sign_magnitude=True)
    assert not layer_hardware(machine, LayerMachine(mapping="offset")).sign_magnitude
    assert layer_hardware(machine, LayerMachine(mapping="differential_row")).sign_magnitude
    assert layer_hardware(machine, AS_THE_MACHINE) is machine


def test_finetuning_and_its_checkpoint_keep_the_choices(tmp_path: Any) -> None:
    data = [(X, torch.tensor([0, 1, 2, 3]))]
    model = cimq.prepare(net(), MIXED, MACHINE, example_inputs=X)
    options: dict[str, Any] = {"epochs": 1, "lr": 0.01, "progress": False, "checkpoint": tmp_path / "c.pt"}
    cimq.finetune(model, data, **options)
    assert get_policy(model) == MIXED
    other = cimq.prepare(net(), MIXED.replace({"0": (4, 4, 5)}), MACHINE, example_inputs=X)
    with pytest.raises(ValueError, match=r"'0' W4A4 \(4-bit converters\) and now W4A4 \(5-bit converters\)"):
        cimq.finetune(other, data, **options, resume=True)


def test_drawn_policies_may_change_converters_unless_their_steps_are_learned() -> None:
    data = [(X, torch.tensor([0, 1, 2, 3]))] * 2
    drawn = [Policy.uniform(4, 4), MIXED]
    options: dict[str, Any] = {"epochs": 1, "lr": 0.01, "progress": False, "policies": lambda _, step: drawn[step]}
    model = cimq.prepare(net(), Policy.uniform(4, 4), MACHINE.replace(adc={"range": "calibrated"}), example_inputs=X)
    cimq.finetune(model, data, **options)
    learned = cimq.prepare(net(), Policy.uniform(4, 4), MACHINE.replace(adc={"range": "learned"}), example_inputs=X)
    with pytest.raises(ValueError, match="policies gives layer '0' 4-bit converters, and it was as the machine before"):
        cimq.finetune(learned, data, **options)


def test_copies_keep_the_choices() -> None:
    model = cimq.prepare(net(), MIXED, MACHINE.replace(adc={"range": "calibrated"}), example_inputs=X)
    other = copy.deepcopy(model)
    cimq.set_policy(model, Policy.uniform(4, 4))
    assert get_policy(other) == MIXED
    cimq.set_policy(model, MIXED)
    assert torch.equal(other(X), model(X))
    assert "adc_bits=4" in repr(other.get_submodule("0"))
