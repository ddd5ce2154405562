"""Gradients of the crossbar products: the step of the converter, and adc_grad "clip", against written-out loops."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

from cimq import Hardware
from cimq.ops import crossbar_conv2d, crossbar_mvm

sys.path.insert(0, str(Path(__file__).parent))
from crossbar_cases import Case, activations, cases, geometries, weights
from crossbar_gradients import conv_conversions, conversions

OPCHECKS = ("test_schema", "test_autograd_registration", "test_faketensor", "test_aot_dispatch_dynamic")
QUICK = settings(suppress_health_check=[HealthCheck.filter_too_much])
LEARNED = Hardware.preset("paper-2b").replace(rows=16, adc={"bits": 4, "range": "learned"})
PER_COLUMN = LEARNED.replace(adc={"bits": 4, "range": "learned", "placement": "per_column"})
NOISY = LEARNED.replace(cell={"programming": {"model": "gaussian", "sigma_levels": 0.3}})


def slopes(*shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(5)
    return torch.rand(shape, generator=generator, dtype=torch.float64) - 0.4


def leaves(case: Case, x: Tensor, w: Tensor, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Any]:
    lsb = None if case.adc_lsb is None else case.adc_lsb.clone().requires_grad_()
    return x.to(dtype).requires_grad_(), w.to(dtype).requires_grad_(), lsb


def close(got: Tensor | None, expected: Tensor, text: str) -> None:
    assert got is not None
    scale = max(1.0, float(expected.abs().max()) if expected.numel() else 1.0)
    torch.testing.assert_close(got.double(), expected, rtol=1e-4, atol=1e-5 * scale, msg=lambda m: f"{text}: {m}")


@settings(QUICK, max_examples=150)
@given(cases(adc=True), st.integers(1, 3), st.integers(1, 20), st.integers(1, 4), st.sampled_from([None, 2]))
def test_mvm_gradients_equal_the_loops(case: Case, batch: int, inputs: int, outputs: int, chips: int | None) -> None:
    case = case.with_columns(outputs)
    x_q, w_q = case.activations(batch, inputs), case.weights(outputs, inputs)
    x, w, lsb = leaves(case, x_q, w_q)
    options = case.options() | {"adc_lsb": lsb, "chips": chips, "adc_grad": "clip"}
    y = crossbar_mvm(x, w, case.hardware, **options)
    dy = slopes(*y.shape)
    y.backward(dy)
    stacked = dy if chips else dy[None]
    found = [conversions(x_q, w_q, part, case, chip=chip) for chip, part in enumerate(stacked)]
    close(x.grad, sum(f.dx for f in found), "dx")
    close(w.grad, sum(f.dw for f in found), "dw")
    if lsb is not None:
        close(lsb.grad, sum(f.dlsb for f in found), "dlsb")


@settings(QUICK, max_examples=60)
@given(cases(adc=True), geometries(), st.sampled_from([None, 2]))
def test_conv_gradients_equal_the_loops(case: Case, geometry: dict[str, Any], chips: int | None) -> None:
    shape = geometry.pop("x")
    case = case.with_columns(geometry["outputs"])
    x_q = case.activations(*shape)
    w_q = case.weights(geometry.pop("outputs"), shape[1] // geometry["groups"], *geometry.pop("kernel"))
    x, w, lsb = leaves(case, x_q, w_q)
    options = case.options() | geometry | {"adc_lsb": lsb, "chips": chips, "adc_grad": "clip"}
    y = crossbar_conv2d(x, w, case.hardware, **options)
    assume(y.numel() * w[0].numel() < 3000)
    dy = slopes(*y.shape)
    y.backward(dy)
    stacked = dy if chips else dy[None]
    chips_found = [conv_conversions(x_q, w_q, part, case, geometry, chip=chip) for chip, part in enumerate(stacked)]
    close(x.grad, sum(torch.cat([g.dx for g in f], dim=1) for f in chips_found), "dx")
    close(w.grad, sum(torch.cat([g.dw for g in f], dim=0) for f in chips_found), "dw")
    if lsb is not None:
        if lsb.dim() == 1:  # of all groups
            close(lsb.grad, sum(g.dlsb for f in chips_found for g in f), "dlsb")
        else:
            close(lsb.grad, sum(torch.cat([g.dlsb for g in f], dim=1) for f in chips_found), "dlsb")


@settings(QUICK, max_examples=40)
@given(cases(adc=True))
def test_what_does_not_clip_passes_unchanged(case: Case) -> None:
    """A range that clips nothing gives the gradients of "identity", for every mapping and placement."""
    signed = case.hardware.mapping == "differential_row" or (
        case.hardware.mapping == "differential_column" and case.hardware.adc.placement == "differential"
    )
    hardware = case.hardware.replace(adc={"range": "full_scale", "granularity": "slice", "bits": 5 if signed else 4})
    hardware = Hardware.preset("paper").replace(
        mapping=hardware.mapping, rows=hardware.rows, cell_bits=hardware.cell_bits, dac_bits=hardware.dac_bits,
        sign_magnitude=hardware.sign_magnitude, adc=dataclasses.asdict(hardware.adc),
    )  # fmt: skip
    options = case.options() | {"adc_lo": None, "adc_lsb": None}
    gradients = []
    for adc_grad in ("identity", "clip"):
        x, w = case.activations(4, 30).double().requires_grad_(), case.weights(3, 30).double().requires_grad_()
        y = crossbar_mvm(x, w, hardware, **options, adc_grad=adc_grad)
        y.backward(slopes(*y.shape))
        gradients.append((x.grad, w.grad))
    close(gradients[1][0], gradients[0][0], "dx")
    close(gradients[1][1], gradients[0][1], "dw")


def test_a_range_that_clips_everything_stops_the_gradient() -> None:
    x, w = torch.full((2, 16), 15.0, requires_grad=True), torch.full((3, 16), 7.0, requires_grad=True)
    lsb = torch.tensor([0.01, 0.01], requires_grad=True)
    y = crossbar_mvm(
        x, w, LEARNED, weight_bits=4, act_bits=4, adc_lo=torch.zeros(2, dtype=torch.int32), adc_lsb=lsb,
        adc_grad="clip",
    )  # fmt: skip
    y.sum().backward()
    assert not x.grad.any()
    assert not w.grad.any()
    # Every code is the last one, 7: d(lsb * 7)/dlsb over 15 (the digits), six results, and 4^s.
    torch.testing.assert_close(lsb.grad, torch.tensor([7.0 * 15 * 6, 7.0 * 15 * 6 * 4]))


@pytest.mark.parametrize("hardware", [LEARNED, PER_COLUMN], ids=["differential", "per_column"])
def test_the_step_moves_the_result_as_its_gradient_says(hardware: Hardware) -> None:
    """Where no code changes, y is linear in the step: with every code clipped the derivative is exact."""
    x, w = torch.full((2, 16), 15), weights((3, 16), 4)
    w[0], w[1] = 7, -7
    options = {"weight_bits": 4, "act_bits": 4, "adc_lo": torch.zeros(2, dtype=torch.int32)}
    results = []
    for step in (0.01, 0.02):
        lsb = torch.full((2,), step, requires_grad=True)
        y = crossbar_mvm(x[:, :], w[:2], hardware, **options, adc_lsb=lsb)
        y[0].sum().backward() if step == 0.01 else None
        results.append((y.detach(), lsb.grad))
    change = (results[1][0] - results[0][0])[0].sum()
    torch.testing.assert_close(change, results[0][1].sum() * 0.01, rtol=1e-4, atol=1e-6)


def test_the_scale_path_is_smooth() -> None:
    """dequantisation y = s_x * s_w * Y + bias around the op, by gradcheck in double."""
    x, w = activations((3, 20), 4, False).double(), weights((4, 20), 4).double()
    lsb, lo = torch.tensor([3.0, 2.5], dtype=torch.float64), torch.zeros(2, dtype=torch.int32)

    def layer(x_scale: Tensor, w_scale: Tensor, bias: Tensor) -> Tensor:
        y = crossbar_mvm(x, w, LEARNED, weight_bits=4, act_bits=4, adc_lo=lo, adc_lsb=lsb, adc_grad="clip")
        return y * (x_scale * w_scale) + bias

    smooth = [torch.rand(shape, dtype=torch.float64, requires_grad=True) for shape in ((), (4,), (4,))]
    assert torch.autograd.gradcheck(layer, smooth)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("adc_grad", ["identity", "clip"])
def test_only_the_wanted_gradients_are_made(adc_grad: str, dtype: torch.dtype) -> None:
    lo = torch.zeros(2, dtype=torch.int32)
    full: list[Tensor | None] = []
    for wanted in ((True, True, True), (True, False, False), (False, True, False), (False, False, True)):
        x = activations((5, 40), 4, False).to(dtype).requires_grad_(wanted[0])
        w = weights((6, 40), 4).to(dtype).requires_grad_(wanted[1])
        lsb = torch.tensor([2.0, 1.5], requires_grad=wanted[2])
        y = crossbar_mvm(x, w, NOISY, weight_bits=4, act_bits=4, adc_lo=lo, adc_lsb=lsb, adc_grad=adc_grad)
        y.backward(slopes(5, 6).to(dtype))
        grads = [x.grad, w.grad, lsb.grad]
        full = full or grads
        for got, expected, want in zip(grads, full, wanted, strict=True):
            if want:
                assert got is not None
                assert expected is not None
                assert torch.equal(got, expected)
            else:
                assert got is None


def test_threads_do_not_change_the_gradients() -> None:
    threads = torch.get_num_threads()
    results = []
    try:
        for count in (1, 2, 5):
            torch.set_num_threads(count)
            lsb = torch.tensor([2.0, 1.5], requires_grad=True)
            x = activations((300, 40), 4, False).float().requires_grad_()
            y = crossbar_mvm(
                x, weights((70, 40), 4), NOISY, weight_bits=4, act_bits=4, adc_lo=torch.zeros(2, dtype=torch.int32),
                adc_lsb=lsb, adc_grad="clip",
            )  # fmt: skip
            y.backward(slopes(300, 70).float())
            results.append((lsb.grad, x.grad))
    finally:
        torch.set_num_threads(threads)
    for lsb_grad, x_grad in results[1:]:
        assert torch.equal(lsb_grad, results[0][0])
        torch.testing.assert_close(x_grad, results[0][1])


def ranges(dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    return torch.zeros(2, dtype=torch.int32), torch.tensor([2.0, 1.5], dtype=dtype, requires_grad=True)


@pytest.mark.parametrize("chips", [None, 2])
@pytest.mark.parametrize("adc_grad", ["identity", "clip"])
@pytest.mark.parametrize("hardware", [PER_COLUMN, NOISY], ids=["per_column", "noisy"])
def test_opcheck_mvm(hardware: Hardware, adc_grad: str, chips: int | None) -> None:
    x, w = activations((5, 40), 4, False).float(), weights((6, 40), 4).float()
    operands = (x.requires_grad_(), w.requires_grad_())
    args = (*operands, hardware.to_json(), 4, 4, False, chips, 3, 0, *ranges(), "auto", 0, adc_grad)
    torch.library.opcheck(torch.ops.cimq.crossbar_mvm.default, args, test_utils=OPCHECKS)
    grad = slopes(*([] if chips is None else [chips]), 5, 6).float()
    lo, lsb = ranges()
    for wanted in ([True, True, True], [False, False, True], [True, False, False]):
        args = (
            grad,
            x.detach(),
            w.detach(),
            hardware.to_json(),
            4,
            4,
            False,
            chips,
            3,
            0,
            lo,
            lsb.detach(),
            0,
            adc_grad,
        )
        torch.library.opcheck(torch.ops.cimq.crossbar_mvm_backward.default, (*args, wanted), test_utils=OPCHECKS)


@pytest.mark.parametrize("adc_grad", ["identity", "clip"])
def test_opcheck_conv2d(adc_grad: str) -> None:
    x, w = activations((2, 4, 5, 5), 4, False).float(), weights((6, 2, 3, 3), 4).float()
    shape = ([2, 1], [1, 0, 1, 2], [1, 1], 2, None, 0, 0)
    args = (
        x.requires_grad_(),
        w.requires_grad_(),
        NOISY.to_json(),
        4,
        4,
        False,
        *shape,
        *ranges(),
        "auto",
        0,
        adc_grad,
    )
    torch.library.opcheck(torch.ops.cimq.crossbar_conv2d.default, args, test_utils=OPCHECKS)
    y = torch.ops.cimq.crossbar_conv2d(*args)
    lo, lsb = ranges()
    args = (
        slopes(*y.shape).float(), x.detach(), w.detach(), NOISY.to_json(), 4, 4, False, *shape, lo, lsb.detach(),
        0, adc_grad, [True, True, True],
    )  # fmt: skip
    torch.library.opcheck(torch.ops.cimq.crossbar_conv2d_backward.default, args, test_utils=OPCHECKS)


@pytest.mark.parametrize("adc_grad", ["identity", "clip"])
def test_compiles_without_graph_break(adc_grad: str) -> None:
    lo = torch.zeros(2, dtype=torch.int32)

    def loss(x: Tensor, w: Tensor, kernel: Tensor, lsb: Tensor) -> Tensor:
        options = {"weight_bits": 4, "act_bits": 4, "adc_lo": lo, "adc_lsb": lsb, "adc_grad": adc_grad}
        image = x.reshape(x.shape[0], 4, 4, 4)
        y = crossbar_mvm(x, w, LEARNED, **options)
        return (y * 0.01).square().sum() + crossbar_conv2d(image, kernel, LEARNED, padding=1, **options).sum()

    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager", dynamic=True)
    for batch in (3, 5):
        results = []
        for function in (loss, compiled):
            leaves = [
                activations((batch, 64), 4, False).float().requires_grad_(),
                weights((6, 64), 4).float().requires_grad_(),
                weights((6, 4, 3, 3), 4).float().requires_grad_(),
                torch.tensor([2.0, 1.5], requires_grad=True),
            ]
            value = function(*leaves)
            value.backward()
            results.append((value.detach(), *(leaf.grad for leaf in leaves)))
        for eager, traced in zip(*results, strict=True):
            torch.testing.assert_close(eager, traced)


def test_there_is_no_second_derivative() -> None:
    lo, lsb = ranges()
    x = activations((5, 40), 4, False).float().requires_grad_()
    y = crossbar_mvm(x, weights((6, 40), 4), LEARNED, weight_bits=4, act_bits=4, adc_lo=lo, adc_lsb=lsb)
    (first,) = torch.autograd.grad(y.square().sum(), lsb, create_graph=True)
    with pytest.raises(RuntimeError, match="crossbar_mvm_backward"):
        first.sum().backward()


def test_an_empty_batch_has_zero_gradients() -> None:
    lo, lsb = ranges()
    x, w = torch.zeros(0, 40, requires_grad=True), weights((6, 40), 4).float().requires_grad_()
    y = crossbar_mvm(x, w, LEARNED, weight_bits=4, act_bits=4, adc_lo=lo, adc_lsb=lsb, adc_grad="clip")
    y.sum().backward()
    assert x.grad is not None
    assert x.grad.shape == (0, 40)
    assert not w.grad.any()
    assert not lsb.grad.any()


def test_bad_arguments_are_named() -> None:
    lo, lsb = ranges()
    x, w = activations((5, 40), 4, False).float().requires_grad_(), weights((6, 40), 4).float()
    options: dict[str, Any] = {"weight_bits": 4, "act_bits": 4, "adc_lo": lo, "adc_lsb": lsb}
    for backend in ("auto", "reference"):
        with pytest.raises(ValueError, match="crossbar_mvm: adc_grad must be identity or clip, got none"):
            crossbar_mvm(x, w, LEARNED, **options, adc_grad="none", backend=backend)
    with pytest.raises(NotImplementedError, match="backend reference has the gradients of adc_grad identity"):
        crossbar_mvm(x, w, LEARNED, **options, backend="reference")
    with pytest.raises(NotImplementedError, match="use backend auto"):
        crossbar_mvm(x, w, LEARNED, **options | {"adc_lsb": lsb.detach()}, adc_grad="clip", backend="reference")
    backward = torch.ops.cimq.crossbar_mvm_backward
    args = (x.detach(), w, LEARNED.to_json(), 4, 4, False, None, 0, 0)
    with pytest.raises(ValueError, match=r"crossbar_mvm_backward: grad must be a floating tensor of shape \[5, 6\]"):
        backward(torch.ones(5, 7), *args, lo, lsb.detach())
    with pytest.raises(ValueError, match="the gradient of adc_lsb is wanted, but it is not given"):
        backward(torch.ones(5, 6), x.detach(), w, Hardware.preset("paper-2b").to_json(), 4, 4)
    with pytest.raises(ValueError, match="crossbar_conv2d_backward: grad must be a floating tensor of shape"):
        torch.ops.cimq.crossbar_conv2d_backward(
            torch.ones(1), torch.ones(1, 1, 3, 3), torch.ones(1, 1, 2, 2), LEARNED.to_json(), 4, 4, False,
            adc_lo=lo, adc_lsb=lsb.detach(),
        )  # fmt: skip
