"""crossbar_mvm against the written-out specification, and its promises: same bits for any split and any threads."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cimq import Hardware
from cimq.ops import crossbar_mvm

sys.path.insert(0, str(Path(__file__).parent))
from crossbar_cases import Case, activations, cases, weights

OPCHECKS = ("test_schema", "test_autograd_registration", "test_faketensor", "test_aot_dispatch_dynamic")
LOSSY = Hardware.preset("paper").replace(rows=16, adc={"bits": 4})
NOISY = LOSSY.replace(cell={"programming": {"model": "gaussian", "sigma_levels": 0.3}})
QUICK = settings(suppress_health_check=[HealthCheck.filter_too_much])


@settings(QUICK, max_examples=300)
@given(cases(), st.integers(1, 5), st.integers(1, 40), st.integers(1, 40))
def test_every_backend_gives_the_bits_of_the_specification(case: Case, batch: int, inputs: int, outputs: int) -> None:
    case = case.with_columns(outputs)
    x, w = case.activations(batch, inputs), case.weights(outputs, inputs)
    expected = crossbar_mvm(x, w, case.hardware, **case.options(), backend="reference")
    for backend in ("auto", "sliced", "reference_cpp"):
        y = crossbar_mvm(x, w, case.hardware, **case.options(), backend=backend)
        assert y.dtype == expected.dtype
        assert torch.equal(y, expected), backend


@settings(QUICK, max_examples=60)
@given(cases(noise=False), st.integers(1, 40))
def test_without_a_converter_the_result_is_the_integer_product(case: Case, inputs: int) -> None:
    hardware = case.hardware.replace(adc={"bits": None})
    x, w = case.activations(3, inputs), case.weights(7, inputs)
    options = case.options() | {"adc_lo": None, "adc_lsb": None}
    for backend in ("auto", "sliced", "reference", "reference_cpp"):
        y = crossbar_mvm(x, w, hardware, **options, backend=backend)
        assert y.dtype == torch.int32
        assert torch.equal(y, (x @ w.T).int())


def test_granular_converters_with_enough_bits_are_lossless() -> None:
    hardware = Hardware.preset("paper").replace(rows=32, cell_bits=2, adc={"bits": 8, "range": "granular"})
    x, w = activations((9, 100), 8, False), weights((20, 100), 8)
    y = crossbar_mvm(x, w, hardware, weight_bits=8, act_bits=8, backend="sliced")
    assert y.dtype == torch.int32
    assert torch.equal(y, (x @ w.T).int())


def test_a_large_product_stays_exact() -> None:
    # More than float32's 2^24 in a sum, and several pieces of the digital product.
    x, w = torch.full((3, 5000), 255), torch.full((4, 5000), 127)
    w[1] = -127
    y = crossbar_mvm(x, w, "paper", weight_bits=8, act_bits=8)
    assert torch.equal(y, (x @ w.T).int())


@settings(QUICK, max_examples=30)
@given(cases(noise=True), st.integers(1, 4))
def test_chips_are_the_same_alone_and_together(case: Case, chips: int) -> None:
    case = case.with_columns(5)
    x, w = case.activations(6, 30), case.weights(5, 30)
    together = crossbar_mvm(x, w, case.hardware, **case.options(), chips=chips)
    assert together.shape == (chips, 6, 5)
    assert torch.equal(together, crossbar_mvm(x, w, case.hardware, **case.options(), chips=chips, backend="reference"))
    assert torch.equal(together[0], crossbar_mvm(x, w, case.hardware, **case.options()))
    parts = [
        crossbar_mvm(part, w, case.hardware, **case.options(), chips=chips, first_access=first)
        for part, first in zip(x.split(4), (0, 4), strict=True)
    ]
    assert torch.equal(torch.cat(parts, dim=1), together)


def test_seed_chip_and_layer_each_change_the_cells() -> None:
    x, w = activations((8, 64), 4, False), weights((8, 64), 4)
    results = [
        crossbar_mvm(x, w, NOISY, weight_bits=4, act_bits=4, chips=2, seed=seed, layer=layer)
        for seed, layer in ((0, 0), (1, 0), (0, 1))
    ]
    flat = torch.cat(results)
    for i in range(len(flat)):
        for j in range(i):
            assert not torch.equal(flat[i], flat[j])


def test_chips_without_variation_are_equal() -> None:
    x, w = activations((8, 64), 4, False), weights((8, 64), 4)
    y = crossbar_mvm(x, w, LOSSY, weight_bits=4, act_bits=4, chips=3)
    assert y.shape == (3, 8, 8)
    assert torch.equal(y[1], y[0])
    y[0] += 1  # the chips do not share memory
    assert not torch.equal(y[1], y[0])


def test_threads_do_not_change_a_bit() -> None:
    threads = torch.get_num_threads()
    x, w = activations((300, 200), 8, False), weights((64, 200), 8)
    results = []
    try:
        for count in (1, 2, 5):
            torch.set_num_threads(count)
            results.append(crossbar_mvm(x, w, NOISY, weight_bits=8, act_bits=8))
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(results[0], results[1])
    assert torch.equal(results[0], results[2])


def test_weights_changed_in_place_are_noticed() -> None:
    x, w = activations((4, 64), 4, False), weights((8, 64), 4)
    first = crossbar_mvm(x, w, LOSSY, weight_bits=4, act_bits=4)
    w.neg_()
    second = crossbar_mvm(x, w, LOSSY, weight_bits=4, act_bits=4)
    assert torch.equal(second, crossbar_mvm(x, w, LOSSY, weight_bits=4, act_bits=4, backend="reference"))
    assert not torch.equal(first, second)
    w.numpy()[:] = 0  # behind the version counter's back
    assert not crossbar_mvm(x, w, LOSSY, weight_bits=4, act_bits=4).any()


def test_a_single_weight_changed_in_the_middle_is_noticed() -> None:
    x, w = activations((4, 500), 4, False), weights((40, 500), 4)
    crossbar_mvm(x, w, LOSSY, weight_bits=4, act_bits=4)
    w.numpy()[20, 250] = 7 if w[20, 250] != 7 else -7
    y = crossbar_mvm(x, w, LOSSY, weight_bits=4, act_bits=4)
    assert torch.equal(y, crossbar_mvm(x, w, LOSSY, weight_bits=4, act_bits=4, backend="reference_cpp"))


@pytest.mark.parametrize("inputs", [40, 700])  # 700: float32 sums of 8-bit products would not be exact
@pytest.mark.parametrize("outputs", [5, 70])
def test_a_lossless_layer_is_the_integer_product_for_every_operand_type(inputs: int, outputs: int) -> None:
    x, w = activations((6, inputs), 8, False), weights((outputs, inputs), 8)
    expected = x.long() @ w.long().T
    for x_type in (torch.uint8, torch.int32, torch.float16, torch.float32, torch.float64):
        for w_type in (torch.int8, torch.int64, torch.float32):
            y = crossbar_mvm(x.to(x_type), w.to(w_type), "paper", weight_bits=8, act_bits=8)
            assert torch.equal(y.long(), expected), (x_type, w_type)
    off = crossbar_mvm(x.float() + 2e-4, w.float() - 2e-4, "paper", weight_bits=8, act_bits=8)
    assert torch.equal(off.long(), expected)


def test_zeros_with_a_sign_give_zeros_without() -> None:
    y = crossbar_mvm(torch.full((3, 40), -0.0), torch.full((5, 40), 1.0), "paper", weight_bits=4, act_bits=4)
    assert not y.signbit().any()


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8, torch.int16, torch.int64, torch.float32, torch.bfloat16])
def test_operand_types_give_the_same_values(dtype: torch.dtype) -> None:
    x, w = activations((5, 40), 4, False), weights((6, 40), 4)
    expected = crossbar_mvm(x, w, LOSSY, weight_bits=4, act_bits=4)
    y = crossbar_mvm(x.to(dtype), w.to(torch.int8), LOSSY, weight_bits=4, act_bits=4)
    assert y.dtype == torch.float32
    assert torch.equal(y, expected)
    strided = torch.stack([x.to(dtype), x.to(dtype)], dim=-1)[..., 1]
    assert torch.equal(crossbar_mvm(strided, w.T.contiguous().T, LOSSY, weight_bits=4, act_bits=4), expected)


def test_floating_operands_may_carry_the_rounding_of_a_division() -> None:
    scale = torch.tensor(0.0137)
    x, w = activations((50, 40), 8, False), weights((6, 40), 8)
    x_hat = (x.float() * scale) / scale * (1 + 2e-7)
    y = crossbar_mvm(x_hat, w, LOSSY, weight_bits=8, act_bits=8)
    assert torch.equal(y, crossbar_mvm(x, w, LOSSY, weight_bits=8, act_bits=8))


@pytest.mark.parametrize("shape", [(40,), (0, 40), (2, 3, 40)])
def test_leading_dimensions(shape: tuple[int, ...]) -> None:
    x, w = activations(shape, 4, False), weights((6, 40), 4)
    for backend in ("auto", "reference"):
        for hardware in (LOSSY, Hardware.preset("paper")):
            y = crossbar_mvm(x, w, hardware, weight_bits=4, act_bits=4, backend=backend)
            assert y.shape == (*shape[:-1], 6)
            rows = crossbar_mvm(x.reshape(-1, 40), w, hardware, weight_bits=4, act_bits=4)
            assert torch.equal(y.reshape(-1, 6), rows)
            assert crossbar_mvm(x, w, hardware, weight_bits=4, act_bits=4, chips=2).shape == (2, *shape[:-1], 6)


@pytest.mark.parametrize("chips", [None, 3])
@pytest.mark.parametrize("hardware", [LOSSY, NOISY, Hardware.preset("paper")], ids=["lossy", "noisy", "ideal"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_gradients_are_straight_through(hardware: Hardware, chips: int | None, dtype: torch.dtype) -> None:
    gradients = []
    for backend in ("auto", "reference"):
        x = activations((5, 40), 4, True).to(dtype).requires_grad_()
        w = weights((6, 40), 4).to(dtype).requires_grad_()
        y = crossbar_mvm(x, w, hardware, weight_bits=4, act_bits=4, act_signed=True, chips=chips, backend=backend)
        assert y.dtype == dtype
        (y * torch.linspace(-1, 1, y.numel(), dtype=dtype).reshape(y.shape)).sum().backward()
        gradients.append((y.detach(), x.grad, w.grad))
    assert torch.equal(gradients[0][0], gradients[1][0])
    torch.testing.assert_close(gradients[0][1], gradients[1][1])
    torch.testing.assert_close(gradients[0][2], gradients[1][2])


def test_only_the_wanted_gradient_is_made() -> None:
    x = activations((5, 40), 4, False).float().requires_grad_()
    w = weights((6, 40), 4).to(torch.int8)
    y = crossbar_mvm(x, w, LOSSY, weight_bits=4, act_bits=4)
    y.sum().backward()
    torch.testing.assert_close(x.grad, w.float().sum(0).expand(5, 40))


@pytest.mark.parametrize("hardware", [LOSSY, NOISY, Hardware.preset("paper")], ids=["lossy", "noisy", "ideal"])
@pytest.mark.parametrize("chips", [None, 2])
def test_opcheck(hardware: Hardware, chips: int | None) -> None:
    x, w = activations((5, 40), 4, False), weights((6, 40), 4)
    for floating in (False, True):
        operands = (x.float().requires_grad_(), w.float().requires_grad_()) if floating else (x, w)
        args = (*operands, hardware.to_json(), 4, 4, False, chips, 3)
        torch.library.opcheck(torch.ops.cimq.crossbar_mvm.default, args, test_utils=OPCHECKS)
    torch.library.opcheck(torch.ops.cimq.programmed_levels.default, (w, hardware.to_json(), 4), test_utils=OPCHECKS)


@pytest.mark.parametrize("hardware", [LOSSY, "paper"], ids=["object", "name"])
def test_compiles_without_graph_break(hardware: Hardware | str) -> None:
    def loss(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        y = crossbar_mvm(x, w, hardware, weight_bits=4, act_bits=4)
        return (y * 0.01).square().sum() + crossbar_mvm(x.int(), w.int(), hardware, weight_bits=4, act_bits=4).sum()

    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager", dynamic=True)
    for batch in (3, 5):
        results = []
        for function in (loss, compiled):
            x = activations((batch, 40), 4, False).float().requires_grad_()
            w = weights((6, 40), 4).float().requires_grad_()
            value = function(x, w)
            value.backward()
            results.append((value.detach(), x.grad, w.grad))
        for eager, traced in zip(*results, strict=True):
            assert torch.equal(eager, traced)


CALIBRATED = LOSSY.replace(adc={"range": "calibrated"})
BAD = [
    ({"x_q": torch.full((2, 4), 16)}, ValueError, r"x_q must hold integers in 0\.\.15, got 16"),
    ({"x_q": torch.full((2, 4), -1)}, ValueError, r"x_q must hold integers in 0\.\.15, got -1"),
    ({"x_q": torch.full((2, 4), -1, dtype=torch.int8)}, ValueError, r"x_q must hold integers in 0\.\.15, got -1"),
    ({"x_q": torch.full((2, 4), 0.5)}, ValueError, r"x_q must hold integers in 0\.\.15, got 0.5"),
    ({"x_q": torch.full((2, 4), float("nan"))}, ValueError, r"x_q must hold integers in 0\.\.15, got nan"),
    ({"x_q": torch.full((2, 4), float("inf"))}, ValueError, r"x_q must hold integers in 0\.\.15, got inf"),
    ({"x_q": torch.full((2, 4), 1e30)}, ValueError, r"x_q must hold integers in 0\.\.15, got 1e\+30"),
    ({"x_q": torch.full((2, 4), 2**40)}, ValueError, r"x_q must hold integers in 0\.\.15, got"),
    ({"w_q": torch.full((3, 4), -8)}, ValueError, r"w_q must hold integers in -7\.\.7, got -8"),
    ({"w_q": torch.zeros(3, 4), "weight_bits": 1}, ValueError, "got 0"),
    ({"x_q": torch.ones(2, 5)}, ValueError, r"x_q must be \[\.\.\., 4\] for w_q \[3, 4\], got shape \[2, 5\]"),
    ({"x_q": torch.tensor(1)}, ValueError, "x_q must be"),
    ({"w_q": torch.ones(4)}, ValueError, r"w_q must be \[outputs, inputs\], got shape \[4\]"),
    ({"x_q": torch.ones(2, 4, dtype=torch.bool)}, TypeError, "x_q must be an integer tensor"),
    ({"weight_bits": 9}, ValueError, r"weight_bits must be in 1\.\.8, got 9"),
    ({"act_bits": 0}, ValueError, r"act_bits must be in 1\.\.8, got 0"),
    ({"chips": 0}, ValueError, "chips must be in"),
    ({"layer": -1}, ValueError, "layer must be in"),
    ({"backend": "fast"}, ValueError, "backend must be auto, sliced, reference or reference_cpp, got fast"),
    ({"hardware": "{"}, ValueError, "hardware"),
    ({"hardware": CALIBRATED}, ValueError, "needs adc_lo and adc_lsb"),
    ({"adc_lsb": torch.ones(1)}, ValueError, "adc_lo and adc_lsb belong to"),
    (
        {"hardware": CALIBRATED, "adc_lo": torch.zeros(1), "adc_lsb": torch.ones(1)},
        TypeError,
        "adc_lo must be an integer",
    ),
    (
        {"hardware": CALIBRATED, "adc_lo": torch.zeros(1, dtype=torch.int32), "adc_lsb": torch.zeros(1)},
        ValueError,
        "adc_lsb must be finite and above 0",
    ),
]


@pytest.mark.parametrize(("change", "error", "text"), BAD)
def test_bad_arguments_are_named(change: dict[str, object], error: type[Exception], text: str) -> None:
    args = {"x_q": torch.ones(2, 4), "w_q": torch.ones(3, 4), "hardware": LOSSY, "weight_bits": 4, "act_bits": 4}
    with pytest.raises(error, match=text):
        crossbar_mvm(**(args | change))


def test_a_layer_that_could_overflow_is_refused_with_the_bound() -> None:
    x = torch.zeros(1, 70_000, dtype=torch.uint8)
    with pytest.raises(ValueError, match="crossbar_mvm: the result must fit int32"):
        crossbar_mvm(x, torch.zeros(1, 70_000, dtype=torch.int8), LOSSY, weight_bits=8, act_bits=8)


def test_an_unknown_preset_is_named() -> None:
    with pytest.raises(ValueError, match="there is no hardware preset 'papr'"):
        crossbar_mvm(torch.ones(1, 1), torch.ones(1, 1), "papr", weight_bits=4, act_bits=4)
