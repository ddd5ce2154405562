"""What converters did, on a device against the CPU: gradients that need to know it, and counts."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from devices import each_device, launched, runs_kernels
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

from cimq import Hardware
from cimq.ops import AdcDiagnostics, crossbar_conv2d, crossbar_diagnostics, crossbar_mvm

sys.path.insert(0, str(Path(__file__).parent))
from crossbar_cases import Case, activations, cases, geometries, weights

pytestmark = pytest.mark.parametrize("device", each_device("emulated", "cuda"))

FEW = settings(max_examples=60, suppress_health_check=[HealthCheck.filter_too_much])
LOSSY = Hardware.preset("paper-2b").replace(rows=16, adc={"bits": 3, "range": "full_scale"})
LEARNED = LOSSY.replace(adc={"bits": 3, "range": "learned"})
NOISY = LOSSY.replace(cell={"programming": {"model": "gaussian", "sigma_levels": 0.3}})
BITS: dict[str, Any] = {"weight_bits": 4, "act_bits": 4}
RANGES = {"adc_lo": torch.tensor([0, 0]), "adc_lsb": torch.tensor([1.5, 2.0])}


def slopes(shape: torch.Size, dtype: torch.dtype) -> Tensor:
    return (torch.rand(shape, generator=torch.Generator().manual_seed(5)) - 0.4).to(dtype)


def gradients(
    product: Any, device: str, x: Tensor, w: Tensor, case: Case, dtype: torch.dtype, **options: Any
) -> list[Tensor | None]:
    """Of x, w and adc_lsb, which are leaves on the device, for the same gradient of the result."""
    leaves = [x.to(device, dtype).requires_grad_(), w.to(device, dtype).requires_grad_()]
    given_options = case.options() | options
    if case.adc_lsb is not None:
        given_options["adc_lsb"] = case.adc_lsb.detach().clone().to(device).requires_grad_()
        leaves.append(given_options["adc_lsb"])
    y = product(leaves[0], leaves[1], case.hardware, **given_options)
    y.backward(slopes(y.shape, y.dtype).to(device))
    return [leaf.grad for leaf in leaves]


def check_gradients(product: Any, device: str, x: Tensor, w: Tensor, case: Case, **options: Any) -> None:
    """Sums of at most a few hundred terms: in float64 they agree to 1e-12 of the largest, so a wrong share shows.

    In float32 the order of a sum of n terms changes it by at most n * 2^-24 of the sum of their magnitudes.
    """
    for dtype, tolerance in ((torch.float64, 1e-11), (torch.float32, 1e-4)):
        try:
            expected = gradients(product, "cpu", x, w, case, dtype, **options)
        except ValueError:
            assume(False)
        found = gradients(product, device, x, w, case, dtype, **options)
        for name, one, other in zip(("x", "w", "adc_lsb"), found, expected, strict=False):
            assert one is not None
            assert other is not None
            assert one.device.type == device
            assert one.dtype == other.dtype
            scale = max(1.0, float(other.abs().max()) if other.numel() else 1.0)
            bound = 1e-4 if name == "adc_lsb" else tolerance  # adc_lsb is float32
            torch.testing.assert_close(
                one.cpu(), other, rtol=bound, atol=bound * scale * 16, msg=lambda m, name=name: f"{name}: {m}"
            )


@FEW
@given(
    cases(adc=True), st.integers(0, 3), st.integers(1, 20), st.integers(1, 4), st.sampled_from([None, 2]), st.booleans()
)
def test_gradients_of_matrix_products_are_those_of_the_cpu(
    device: str, case: Case, batch: int, inputs: int, outputs: int, chips: int | None, clip: bool
) -> None:
    case = case.with_columns(outputs)
    x, w = case.activations(batch, inputs), case.weights(outputs, inputs)
    check_gradients(crossbar_mvm, device, x, w, case, chips=chips, adc_grad="clip" if clip else "identity")


@FEW
@given(cases(adc=True), geometries(), st.sampled_from([None, 2]), st.booleans())
def test_gradients_of_convolutions_are_those_of_the_cpu(
    device: str, case: Case, geometry: dict[str, Any], chips: int | None, clip: bool
) -> None:
    shape = geometry.pop("x")
    case = case.with_columns(geometry["outputs"])
    x = case.activations(*shape)
    w = case.weights(geometry.pop("outputs"), shape[1] // geometry["groups"], *geometry.pop("kernel"))
    options = geometry | {"chips": chips, "adc_grad": "clip" if clip else "identity"}
    check_gradients(crossbar_conv2d, device, x, w, case, **options)


def operands() -> tuple[Tensor, Tensor]:
    return activations((70, 40), 4, False), weights((9, 40), 4)


def test_masks_matter_here_and_come_from_the_kernels(device: str) -> None:
    """The control: what is compared above differs from the straight-through gradients, and the kernels made it."""
    x, w = operands()
    case = Case(LEARNED, 4, 4, False, 3, adc_lo=RANGES["adc_lo"], adc_lsb=torch.tensor([0.5, 0.5]))
    straight = gradients(crossbar_mvm, device, x, w, case, torch.float64)
    with runs_kernels(device, "conversion_shares", "pack_cells"):
        clipped = gradients(crossbar_mvm, device, x, w, case, torch.float64, adc_grad="clip")
    for one, other in zip(straight[:2], clipped[:2], strict=True):
        assert one is not None
        assert other is not None
        assert not torch.allclose(one, other)
    assert straight[2] is not None
    assert clipped[2] is not None
    assert torch.equal(straight[2], clipped[2])
    assert straight[2].any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_gradients_have_the_types_of_the_operands(device: str, dtype: torch.dtype) -> None:
    x, w = operands()
    case = Case(LOSSY, 4, 4, False, 3)
    for grad in gradients(crossbar_mvm, device, x, w, case, dtype, adc_grad="clip")[:2]:
        assert grad is not None
        assert grad.dtype == dtype


def test_the_step_s_gradient_lies_where_the_step_does(device: str) -> None:
    x, w = operands()
    lsb = RANGES["adc_lsb"].clone().requires_grad_()
    crossbar_mvm(x.to(device), w.to(device), LEARNED, **BITS, adc_lo=RANGES["adc_lo"], adc_lsb=lsb).sum().backward()
    assert lsb.grad is not None
    assert lsb.grad.device.type == "cpu"
    other = RANGES["adc_lsb"].clone().requires_grad_()
    crossbar_mvm(x, w, LEARNED, **BITS, adc_lo=RANGES["adc_lo"], adc_lsb=other).sum().backward()
    torch.testing.assert_close(lsb.grad, other.grad)


def test_lossless_layers_need_no_conversions(device: str) -> None:
    x, w = operands()
    case = Case(LOSSY.replace(adc={"bits": 12, "range": "granular"}), 4, 4, False, 3)
    straight = gradients(crossbar_mvm, device, x, w, case, torch.float64)
    with runs_kernels(device):
        found = gradients(crossbar_mvm, device, x, w, case, torch.float64, adc_grad="clip")
        if device == "emulated":
            assert "conversion_shares" not in launched()
    for one, other in zip(straight[:2], found[:2], strict=True):
        assert one is not None
        assert other is not None
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


def test_backward_waits_for_nothing(device: str) -> None:
    if device != "emulated":
        pytest.skip("only the emulated device counts waits")
    x, w = operands()
    for hardware in (LOSSY, NOISY, LOSSY.replace(adc={"bits": 3, "placement": "per_column"})):
        for run in range(2):  # the first call brings the constants of the layer
            leaves = [x.to(device, torch.float32).requires_grad_(), w.to(device, torch.float32).requires_grad_()]
            y = crossbar_mvm(leaves[0], leaves[1], hardware, **BITS, adc_grad="clip")
            dy = torch.ones_like(y)
            before = torch.ops.cimq_emulated.waits()
            y.backward(dy)
            assert run == 0 or torch.ops.cimq_emulated.waits() == before


def check_counts(device: str, x: Tensor, w: Tensor, case: Case, **options: Any) -> None:
    def count(on: str) -> AdcDiagnostics:
        return crossbar_diagnostics(x.to(on), w.to(on), case.hardware, **case.options(), **options)

    try:
        expected = count("cpu")
    except ValueError:
        assume(False)
    found = count(device)
    assert torch.equal(found.code_histogram.cpu(), expected.code_histogram)
    assert torch.equal(found.clipped.cpu(), expected.clipped)
    assert torch.equal(found.currents.cpu(), expected.currents)
    torch.testing.assert_close(found.conversion_error.cpu(), expected.conversion_error, rtol=1e-11, atol=1e-12)
    assert torch.equal(count(device).conversion_error, found.conversion_error)


@FEW
@given(cases(adc=True), st.integers(0, 3), st.integers(1, 20), st.integers(1, 4), st.sampled_from([None, 2]))
def test_counts_of_matrix_products_are_those_of_the_cpu(
    device: str, case: Case, batch: int, inputs: int, outputs: int, chips: int | None
) -> None:
    case = case.with_columns(outputs)
    check_counts(device, case.activations(batch, inputs), case.weights(outputs, inputs), case, chips=chips)


@FEW
@given(cases(adc=True), geometries(), st.sampled_from([None, 2]))
def test_counts_of_convolutions_are_those_of_the_cpu(
    device: str, case: Case, geometry: dict[str, Any], chips: int | None
) -> None:
    shape = geometry.pop("x")
    case = case.with_columns(geometry["outputs"])
    w = case.weights(geometry.pop("outputs"), shape[1] // geometry["groups"], *geometry.pop("kernel"))
    check_counts(device, case.activations(*shape), w, case, chips=chips, **geometry)


def test_counts_come_from_the_kernels(device: str) -> None:
    x, w = operands()
    with runs_kernels(device, "conversion_counts", "sum_errors", "pack_cells"):
        crossbar_diagnostics(x.to(device), w.to(device), LOSSY, **BITS)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"hardware": Hardware.preset("paper")}, "needs a converter, but adc.bits of the hardware is null"),
        ({"x_q": torch.full((2, 40), 16)}, r"x_q must hold integers in 0\.\.15, got 16"),
        ({"w_q": torch.ones(3, 41)}, r"x_q must be \[\.\.\., 41\]"),
    ],
)
def test_counts_are_refused_by_name(device: str, change: dict[str, Any], text: str) -> None:
    arguments = {"x_q": torch.ones(2, 40), "w_q": torch.ones(3, 40), "hardware": LOSSY} | BITS | change
    moved = {name: value.to(device) if isinstance(value, Tensor) else value for name, value in arguments.items()}
    with pytest.raises(ValueError, match=text):
        crossbar_diagnostics(**moved)
