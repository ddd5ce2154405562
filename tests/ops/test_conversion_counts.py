"""Counts of what converters do, against loops over every conversion; exact integers."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from cimq import Hardware
from cimq.ops import AdcDiagnostics, crossbar_conv2d, crossbar_diagnostics, crossbar_mvm

sys.path.insert(0, str(Path(__file__).parent))
from crossbar_cases import Case, activations, cases, geometries, weights
from crossbar_gradients import Conversions, conv_conversions, conversions

OPCHECKS = ("test_schema", "test_autograd_registration", "test_faketensor", "test_aot_dispatch_dynamic")
QUICK = settings(suppress_health_check=[HealthCheck.filter_too_much])
LOSSY = Hardware.preset("paper-2b").replace(rows=16, adc={"bits": 4})
NOISY = LOSSY.replace(cell={"programming": {"model": "gaussian", "sigma_levels": 0.3}})


def check(found: AdcDiagnostics, expected: list[Conversions], case: Case) -> None:
    unit = 256 if case.hardware.fractional else 1
    for s in range(len(expected[0].low)):
        codes = torch.tensor([code for part in expected for code in part.codes[s]])
        currents = [current for part in expected for current in part.currents[s]]
        histogram = torch.bincount(codes - found.code_min, minlength=expected[0].levels)
        assert torch.equal(found.code_histogram[s], histogram)
        assert found.clipped[s].tolist() == [sum(p.low[s] for p in expected), sum(p.high[s] for p in expected)]
        assert found.currents[s].tolist() == [min(currents) / unit, max(currents) / unit]
        assert found.conversions == len(codes)
        error = sum(part.error[s] for part in expected)
        assert math.isclose(float(found.conversion_error[s]), error, rel_tol=1e-9, abs_tol=1e-9)
        assert math.isclose(float(found.conversion_mse[s]), error / len(codes), rel_tol=1e-9, abs_tol=1e-9)
        assert math.isclose(float(found.used_codes[s]), len(set(codes.tolist())) / expected[0].levels)
        assert math.isclose(float(found.clip_high[s]), sum(p.high[s] for p in expected) / len(codes))


def check_error(found: AdcDiagnostics, digital: torch.Tensor) -> None:
    difference = found.y.double() - digital
    wanted = digital.double().expand(found.y.shape)
    assert math.isclose(found.mse, float(difference.square().mean()), rel_tol=1e-9)
    assert found.largest_error == float(difference.abs().max())
    if difference.any() and wanted.any():
        ratio = float(wanted.square().sum() / difference.square().sum())
        assert math.isclose(found.sqnr_db, 10 * math.log10(ratio), rel_tol=1e-6, abs_tol=1e-9)


@settings(QUICK, max_examples=80)
@given(cases(adc=True), st.integers(1, 3), st.integers(1, 20), st.integers(1, 4), st.sampled_from([None, 2]))
def test_mvm_counts_equal_the_loops(case: Case, batch: int, inputs: int, outputs: int, chips: int | None) -> None:
    case = case.with_columns(outputs)
    x, w = case.activations(batch, inputs), case.weights(outputs, inputs)
    found = crossbar_diagnostics(x, w, case.hardware, **case.options(), chips=chips)
    assert torch.equal(found.y, crossbar_mvm(x, w, case.hardware, **case.options(), chips=chips))
    none = torch.zeros(batch, outputs)
    expected = [conversions(x, w, none, case, chip=chip) for chip in range((chips or 1) if case.hardware.varies else 1)]
    check(found, expected, case)
    check_error(found, x @ w.T)


@settings(QUICK, max_examples=40)
@given(cases(adc=True), geometries())
def test_conv_counts_equal_the_loops(case: Case, geometry: dict[str, Any]) -> None:
    shape = geometry.pop("x")
    case = case.with_columns(geometry["outputs"])
    x = case.activations(*shape)
    w = case.weights(geometry.pop("outputs"), shape[1] // geometry["groups"], *geometry.pop("kernel"))
    found = crossbar_diagnostics(x, w, case.hardware, **case.options(), **geometry)
    assume(found.y.numel() * w[0].numel() < 3000)
    assert torch.equal(found.y, crossbar_conv2d(x, w, case.hardware, **case.options(), **geometry))
    check(found, conv_conversions(x, w, torch.zeros(found.y.shape), case, geometry), case)
    padded = torch.nn.functional.pad(x, geometry["padding"]).double()
    rest = {name: geometry[name] for name in ("stride", "dilation", "groups")}
    check_error(found, torch.nn.functional.conv2d(padded, w.double(), **rest))


def test_threads_do_not_change_a_bit() -> None:
    threads = torch.get_num_threads()
    x, w = activations((700, 40), 4, False), weights((70, 40), 4)
    results = []
    try:
        for count in (1, 2, 5):
            torch.set_num_threads(count)
            results.append(crossbar_diagnostics(x, w, NOISY, weight_bits=4, act_bits=4))
    finally:
        torch.set_num_threads(threads)
    for other in results[1:]:
        assert torch.equal(other.code_histogram, results[0].code_histogram)
        assert torch.equal(other.clipped, results[0].clipped)
        assert torch.equal(other.conversion_error, results[0].conversion_error)
    assert results[0].conversions == 700 * 70 * 3 * 4


def test_adding_batches_gives_the_counts_of_the_whole() -> None:
    x, w = activations((50, 40), 4, False), weights((7, 40), 4)
    whole = crossbar_diagnostics(x, w, LOSSY, weight_bits=4, act_bits=4)
    sum_of_parts = crossbar_diagnostics(x[:0], w, LOSSY, weight_bits=4, act_bits=4)
    assert sum_of_parts.conversions == 0
    assert sum_of_parts.mse == 0
    assert sum_of_parts.sqnr_db == math.inf
    for part in x.split(20):
        sum_of_parts.add(crossbar_diagnostics(part, w, LOSSY, weight_bits=4, act_bits=4))
    assert torch.equal(sum_of_parts.code_histogram, whole.code_histogram)
    assert torch.equal(sum_of_parts.currents, whole.currents)
    assert torch.equal(sum_of_parts.clip_low, whole.clip_low)
    assert math.isclose(sum_of_parts.sqnr_db, whole.sqnr_db)
    assert sum_of_parts.largest_error == whole.largest_error


def test_a_lossless_converter_has_no_error() -> None:
    hardware = LOSSY.replace(adc={"bits": 8, "range": "granular"})
    found = crossbar_diagnostics(
        activations((5, 40), 4, False), weights((6, 40), 4), hardware, weight_bits=4, act_bits=4
    )
    assert found.sqnr_db == math.inf
    assert found.largest_error == 0
    assert not found.clipped.any()
    assert not found.conversion_mse.any()
    assert (found.used_codes < 1).all()


def test_opcheck_and_compile() -> None:
    x, w = activations((5, 40), 4, False), weights((6, 40), 4)
    args = (x, w, NOISY.to_json(), 4, 4, False, 2, 3)
    torch.library.opcheck(torch.ops.cimq.crossbar_mvm_conversions.default, args, test_utils=OPCHECKS)
    image, kernel = activations((2, 4, 5, 5), 4, False), weights((6, 2, 3, 3), 4)
    shape = ([2, 1], [1, 0, 1, 2], [1, 1], 2)
    args = (image, kernel, LOSSY.to_json(), 4, 4, False, *shape)
    torch.library.opcheck(torch.ops.cimq.crossbar_conv2d_conversions.default, args, test_utils=OPCHECKS)
    operator = torch.ops.cimq.crossbar_mvm_conversions
    compiled = torch.compile(lambda a, b: operator(a, b, LOSSY.to_json(), 4, 4), fullgraph=True, backend="aot_eager")
    for eager, traced in zip(operator(x, w, LOSSY.to_json(), 4, 4), compiled(x, w), strict=True):
        assert torch.equal(eager, traced)


BAD = [
    ({"hardware": "paper"}, "needs a converter, but adc.bits of the hardware is null"),
    ({"stride": 2}, r"stride, padding, dilation and groups belong to a convolution.*got w_q \[3, 4\]"),
    ({"x_q": torch.ones(2, 5)}, r"x_q must be \[\.\.\., 4\]"),
    ({"x_q": torch.full((2, 4), 16)}, r"crossbar_mvm: x_q must hold integers in 0\.\.15, got 16"),
    ({"w_q": torch.ones(3, 4, 1, 1)}, r"crossbar_conv2d: x must be \[batch"),
    ({"weight_bits": 9}, "weight_bits must be in 1..8, got 9"),
    ({"adc_lsb": torch.ones(1)}, "adc_lo and adc_lsb belong to"),
]


@pytest.mark.parametrize(("change", "text"), BAD)
def test_bad_arguments_are_named(change: dict[str, object], text: str) -> None:
    args = {"x_q": torch.ones(2, 4), "w_q": torch.ones(3, 4), "hardware": LOSSY, "weight_bits": 4, "act_bits": 4}
    with pytest.raises(ValueError, match=text):
        crossbar_diagnostics(**(args | change))
