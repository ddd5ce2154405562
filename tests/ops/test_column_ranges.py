"""Converters with a range per weight slice and output: calibration, gradients, errors. The differential tests of the
products, gradients and counts draw such machines too (crossbar_cases.py).
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from cimq import Hardware
from cimq.ops import calibrate_adc, converter_ranges, crossbar_conv2d, crossbar_mvm
from cimq.ops.spec.conversions import Converter

sys.path.insert(0, str(Path(__file__).parent))
from crossbar_cases import Case, activations, cases, weights

OPCHECKS = ("test_schema", "test_autograd_registration", "test_faketensor", "test_aot_dispatch_dynamic")
QUICK = settings(suppress_health_check=[HealthCheck.filter_too_much])
BASE = Hardware.preset("paper-2b").replace(rows=32, adc={"bits": 4, "range": "learned", "granularity": "column"})
MACHINES = {
    "differential": BASE,
    "per_column": BASE.replace(adc={"placement": "per_column"}),
    "differential_row": BASE.replace(mapping="differential_row"),
    "offset": BASE.replace(mapping="offset"),
    "noisy": BASE.replace(cell={"programming": {"model": "gaussian", "sigma_levels": 0.3}}),
}


def by_slice(hardware: Hardware) -> Hardware:
    return hardware.replace(adc={"granularity": "slice"})


def unequal_weights(outputs: int, inputs: int) -> Tensor:
    """Every fourth output has large weights, the others nearly none: ranges of columns differ a lot."""
    w = weights((outputs, inputs), 4)
    keep = torch.rand(outputs, inputs, generator=torch.Generator().manual_seed(7)) < 0.1
    return torch.where((torch.arange(outputs) % 4 == 0)[:, None], w, w.sign() * keep)


@pytest.mark.parametrize("method", ["percentile", "mse"])
@pytest.mark.parametrize("name", ["differential", "per_column", "differential_row", "offset"])
def test_calibration_per_column_beats_one_range_where_columns_are_unequal(name: str, method: str) -> None:
    hardware = MACHINES[name]
    x, w = activations((64, 100), 4, False), unequal_weights(16, 100)
    exact = (x @ w.T).float()
    errors = {}
    for machine in (hardware, by_slice(hardware)):
        lo, lsb = calibrate_adc(x, w, machine, weight_bits=4, act_bits=4, method=method)
        assert lo.shape == lsb.shape == ((2, 16) if machine is hardware else (2,))
        assert (lo.dtype, lsb.dtype) == (torch.int32, torch.float32)
        assert (lsb >= 1).all()
        y = crossbar_mvm(x, w, machine, weight_bits=4, act_bits=4, adc_lo=lo, adc_lsb=lsb)
        errors[machine.adc.granularity] = float((y - exact).square().mean())
    # Weights near 0 are in the middle of what a cell of the offset mapping holds: its columns differ less.
    assert errors["column"] < (0.95 if name == "offset" else 0.7) * errors["slice"]


@settings(QUICK, max_examples=25)
@given(cases(noise=False, adc=True), st.integers(1, 4), st.sampled_from(["percentile", "mse"]), st.integers(1, 60))
def test_a_columns_range_is_that_of_a_layer_with_this_output_alone(
    case: Case, outputs: int, method: str, inputs: int
) -> None:
    bits = case.hardware.adc.bits or 2
    adc = {"range": "calibrated", "granularity": "column", "bits": bits}
    hardware = case.hardware.replace(adc=adc, dac_bits=min(2, case.hardware.dac_bits), cell_bits=2)
    options: dict[str, Any] = {"weight_bits": case.weight_bits, "act_bits": case.act_bits, "method": method}
    options["act_signed"] = case.act_signed
    x, w = case.activations(9, inputs), case.weights(outputs, inputs)
    lo, lsb = calibrate_adc(x, w, hardware, **options)
    for o in range(outputs):
        for machine in (hardware, by_slice(hardware)):
            own_lo, own_lsb = calibrate_adc(x, w[o : o + 1], machine, **options)
            assert torch.equal(lo[:, o], own_lo.flatten())
            torch.testing.assert_close(lsb[:, o], own_lsb.flatten(), rtol=0, atol=0)


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_memory_of_a_calibration_is_bounded_and_blocks_change_nothing(
    groups: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    x, w = activations((4, 4, 8, 8), 4, False), weights((12, 4 // groups, 3, 3), 4)
    options: dict[str, Any] = {"weight_bits": 4, "act_bits": 4, "padding": 1, "groups": groups, "method": "mse"}
    whole = calibrate_adc(x, w, BASE, **options)
    sizes = []
    occurring = converter_ranges._occurring

    def noted(counts: Any, bound: int) -> Any:
        sizes.append(counts.size)
        return occurring(counts, bound)

    monkeypatch.setattr(converter_ranges, "_occurring", noted)
    limit = 2 * 5 * (2 * min(32, w[0].numel()) * 3 + 1)  # five columns of both slices
    monkeypatch.setattr(converter_ranges, "_MAX_COUNTS", limit)
    parts = calibrate_adc(x, w, BASE, **options)
    assert max(sizes) * 2 <= limit
    assert all(torch.equal(a, b) for a, b in zip(whole, parts, strict=True))


@pytest.mark.parametrize("name", MACHINES)
def test_one_range_for_all_columns_is_that_of_the_slice(name: str) -> None:
    hardware = MACHINES[name]
    x, w = activations((9, 70), 4, False), weights((70, 70), 4)
    lo, lsb = torch.zeros(2, dtype=torch.int32), torch.tensor([2.5, 1.5])
    options: dict[str, Any] = {"weight_bits": 4, "act_bits": 4}
    expected = crossbar_mvm(x, w, by_slice(hardware), **options, adc_lo=lo, adc_lsb=lsb)
    assert torch.equal(crossbar_mvm(x, w, hardware, **options, adc_lo=lo, adc_lsb=lsb), expected)
    columns = {"adc_lo": lo[:, None].expand(2, 70), "adc_lsb": lsb[:, None].expand(2, 70)}
    for backend in ("auto", "sliced", "reference_cpp", "reference"):
        assert torch.equal(crossbar_mvm(x, w, hardware, **options, **columns, backend=backend), expected)


def column_ranges(outputs: int, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    lsb = 0.5 + 3 * torch.rand(2, outputs, generator=generator, dtype=dtype)
    return torch.zeros(2, outputs, dtype=torch.int32), lsb.requires_grad_()


@pytest.mark.parametrize("name", MACHINES)
def test_threads_batch_and_other_outputs_do_not_change_a_bit(name: str) -> None:
    hardware, threads = MACHINES[name], torch.get_num_threads()
    x, w = activations((150, 70), 4, False), weights((70, 70), 4)
    lo, lsb = column_ranges(70)
    options: dict[str, Any] = {"weight_bits": 4, "act_bits": 4}
    results = []
    try:
        for count in (1, 3):
            torch.set_num_threads(count)
            results.append(crossbar_mvm(x, w, hardware, **options, adc_lo=lo, adc_lsb=lsb.detach()))
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(*results)
    first = crossbar_mvm(x[:40], w[:9], hardware, **options, adc_lo=lo[:, :9], adc_lsb=lsb.detach()[:, :9])
    if not hardware.varies:
        assert torch.equal(first, results[0][:40, :9])
    # Programmed weights that were used before are not found again with other ranges.
    other = crossbar_mvm(x, w, hardware, **options, adc_lo=lo, adc_lsb=lsb.detach().flip(1))
    assert not torch.equal(other, results[0])


@pytest.mark.parametrize("name", MACHINES)
def test_gradients_of_columns_add_up_to_that_of_the_slice(name: str) -> None:
    hardware = MACHINES[name]
    x, w = activations((50, 70), 4, False).double(), weights((70, 70), 4).double()
    slope = torch.rand(50, 70, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    gradients = []
    for shape in ((2,), (2, 70)):
        lsb = torch.full(shape, 1.75, requires_grad=True)
        lo = torch.zeros(shape, dtype=torch.int32)
        y = crossbar_mvm(x, w, hardware, weight_bits=4, act_bits=4, adc_lo=lo, adc_lsb=lsb, adc_grad="clip")
        y.backward(slope)
        assert lsb.grad is not None
        assert lsb.grad.shape == shape
        gradients.append(lsb.grad.reshape(2, -1).sum(1))
    torch.testing.assert_close(*gradients, rtol=1e-5, atol=1e-3)


def test_groups_of_which_only_one_is_exact_have_results_of_one_type() -> None:
    """Steps of one level are exact, but only where the whole layer has them."""
    x, w = activations((2, 4, 6, 6), 4, False), weights((6, 2, 3, 3), 4)
    lo, lsb = torch.zeros(2, 6, dtype=torch.int32), torch.ones(2, 6)
    for inexact in ([], [0], [5]):
        lsb[:, inexact] = 2.5
        options: dict[str, Any] = {"weight_bits": 4, "act_bits": 4, "groups": 2, "adc_lo": lo, "adc_lsb": lsb}
        expected = crossbar_conv2d(x, w, BASE, **options, backend="reference")
        for backend in ("auto", "sliced", "reference_cpp"):
            assert torch.equal(crossbar_conv2d(x, w, BASE, **options, backend=backend), expected)


def test_a_column_without_a_gradient_of_its_output_has_none() -> None:
    lo, lsb = column_ranges(6)
    x, w = activations((2, 4, 6, 6), 4, False), weights((6, 2, 3, 3), 4)
    y = crossbar_conv2d(x, w, BASE, weight_bits=4, act_bits=4, groups=2, adc_lo=lo, adc_lsb=lsb)
    y[:, 4].sum().backward()
    assert lsb.grad is not None
    assert lsb.grad[:, 4].abs().min() > 0
    lsb.grad[:, 4] = 0
    assert not lsb.grad.any()


@pytest.mark.parametrize("chips", [None, 2])
def test_opcheck(chips: int | None) -> None:
    x, w = activations((5, 40), 4, False).float(), weights((6, 40), 4).float()
    arguments = (BASE.to_json(), 4, 4, False)
    args = (x.requires_grad_(), w.requires_grad_(), *arguments, chips, 3, 0, *column_ranges(6), "auto", 0, "clip")
    torch.library.opcheck(torch.ops.cimq.crossbar_mvm.default, args, test_utils=OPCHECKS)
    lo, lsb = column_ranges(6)
    grad = torch.ones(*([] if chips is None else [chips]), 5, 6)
    args = (grad, x.detach(), w.detach(), *arguments, chips, 3, 0, lo, lsb.detach(), 0, "clip", [True, True, True])
    torch.library.opcheck(torch.ops.cimq.crossbar_mvm_backward.default, args, test_utils=OPCHECKS)
    image, kernel = activations((2, 4, 5, 5), 4, False).float(), weights((6, 2, 3, 3), 4).float()
    shape = ([2, 1], [1, 0, 1, 2], [1, 1], 2)
    args = (image.requires_grad_(), kernel, *arguments, *shape, chips, 0, 0, *column_ranges(6), "auto", 0, "identity")
    torch.library.opcheck(torch.ops.cimq.crossbar_conv2d.default, args, test_utils=OPCHECKS)


def ranges(lo: tuple[int, ...], lsb: tuple[int, ...] | None = None) -> dict[str, Tensor]:
    return {"adc_lo": torch.zeros(lo, dtype=torch.int32), "adc_lsb": torch.ones(lsb or lo) * 2}


BAD: list[tuple[dict[str, Any], str]] = [
    (
        ranges((2, 4)),
        r"adc_lo and adc_lsb must be \[2, 3\], one value per weight slice and output, or \[2\], got shape \[2, 4\]",
    ),
    (ranges((3, 2)), r"must be \[2, 3\], .*got shape \[3, 2\]"),
    (ranges((1, 6)), r"must be \[2, 3\], .*got shape \[1, 6\]"),
    (ranges((2, 3), (2,)), r"adc_lo and adc_lsb must have one shape, got \[2, 3\] and \[2\]"),
    (ranges((2,), (2, 3)), r"adc_lo and adc_lsb must have one shape, got \[2\] and \[2, 3\]"),
    (ranges((2, 3)) | {"adc_lo": None}, r"adc_lo and adc_lsb must have one shape, got None and \[2, 3\]"),
    (ranges((2, 3, 1)), r"must have one value per weight slice, or \[slices, outputs\], got shape \[2, 3, 1\]"),
    (ranges((3,)), r"one value per weight slice \(2\), got 3 and 3"),
    (ranges((2, 3)) | {"adc_lsb": torch.tensor([[1.0, 1, 1], [1, 0, 1]])}, "above 0, got 0 for slice 1, output 1"),
    (ranges((2, 3)) | {"adc_lo": torch.tensor([[0, 0, 5], [0, 0, 0]])}, "got 5 for slice 0, output 2"),
    (
        ranges((2, 3)) | {"hardware": by_slice(BASE)},
        r"adc_lo must have one value per weight slice, got shape \[2, 3\]; a range per column needs adc.granularity",
    ),
]


@pytest.mark.parametrize(("change", "text"), BAD)
@pytest.mark.parametrize(
    ("product", "operands"),
    [
        (crossbar_mvm, (torch.ones(2, 4), torch.ones(3, 4))),
        (crossbar_conv2d, (torch.ones(1, 2, 4, 4), torch.ones(3, 2, 3, 3))),
    ],
)
def test_bad_ranges_are_named(product: Any, operands: Any, change: dict[str, Any], text: str) -> None:
    options: dict[str, Any] = {"hardware": BASE, "weight_bits": 4, "act_bits": 4} | change
    for backend in ("auto", "sliced", "reference_cpp"):
        with pytest.raises(ValueError, match=text):
            product(*operands, **options, backend=backend)


def test_the_specification_refuses_ranges_that_do_not_fit() -> None:
    options: dict[str, Any] = {"weight_bits": 4, "act_bits": 4, "backend": "reference"}
    with pytest.raises(ValueError, match=r"crossbar_mvm: adc_lo and adc_lsb per column must be \[slices, 3\]"):
        crossbar_mvm(torch.ones(2, 4), torch.ones(3, 4), BASE, **options, **ranges((2, 4)))
    with pytest.raises(ValueError, match=r"crossbar_conv2d: adc_lo and adc_lsb per column must be \[slices, 3\]"):
        crossbar_conv2d(torch.ones(1, 2, 4, 4), torch.ones(3, 2, 3, 3), BASE, **options, **ranges((2, 4)))
    for change in (ranges((3, 3)), ranges((2, 3), (2,)), ranges((2, 3)) | {"hardware": by_slice(BASE)}):
        options: dict[str, Any] = {"hardware": BASE, "weight_bits": 4, "act_bits": 4} | change
        with pytest.raises(ValueError, match=r"must be \[2\], or with adc.granularity column \[2, outputs\]"):
            crossbar_mvm(torch.ones(2, 4), torch.ones(3, 4), **options, backend="reference")


def test_a_converter_of_the_specification_takes_columns() -> None:
    adc = Converter(0, 3, np.array([0, 2]), np.array([1.0, 4.0]), 1)
    assert adc.codes(np.array([[2, 2], [9, 9]])).tolist() == [[2, 0], [3, 2]]
