"""Findings of cimq.doctor: given where something hurts, with changes that can be made, several layers in one line."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

import cimq
from cimq.diagnosis.advice import findings, lines_of
from cimq.diagnosis.rows import DoctorRow
from cimq.quantization import AdcRow

PAPER = cimq.Hardware.preset("paper")


def row(layer: str = "b", **changes: Any) -> DoctorRow:
    healthy: dict[str, Any] = {
        "layer": layer, "weight_bits": 4, "act_bits": 4, "act_sqnr_db": 25.0, "weight_sqnr_db": 25.0,
        "adc_sqnr_db": 25.0, "cell_sqnr_db": 25.0, "sqnr_db": 20.0, "clipped_inputs": 0.0, "clip_error": 0.0,
        "used_input_codes": 1.0, "output_sqnr_db": 8.0, "output_without_adc_db": 20.0,
        "output_without_cell_db": 20.0, "cause": "act",
    }  # fmt: skip
    return DoctorRow(**healthy | changes)


def slices(*share: float, **changes: Any) -> list[AdcRow]:
    return [
        AdcRow(
            **{
                "layer": "b", "slice": s, "weight_bits": 4, "act_bits": 4, "conversions": 10, "clip_low": 0.0,
                "clip_high": 0.0, "used_codes": 1.0, "current_min": 0.0, "current_max": 1.0, "conversion_mse": 1.0,
                "error_share": part, "layer_mse": 1.0, "layer_max_error": 1.0, "layer_sqnr_db": 1.0,
            } | changes
        )
        for s, part in enumerate(share)
    ]  # fmt: skip


def texts(found: DoctorRow, machine: cimq.Hardware = PAPER, converters: Any = ()) -> list[str]:
    machines = dict.fromkeys("abc", machine)
    return [finding.text for finding in findings([found], converters, machines)]


def test_first_and_last_layer_alone_get_first_last_bits() -> None:
    poor = {"act_sqnr_db": 5.0, "weight_sqnr_db": 5.0}
    assert texts(row("b", **poor)) == [
        "4-bit inputs leave 5.0 dB: 5 activation bits in the policy, or train (cimq.finetune)",
        "4-bit weights leave 5.0 dB: 5 weight bits in the policy, or train (cimq.finetune)",
    ]
    for layer in "ac":
        assert all("first_last_bits=8" in text for text in texts(row(layer, **poor)))
        assert not any("first_last" in text for text in texts(row(layer, act_bits=8, weight_bits=8, **poor)))


def test_what_does_no_harm_at_the_output_is_not_named() -> None:
    assert texts(row(act_sqnr_db=5.0, output_sqnr_db=31.0)) == []


def test_clipped_inputs_are_named_by_what_they_cost() -> None:
    clips = {"clipped_inputs": 0.2, "clip_error": 0.9}
    assert texts(row(**clips)) == []  # trained scales clip on purpose
    assert texts(row(act_sqnr_db=9.0, **clips))[0].startswith(
        "20% of the inputs lie beyond the activation scale and leave 9.0 dB: calibrate again"
    )
    assert texts(row(act_sqnr_db=9.0, clipped_inputs=0.2, clip_error=0.1))[0].startswith("4-bit inputs leave 9.0 dB")
    assert "and use 12% of their integers: calibrate again" in texts(row(act_sqnr_db=9.0, used_input_codes=0.125))[0]


@pytest.mark.parametrize(("bits", "advised"), [(4, "adc.bits: 5"), (15, "adc.bits: 16"), (16, None)])
def test_converter_bits_stay_possible(bits: int, advised: str | None) -> None:
    machine = PAPER.replace(adc={"bits": bits, "range": "full_scale"})
    (text,) = texts(row(adc_sqnr_db=3.0, cause="adc"), machine, slices(0.1, 0.9))
    assert text.startswith("converters leave 3.0 dB, 90% of the error in slice 1: ")
    assert (advised or "rows: 128") in text
    assert "adc.bits: 17" not in text
    machine.replace(adc={"bits": min(16, bits + 1), "range": "full_scale"})  # what is advised is a machine


def test_converters_are_named_only_where_they_hurt() -> None:
    machine = PAPER.replace(adc={"bits": 4, "range": "full_scale"})
    poor = {"adc_sqnr_db": 3.0, "cause": "adc"}
    assert len(texts(row(**poor), machine)) == 1
    assert texts(row(output_without_adc_db=8.5, **poor), machine) == []  # ideal ones would not help
    assert texts(row(**poor | {"cell_sqnr_db": 1.0, "cause": "cell"}), machine) == [
        "cells leave 1.0 dB: cell_bits: 3, or train on this machine (a fresh chip in every step, cimq.finetune), and "
        "judge by several chips (cimq.evaluate_chips)"
    ]
    few = slices(0.5, 0.5, used_codes=0.03)
    assert "use 3% of their codes in slice 0: adc.range: calibrated" in texts(row(**poor), machine, few)[0]
    clipping = slices(0.2, 0.8, clip_high=0.3)
    assert "clip 30% of slice 1: adc.range: calibrated" in texts(row(**poor), machine, clipping)[0]


def test_the_same_change_for_many_layers_is_one_line() -> None:
    names = [f"l{i}" for i in range(9)]
    rows = [row(name, act_sqnr_db=5.0 + i) for i, name in enumerate(names[:7])]
    rows[3] = row("l3", weight_sqnr_db=None, act_sqnr_db=2.0, act_bits=2)
    found = findings(rows, [], dict.fromkeys(["first", *names], PAPER))
    assert len(found) == 7
    assert lines_of(found) == [
        "l0, l1, l2, l4, l5, l6: inputs leave 5.0 to 11.0 dB: 5 activation bits in the policy, or train "
        "(cimq.finetune)",
        "l3: 2-bit inputs leave 2.0 dB: 3 activation bits in the policy, or train (cimq.finetune)",
    ]
    many = findings([row(name, act_sqnr_db=5.0) for name in names], [], dict.fromkeys(["first", *names, "z"], PAPER))
    assert lines_of(many)[0].startswith("l0, l1, l2, l3, l4, l5, ... (9 layers): inputs leave 5.0 to 5.0 dB: ")


def test_normalisations_without_data_come_first() -> None:
    torch.manual_seed(0)
    x = torch.rand(8, 3, 6, 6)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4), nn.Flatten())
    found = cimq.doctor(cimq.prepare(net, example_inputs=x), [x])
    assert [(finding.layer, finding.cause) for finding in found.findings] == [("1", "norm"), ("3", "norm")]
    assert str(found).splitlines()[-1].startswith("1, 3: has seen no data (mean 0, variance 1): load the trained")


FIXED: dict[str, Any] = {"cell_sqnr_db": 1.0, "cause": "cell"}
WINDOW = {"hrs_ohm": 1e5, "lrs_ohm": 1e4}


def test_cells_that_do_not_vary_are_not_blamed_on_chips() -> None:
    adc = {"bits": 5, "placement": "per_column"}
    (text,) = texts(row(**FIXED), PAPER.replace(adc=adc, cell=WINDOW))
    assert text == (
        "cells, the same on every chip, leave 1.0 dB (the current of cells at level 0, on/off ratio 10, takes codes of "
        "the converters): adc.range: calibrated, or adc.placement: differential, or adc.bits: 6, "
        "or train on this machine (cimq.finetune)"
    )
    window = {"g_min_microsiemens": 2.0, "g_max_microsiemens": 40.0}
    (text,) = texts(row(**FIXED), PAPER.replace(adc={"bits": 5, "range": "calibrated"}, cell=window))
    assert "on/off ratio 20" in text
    assert text.endswith("): adc.bits: 6, or train on this machine (cimq.finetune)")
    drift = {"drift": {"nu": 0.05, "time_s": 1e6}}
    (text,) = texts(row(**FIXED), PAPER.replace(cell=drift))
    assert text == (
        "cells, the same on every chip, leave 1.0 dB: cells that are read sooner after programming "
        "(cell.drift.time_s), or train on this machine (cimq.finetune)"
    )
    (text,) = texts(row(**FIXED), PAPER.replace(cell=WINDOW, wires={"bit_line_ohm": 2.0}))
    assert "rows: 128" in text
    assert texts(row(**FIXED | {"output_without_adc_db": 8.5, "output_without_cell_db": 8.5}), PAPER) == []


def test_what_is_advised_for_a_poor_on_off_ratio_helps() -> None:
    machine = PAPER.replace(rows=128, adc={"bits": 5, "placement": "per_column"}, cell=WINDOW)
    torch.manual_seed(0)
    x = torch.rand(64, 64)
    net = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 4)).eval()

    def diagnosed(hardware: cimq.Hardware) -> Any:
        return cimq.doctor(cimq.prepare(net, None, hardware, example_inputs=x).eval(), [x])

    before = diagnosed(machine)
    said = " ".join(finding.text for finding in before.findings)
    assert {finding.cause for finding in before.findings} == {"cell"}
    assert "evaluate_chips" not in said
    assert "fresh chip" not in said
    for advised in ({"range": "calibrated"}, {"placement": "differential"}, {"bits": 6}):
        (name, value), *_ = advised.items()
        assert f"adc.{name}: {value}" in said
        assert diagnosed(machine.replace(adc=advised)).output_sqnr_db > before.output_sqnr_db + 1
