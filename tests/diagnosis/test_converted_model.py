"""cimq.doctor on converted models: what can be told without fp32 weights, and all of it with a reference."""

from __future__ import annotations

import copy
import math
import warnings
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import cimq
from cimq.quantization import adc_diagnostics


class Net(nn.Module):
    """Folded and plain layers, groups, and attention."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.hidden = nn.Conv2d(8, 16, 3, stride=2, padding=1, groups=2)
        self.row = nn.Conv1d(16, 16, 3, padding=1)
        self.attention = nn.MultiheadAttention(16, 2, batch_first=True)
        self.fc = nn.Linear(16, 5)
        with torch.no_grad():
            for name, parameter in self.named_parameters():
                parameter.mul_(0.2 if name.endswith("bias") else 1.5)
            self.norm.running_mean.uniform_(-0.2, 0.2)
            self.norm.running_var.uniform_(0.5, 2.0)
            self.norm.weight.uniform_(-1.0, 1.0)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.norm(self.conv(x)))
        x = torch.relu(self.hidden(x)).flatten(2)
        x = self.row(x).transpose(1, 2)
        x = x + self.attention(x, x, x, need_weights=False)[0]
        result: Tensor = self.fc(x.mean(1))
        return result


NAMES = ["conv", "hidden", "row", "attention.in_proj", "attention.qk", "attention.av", "attention.out_proj", "fc"]
LOSSY = cimq.Hardware.preset("paper").replace(
    rows=64,
    adc={"bits": 6, "range": "calibrated"},
    cell={"programming": {"model": "gaussian", "sigma_levels": 0.2}},
)


def images() -> Tensor:
    return torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(0)) - 0.2


def prepared(hardware: Any = "paper", bits: dict[str, tuple[int, int]] | None = None, **options: Any) -> Any:
    policy = cimq.Policy(dict.fromkeys(NAMES, (8, 8)) | (bits or {}))
    q = cimq.prepare(Net(), policy, hardware, **options)
    cimq.calibrate(q, [images()])
    return q.eval()


def converted_of(q: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", cimq.CimqWarning)  # attention cannot be exported
        return cimq.convert(q, images())


def by_layer(found: Any) -> dict[str, Any]:
    return {row.layer: row for row in found.rows}


@pytest.mark.parametrize(("hardware", "offset"), [("paper", False), (LOSSY, False), (LOSSY, True)])
def test_with_its_fp32_model_as_reference_the_rows_are_those_of_the_prepared_model(hardware: Any, offset: bool) -> None:
    q = prepared(hardware, {"hidden": (4, 3)}, act_offset=offset)
    wanted = cimq.doctor(q, [images()])
    fp32 = Net()
    converted = converted_of(q)
    found = cimq.doctor(converted, [images()], reference=fp32)
    assert by_layer(found) == by_layer(wanted)
    assert found.converters == wanted.converters
    assert found.findings == wanted.findings
    assert found.output_sqnr_db == pytest.approx(wanted.output_sqnr_db, abs=1e-3)
    assert by_layer(cimq.doctor(converted, [images()], reference=q)) == by_layer(wanted)
    assert not any(hasattr(module, "weight_scales") for module in fp32.modules())


def test_without_a_reference_all_but_the_weights_is_told() -> None:
    q = prepared(LOSSY, {"hidden": (4, 3)})
    converted = converted_of(q)
    state = {key: value.clone() for key, value in converted.state_dict().items()}
    before, random = converted(images()), torch.get_rng_state()
    found = cimq.doctor(converted, [images()])
    wanted = by_layer(cimq.doctor(q, [images()]))
    assert {row.layer for row in found.rows} == set(NAMES)
    assert found.converters == adc_diagnostics(q, [images()])
    for row in found.rows:
        own = wanted[row.layer]
        operand = row.layer.endswith((".qk", ".av"))  # the second operand is quantised at run time, so that it is seen
        assert (row.weight_sqnr_db is None) != operand
        assert (row.weight_bits, row.act_bits) == (own.weight_bits, own.act_bits)
        assert min(row.act_sqnr_db, 60) == pytest.approx(min(own.act_sqnr_db, 60), abs=5)
        assert min(row.adc_sqnr_db, 60) == pytest.approx(min(own.adc_sqnr_db, 60), abs=5)
        assert min(row.cell_sqnr_db, 60) == pytest.approx(min(own.cell_sqnr_db, 60), abs=5)
        assert row.output_without_adc_db > row.output_sqnr_db - 3
    assert by_layer(found)["conv"].clipped_inputs == wanted["conv"].clipped_inputs
    assert by_layer(found)["conv"].used_input_codes == wanted["conv"].used_input_codes
    text = str(found)
    assert "?: needs the fp32 weights: the prepared model, or reference=" in text
    assert "ideal ADC" in text
    rows = {row["layer"]: row for row in found.to_dict()["rows"]}
    assert "weight_sqnr_db" not in rows["conv"]
    assert "weight_sqnr_db" in rows["attention.qk"]
    assert torch.equal(random, torch.get_rng_state())
    assert torch.equal(converted(images()), before)
    assert all(torch.equal(value, state[key]) for key, value in converted.state_dict().items())
    assert torch.equal(copy.deepcopy(converted)(images()), before)


def test_a_lossless_converted_model_loses_by_its_inputs_alone() -> None:
    found = cimq.doctor(converted_of(prepared()), [images()])
    assert found.findings == []
    for row in found.rows:
        assert row.adc_sqnr_db == row.cell_sqnr_db == math.inf
        assert row.act_sqnr_db > 30
        assert row.output_without_adc_db == row.output_without_cell_db == row.output_sqnr_db
        if row.weight_sqnr_db is None:
            assert row.cause == "act"
            assert row.sqnr_db == pytest.approx(row.act_sqnr_db, abs=0.01)  # float32 against integers
    assert "ideal ADC" not in str(found)


def test_planted_faults_of_a_converted_model_are_named() -> None:
    def causes(q: Any) -> set[tuple[str, str]]:
        return {(finding.layer, finding.cause) for finding in cimq.doctor(converted_of(q), [images()]).findings}

    assert causes(prepared(bits={"hidden": (8, 1)})) == {("hidden", "act")}
    coarse = cimq.Hardware.preset("paper").replace(rows=64, adc={"bits": 3, "range": "full_scale"})
    assert ("conv", "adc") in causes(prepared(coarse))
    noise = {"programming": {"model": "gaussian", "sigma_levels": 3.0}}
    assert ("conv", "cell") in causes(prepared(cimq.Hardware.preset("paper").replace(cell=noise)))
    q = prepared()
    with torch.no_grad():
        q.hidden.act_scales.mul_(0.1)
    assert ("hidden", "act") in causes(q)


def test_ideal_converters_in_a_layer_clean_the_output() -> None:
    q = prepared(cimq.Hardware.preset("paper").replace(rows=64, adc={"bits": 4, "range": "full_scale"}))
    for model in (q, converted_of(q)):
        row = cimq.doctor(model, [images()]).rows[0]
        assert row.output_without_adc_db > row.output_sqnr_db + 10
        assert row.output_without_cell_db == row.output_sqnr_db


def test_references_that_do_not_fit() -> None:
    q = prepared()
    converted = converted_of(q)
    with pytest.raises(ValueError, match="reference= is for a converted model"):
        cimq.doctor(q, [images()], reference=Net())
    with pytest.raises(ValueError, match=r"reference has no layer conv, hidden, .*; it has 0, 1"):
        cimq.doctor(converted, [images()], reference=nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2)))
    other = Net()
    other.fc = nn.Linear(16, 7)
    with pytest.raises(ValueError, match=r"layer 'fc' has a weight \[7, 16\] in the reference and \[5, 16\]"):
        cimq.doctor(converted, [images()], reference=other)
