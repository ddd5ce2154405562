"""Converter ranges from data."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

from cimq import Hardware
from cimq.ops import calibrate_adc, crossbar_conv2d, crossbar_mvm

sys.path.insert(0, str(Path(__file__).parent))
from crossbar_cases import activations, weights

MACHINES = {
    "differential": {"mapping": "differential_column"},
    "per_column": {"mapping": "differential_column", "adc": {"placement": "per_column"}},
    "differential_row": {"mapping": "differential_row"},
    "offset": {"mapping": "offset"},
}


def machine(name: str, bits: int, adc_range: str, **fields: object) -> Hardware:
    hardware = Hardware.preset("paper-2b").replace(rows=64, **MACHINES[name])
    return hardware.replace(adc={"bits": bits, "range": adc_range}, **fields)


@pytest.mark.parametrize("name", MACHINES)
@pytest.mark.parametrize("method", ["percentile", "mse"])
@pytest.mark.parametrize("bits", [4, 6])
def test_calibrated_ranges_beat_the_full_scale(name: str, method: str, bits: int) -> None:
    x, w = activations((64, 150), 4, False), weights((20, 150), 4)
    exact = (x @ w.T).float()
    options = {"weight_bits": 4, "act_bits": 4}
    lo, lsb = calibrate_adc(x, w, machine(name, bits, "calibrated"), **options, method=method)
    assert lo.dtype == torch.int32
    assert lsb.dtype == torch.float32
    assert lo.shape == lsb.shape == (2,)
    assert (lsb >= 1).all()
    y = crossbar_mvm(x, w, machine(name, bits, "calibrated"), **options, adc_lo=lo, adc_lsb=lsb)
    coarse = crossbar_mvm(x, w, machine(name, bits, "full_scale"), **options)
    assert (y - exact).square().mean() < 0.5 * (coarse - exact).square().mean()


def test_mse_is_no_worse_than_percentile_on_its_own_measure() -> None:
    hardware = machine("differential", 3, "calibrated")
    x, w = activations((64, 64), 1, False), weights((20, 64), 2)  # one tile, digit and slice: currents are the results
    errors = {}
    for method in ("percentile", "mse"):
        lo, lsb = calibrate_adc(x, w, hardware, weight_bits=2, act_bits=1, method=method)
        y = crossbar_mvm(x, w, hardware, weight_bits=2, act_bits=1, adc_lo=lo, adc_lsb=lsb)
        errors[method] = (y - (x @ w.T)).square().mean()
    assert errors["mse"] <= errors["percentile"]


def test_enough_bits_give_steps_of_one_level_and_the_exact_result() -> None:
    hardware = machine("differential", 12, "calibrated")
    x, w = activations((8, 100), 8, True), weights((6, 100), 8)
    lo, lsb = calibrate_adc(x, w, hardware, weight_bits=8, act_bits=8, act_signed=True)
    assert (lsb == 1).all()
    options = {"weight_bits": 8, "act_bits": 8, "act_signed": True, "adc_lo": lo, "adc_lsb": lsb}
    y = crossbar_mvm(x, w, hardware, **options)
    assert y.dtype == torch.float32  # the type does not depend on what the calibration found
    assert torch.equal(y, (x @ w.T).float())
    assert torch.equal(y, crossbar_mvm(x, w, hardware, **options, backend="reference"))
    assert torch.library.opcheck(
        torch.ops.cimq.crossbar_mvm.default, (x, w, hardware.to_json(), 8, 8, True, None, 0, 0, lo, lsb)
    )


def test_ranges_include_what_level_0_conducts_where_columns_are_converted_one_by_one() -> None:
    window = {"g_min_microsiemens": 20.0, "g_max_microsiemens": 80.0}  # level 0 conducts five level steps
    adc = {"bits": 6, "range": "calibrated", "placement": "per_column"}
    hw = Hardware.preset("paper").replace(rows=64, adc=adc, cell=window)
    x, w = activations((64, 64), 4, False), weights((16, 64), 4)
    errors = []
    for machine_of_ranges in (hw, hw.replace(cell=None)):
        lo, lsb = calibrate_adc(x, w, machine_of_ranges, weight_bits=4, act_bits=4)
        y = crossbar_mvm(x, w, hw, weight_bits=4, act_bits=4, adc_lo=lo, adc_lsb=lsb)
        errors.append((y - x @ w.T).abs().mean())
    assert errors[0] < 0.25 * errors[1]  # ranges without the base clip nearly everything


@pytest.mark.parametrize("groups", [1, 2])
def test_convolutions(groups: int) -> None:
    hardware = machine("differential", 5, "calibrated")
    x, w = activations((4, 4, 8, 8), 4, False), weights((6, 4 // groups, 3, 3), 4)
    geometry = {"stride": 2, "padding": (1, 0, 1, 0), "groups": groups}
    lo, lsb = calibrate_adc(x, w, hardware, weight_bits=4, act_bits=4, **geometry)
    y = crossbar_conv2d(x, w, hardware, weight_bits=4, act_bits=4, adc_lo=lo, adc_lsb=lsb, **geometry)
    exact = crossbar_conv2d(x, w, "paper", weight_bits=4, act_bits=4, **geometry)
    coarse = crossbar_conv2d(x, w, machine("differential", 5, "full_scale"), weight_bits=4, act_bits=4, **geometry)
    assert (y - exact).square().mean() < (coarse - exact).square().mean()


BAD = [
    ({"hardware": "paper"}, "hardware must have adc.bits and adc.range calibrated or learned, got bits None"),
    ({"hardware": machine("offset", 4, "granular")}, "got bits 4 and range granular"),
    ({"groups": 2}, "without groups"),
    ({"x_q": torch.ones(2, 5)}, r"got \[2, 5\] and \[3, 4\]"),
    ({"method": "max"}, "method must be percentile or mse, got 'max'"),
    ({"x_q": torch.zeros(0, 4)}, "the sample of activations is empty"),
    ({"x_q": torch.full((1, 4), 16)}, r"calibrate_adc: x_q must hold integers in 0\.\.15, got 16"),
    ({"w_q": torch.full((1, 4), 8)}, r"calibrate_adc: w_q must hold integers in -7\.\.7, got 8"),
]


@pytest.mark.parametrize(("change", "text"), BAD)
def test_bad_arguments_are_named(change: dict[str, object], text: str) -> None:
    args = {"x_q": torch.ones(2, 4), "w_q": torch.ones(3, 4), "hardware": machine("offset", 4, "calibrated")}
    with pytest.raises(ValueError, match=text):
        calibrate_adc(**(args | {"weight_bits": 4, "act_bits": 4} | change))
