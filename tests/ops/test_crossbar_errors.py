"""What the crossbar products refuse (ranges, shapes, types, overflow), and what they take at the edge."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from cimq import Hardware
from cimq.ops import calibrate_adc, crossbar_conv2d, crossbar_mvm

SIGNED = Hardware.preset("paper-2b").replace(rows=16, adc={"bits": 4, "range": "learned"})  # two slices at four bits
UNIPOLAR = SIGNED.replace(mapping="offset")


def ranges(lo: Any = (0, 0), lsb: Any = (1.0, 2.0)) -> dict[str, Any]:
    return {"adc_lo": torch.tensor(lo), "adc_lsb": torch.tensor(lsb)}


def mvm(hardware: Hardware = SIGNED, backend: str = "auto", **change: Any) -> torch.Tensor:
    args = {"x_q": torch.ones(2, 4), "w_q": torch.ones(3, 4), "weight_bits": 4, "act_bits": 4} | ranges() | change
    return crossbar_mvm(**args, hardware=hardware, backend=backend)


def conv(hardware: Hardware = SIGNED, backend: str = "auto", **change: Any) -> torch.Tensor:
    args = {"x_q": torch.ones(1, 2, 4, 4), "w_q": torch.ones(3, 2, 3, 3), "weight_bits": 4, "act_bits": 4} | ranges()
    return crossbar_conv2d(**(args | change), hardware=hardware, backend=backend)


RANGES = [
    (ranges(lo=(0,)), ValueError, r"needs adc_lo and adc_lsb with one value per weight slice \(2\), got 1 and 2"),
    (ranges(lsb=(1.0,)), ValueError, r"one value per weight slice \(2\), got 2 and 1"),
    (ranges(lsb=((1.0, 2.0),)), ValueError, r"adc_lsb must have one value per weight slice, got shape \[1, 2\]"),
    (ranges(lsb=(1.0, 0.0)), ValueError, "adc_lsb must be finite and above 0, got 0 for slice 1"),
    (ranges(lsb=(-1.0, 1.0)), ValueError, "adc_lsb must be finite and above 0, got -1 for slice 0"),
    (ranges(lsb=(1.0, float("nan"))), ValueError, "adc_lsb must be finite and above 0, got nan for slice 1"),
    (ranges(lsb=(float("inf"), 1.0)), ValueError, "adc_lsb must be finite and above 0, got inf for slice 0"),
    (ranges(lsb=(1e-45, 1.0)), ValueError, "of slice 0 is outside what float32 can hold"),
    (ranges(lo=(1, 0)), ValueError, r"adc_lo must be 0 for a signed quantity .* got 1 for slice 0"),
    (ranges(lsb=(1, 2)), TypeError, "adc_lsb must be a floating-point tensor"),
    (ranges(lo=(0.0, 0.0)), TypeError, "adc_lo must be an integer tensor"),
    ({"adc_lo": None, "adc_lsb": torch.ones(2)}, ValueError, "got 0 and 2"),
    ({"adc_lo": None, "adc_lsb": None}, ValueError, "needs adc_lo and adc_lsb"),
]


@pytest.mark.parametrize("product", [mvm, conv])
@pytest.mark.parametrize(("change", "error", "text"), RANGES)
def test_bad_ranges_are_named(product: Any, change: dict[str, Any], error: type[Exception], text: str) -> None:
    for backend in ("auto", "sliced", "reference_cpp"):
        with pytest.raises(error, match=text):
            product(backend=backend, **change)


@pytest.mark.parametrize("product", [mvm, conv])
def test_a_unipolar_range_may_start_anywhere(product: Any) -> None:
    for lo in ((-3, 5), (40, 0)):
        options = ranges(lo=lo)
        assert torch.equal(product(UNIPOLAR, **options), product(UNIPOLAR, backend="reference", **options))


OPERANDS = [
    ({"x_q": torch.ones(2, 4, dtype=torch.complex64)}, TypeError, "x_q must be an integer tensor"),
    ({"w_q": torch.ones(3, 4, dtype=torch.bool)}, TypeError, "w_q must be an integer tensor"),
    (
        {"w_q": torch.full((3, 4), float("nan"))},
        ValueError,
        r"w_q must hold integers in -7\.\.7, got nan at flat index 0",
    ),
    ({"w_q": torch.full((3, 4), float("-inf"))}, ValueError, r"w_q must hold integers in -7\.\.7, got -inf"),
    ({"w_q": torch.ones(0, 4)}, ValueError, r"outputs must lie in 1\.\.2147483647, got 0"),
    ({"x_q": torch.ones(2, 0), "w_q": torch.ones(3, 0)}, ValueError, r"inputs must lie in 1\.\.2147483647, got 0"),
    ({"chips": -1}, ValueError, r"chips must be in 1\.\.1048576, got -1"),
    ({"first_access": -1}, ValueError, "first_access must be in"),
]


@pytest.mark.parametrize(("change", "error", "text"), OPERANDS)
def test_bad_operands_are_named(change: dict[str, Any], error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        mvm(**change)


def test_sums_of_codes_that_could_overflow_are_refused_with_the_bound() -> None:
    hardware = Hardware.preset("paper").replace(rows=2, adc={"bits": 16}, mapping="offset")
    x, w = torch.zeros(1, 4000, dtype=torch.uint8), torch.zeros(1, 4000, dtype=torch.int8)
    with pytest.raises(ValueError, match=r"the sum of codes of a slice must fit int32, but slice 0 can reach 33\d+ > "):
        crossbar_mvm(x, w, hardware, weight_bits=8, act_bits=8)


def test_tensors_without_data_give_the_shape_of_the_result() -> None:
    x, w = torch.ones(2, 5, 4, device="meta"), torch.ones(3, 4, device="meta")
    y = mvm(x_q=x, w_q=w, chips=2)
    assert (y.device.type, y.shape, y.dtype) == ("meta", (2, 2, 5, 3), torch.float32)
    y = conv(x_q=torch.ones(2, 2, 6, 5, device="meta"), w_q=torch.ones(3, 2, 3, 3, device="meta"), padding=(1, 0, 0, 2))
    assert y.shape == (2, 3, 6, 4)
    with pytest.raises(ValueError, match=r"x_q \[2, 5\] does not fit w_q \[3, 4\]"):
        mvm(x_q=torch.ones(2, 5, device="meta"), w_q=w)


@pytest.mark.parametrize("change", [{"x_q": torch.ones(1, 2, 2, 4)}, {"dilation": 2}, {"x_q": torch.ones(1, 2, 4, 0)}])
def test_a_kernel_that_does_not_fit_the_padded_image_is_refused(change: dict[str, Any]) -> None:
    for backend in ("auto", "reference_cpp"):
        with pytest.raises(ValueError, match=r"crossbar_conv2d: .*(image|kernel)"):
            conv(backend=backend, **change)
    assert conv(x_q=torch.ones(1, 2, 2, 4), padding=(0, 0, 1, 0)).shape == (1, 3, 1, 2)


@pytest.mark.parametrize("placement", ["differential", "per_column"])
@pytest.mark.parametrize("method", ["percentile", "mse"])
@pytest.mark.parametrize("mapping", ["differential_column", "differential_row", "offset"])
def test_calibrated_starts_are_whole_levels_and_not_negative(placement: str, method: str, mapping: str) -> None:
    hardware = SIGNED.replace(mapping=mapping, adc={"placement": placement})
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(0, 16, (40, 64), generator=generator)
    w = torch.randint(-7, 8, (20, 64), generator=generator)
    lo, lsb = calibrate_adc(x, w, hardware, weight_bits=4, act_bits=4, method=method)
    assert lo.dtype == torch.int32
    assert (lo >= 0).all()
    assert (lsb >= 1).all()
    if mapping != "offset" and (placement == "differential" or mapping == "differential_row"):
        assert not lo.any()
    y = crossbar_mvm(x, w, hardware, weight_bits=4, act_bits=4, adc_lo=lo, adc_lsb=lsb)
    expected = crossbar_mvm(x, w, hardware, weight_bits=4, act_bits=4, adc_lo=lo, adc_lsb=lsb, backend="reference")
    assert torch.equal(y, expected)
