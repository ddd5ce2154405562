"""The cases: operators that have one, bytes and operations by another count, comparison with the CPU."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from _cases import Case, Operands, bytes_of, differences, digest, operators_of_cimq
from _claimed import claimed_product, loop_and_operands
from _crossbar_cases import CLAIMED, Layer, machine, small_of
from _floor import floor_seconds
from _registry import CASES, operators_without_case
from _timing import Timing
from devices import CUDA, EMULATED, each_device, runs_kernels
from torch import Tensor

from cimq.ops import crossbar_mvm

NAMES = list(CASES)


def small(name: str) -> Operands:
    return CASES[name].make(True)


def test_every_operator_of_the_cpu_is_looked_for() -> None:
    covered = {case.operator for case in CASES.values()}
    assert covered <= set(operators_of_cimq())
    assert set(operators_without_case()) == set(operators_of_cimq()) - covered
    assert {"crossbar_mvm", "crossbar_conv2d", "fake_quantize", "quantize"} <= covered


def test_names_are_those_of_their_operators() -> None:
    assert all(name.split(":")[0] == case.operator for name, case in CASES.items())


@pytest.mark.parametrize("name", NAMES)
def test_a_case_runs_and_is_the_same_again(name: str) -> None:
    case = CASES[name]
    assert differences(case, small(name), "cpu") == []
    assert digest(case.call(small(name).arguments)) == digest(case.call(small(name).arguments))


@pytest.mark.parametrize("device", each_device(EMULATED, CUDA))
@pytest.mark.parametrize("name", NAMES)
def test_a_case_on_a_device_is_that_of_the_cpu(name: str, device: str) -> None:
    case = CASES[name]
    with runs_kernels(device):
        assert differences(case, small(name), device) == []


@pytest.mark.parametrize("name", NAMES)
def test_bytes_are_those_of_what_really_goes_in_and_out(name: str) -> None:
    case, operands = CASES[name], small(name)
    results = case.call(operands.arguments)
    counted = 0
    for value in (*operands.arguments, *results):
        if isinstance(value, Tensor):
            counted += len(value.flatten().view(torch.uint8))
    assert bytes_of(case, operands) == counted


def taps(size: tuple[int, ...], kernel: int, stride: int, padding: int) -> int:
    """Elements of an image in all windows, by a convolution of ones with ones."""
    ones = torch.ones(1, 1, *size, dtype=torch.float64)
    return int(
        F.conv2d(ones, torch.ones(1, 1, kernel, kernel, dtype=torch.float64), stride=stride, padding=padding).sum()
    )


def of_crossbar(name: str) -> dict[str, int]:
    """Counted one by one: an accumulation for each result, row, input digit and weight slice."""
    operands = small(name).arguments
    backward = "_backward" in name
    x, w = operands[1:3] if backward else operands[:2]
    hardware, weight_bits, act_bits = operands[3:6] if backward else operands[2:5]
    described = torch.ops.cimq.programmed_levels.default(w.to(torch.int8).flatten(1), hardware, weight_bits)
    slices = described.shape[0]
    digits = len(range(act_bits))  # drivers of one bit
    vectors = x.numel() // x.shape[1]
    once = 2 * vectors * w.numel()
    lossless = ": ideal" in name
    counted = {"int8": once if lossless else once * digits * slices}
    return counted | ({"float32": 2 * once * slices} if backward else {})


def counted(name: str) -> dict[str, int]:
    case, operands = CASES[name], small(name)
    arguments = operands.arguments
    x = arguments[0]
    results = case.call(arguments)
    match case.operator:
        case "crossbar_mvm" | "crossbar_conv2d" | "crossbar_mvm_backward" | "crossbar_conv2d_backward":
            return of_crossbar(name)
        case "crossbar_mvm_conversions" | "crossbar_conv2d_conversions":
            return of_crossbar(name)
        case "linear_f32":
            return {"float64": 2 * results[0].numel() * x.shape[1]}
        case "digital_matmul":
            return {"int8": 2 * results[0].numel() * x.shape[1]}
        case "digital_conv2d":
            outputs, each = arguments[1].shape[:2]
            return {"int8": 2 * x.shape[0] * outputs * each * taps(x.shape[2:], 3, 1, 1)}
        case "conv2d_f32":
            outputs, each, kernel, _ = arguments[1].shape
            windows = taps(x.shape[2:], kernel, arguments[3][0], kernel // 2)
            return {"float64": 2 * x.shape[0] * outputs * each * windows}
        case "fake_quantized_conv2d":
            return {"int8": 2 * results[0].numel() * arguments[4][0].numel()}
        case "fake_quantized_conv2d_backward":
            return {"float32": 2 * 2 * arguments[0].numel() * arguments[5][0].numel()}
        case "avg_pool2d":
            return {"float32": x.shape[0] * x.shape[1] * taps(x.shape[2:], 3, 2, 1) + results[0].numel()}
        case "adaptive_avg_pool2d":
            return {"float32": x.numel() + results[0].numel()}
        case "resize2d":
            return {"float32": 9 * results[0].numel()} if arguments[3] == "bilinear" else {}
        case "programmed_levels":
            return {}
    each = {
        "fake_quantize": ("float32", 5),
        "quantize": ("float32", 5),
        "fake_quantize_backward": ("float32", 8),
        "layer_norm": ("float64", 8),
        "group_norm": ("float64", 8),
        "mean": ("float64", 1),
        "softmax": ("float64", 26),
        "activation": ("float32", 5) if "hardswish" in name else ("float64", 26),
    }
    kind, count = each[case.operator]
    return {kind: count * x.numel()}


@pytest.mark.parametrize("name", NAMES)
def test_operations_by_another_count(name: str) -> None:
    assert small(name).operations == counted(name)


def test_the_layer_of_the_claims_is_16_plain_products() -> None:
    assert (CLAIMED.batch, CLAIMED.inputs, CLAIMED.outputs) == (16384, 1152, 512)
    assert (CLAIMED.hardware.rows, CLAIMED.hardware.cell_bits, CLAIMED.hardware.adc.bits) == (256, 4, 8)
    assert CLAIMED.sliced_products == 16 * CLAIMED.products == 16 * 16384 * 1152 * 512


def test_the_loop_is_the_operator() -> None:
    layer = Layer(33, 300, 20, machine(adc={"bits": 8}))
    loop, wide, x = loop_and_operands(layer, torch.device("cpu"))
    expected = crossbar_mvm(x, layer.operands()[1], layer.hardware, weight_bits=8, act_bits=8, backend="reference_cpp")
    assert expected.dtype is torch.float32
    assert torch.equal(loop(wide), expected)
    ideal = Layer(33, 300, 20, machine())
    assert not torch.equal(expected, loop_and_operands(ideal, torch.device("cpu"))[0](wide))  # the converter loses bits


def test_the_claimed_product_counts_and_times_each_of_three() -> None:
    times = iter([0.5, 20.0, 0.25, 0.125])

    def timer(function: Any) -> Timing:
        function()
        seconds = next(times)
        return Timing(seconds, seconds, 1)

    found = claimed_product(timer, torch.device("cpu"), small=True)
    assert found["faults"] == []
    assert (found["operator"]["median"], found["loop"]["median"], found["plain"]["median"]) == (0.5, 20.0, 0.125)
    layer = small_of(CLAIMED)
    assert found["operations"] == 2 * layer.batch * layer.inputs * layer.outputs * 8 * 2
    assert (found["plain_products"], found["plain_operations"]) == (16, 2 * 32 * 32 * 32)


@pytest.mark.parametrize("wrong", ["value", "sign of zero", "shape", "type", "number"])
def test_results_that_differ_are_told(wrong: str, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = [torch.tensor([1.0, 0.0, float("nan")]), torch.tensor([3])]
    found = [result.clone() for result in expected]
    if wrong == "value":
        found[0][0] = 1.0000001
    elif wrong == "sign of zero":
        found[0][1] = -0.0
    elif wrong == "shape":
        found[1] = torch.tensor([[3]])
    elif wrong == "type":
        found[1] = torch.tensor([3.0])
    else:
        found.pop()
    answers = iter([expected, expected, expected, found])
    monkeypatch.setattr(Case, "call", lambda self, arguments: next(answers))
    case = Case("any", "any", (), lambda small: Operands((), ""))
    assert differences(case, Operands((), ""), "cpu") == []
    assert len(differences(case, Operands((), ""), "cpu")) == 1


def test_slack_is_for_the_results_that_have_it(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter([[torch.ones(2), torch.ones(2)], [torch.ones(2), torch.tensor([1.0, 1.25])]] * 2)
    monkeypatch.setattr(Case, "call", lambda self, arguments: next(answers))
    for slack, faults in ((0.25, 0), (0.24, 1)):
        bound = [None, torch.tensor(slack, dtype=torch.float64)]
        case = Case("any", "any", (), lambda small: Operands((), ""), lambda arguments, results, bound=bound: bound)
        assert len(differences(case, Operands((), ""), "cpu")) == faults


def test_the_slack_of_a_scale_is_a_small_part_of_the_sum_of_magnitudes() -> None:
    case = CASES["fake_quantize_backward: weights, a scale per output"]
    arguments = small(case.name).arguments
    grad, x, scale, low, high, _ = arguments
    assert case.slack is not None
    none, bound = case.slack(arguments, case.call(arguments))
    assert none is None
    assert bound is not None
    for row in range(len(scale)):
        total = 0.0
        for g, value in zip(grad[row].tolist(), x[row].tolist(), strict=True):
            position = value / scale[row].item()
            total += abs(g * (low if position < low else high if position > high else round(position) - position))
        factor = (x.shape[1] * high) ** -0.5
        assert bound[row].item() == pytest.approx(2**-17 * factor * total, rel=1e-4)


@pytest.mark.parametrize(
    ("moved", "operations", "seconds", "bound"),
    [
        (1000, {}, 10.0, "memory"),
        (1000, {"int8": 900}, 10.0, "memory"),
        (1000, {"int8": 1100}, 11.0, "int8"),
        (1000, {"int8": 1100, "float64": 60}, 12.0, "float64"),
    ],
)
def test_the_floor_is_the_slower_of_memory_and_units(
    moved: int, operations: dict[str, int], seconds: float, bound: str
) -> None:
    rates = {"int8": 100.0, "float32": 50.0, "float64": 5.0}
    assert floor_seconds(moved, operations, 100.0, rates) == (seconds, bound)
