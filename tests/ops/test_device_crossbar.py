"""The crossbar operators on a device against those of the CPU: the same bits, types and errors."""

from __future__ import annotations

import contextlib
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from devices import each_device, runs_kernels
from hypothesis import event, given
from hypothesis import strategies as st
from torch import Tensor

from cimq import Hardware
from cimq.ops import crossbar_conv2d, crossbar_mvm

sys.path.insert(0, str(Path(__file__).parent))
from crossbar_cases import Case, cases, geometries

pytestmark = pytest.mark.parametrize("device", each_device("emulated", "cuda"))

INTEGERS = [torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64]
FLOATS = [torch.float32, torch.float64, torch.bfloat16, torch.float16]

LOSSY = Hardware.preset("paper").replace(rows=16, adc={"bits": 5, "range": "full_scale"})
LEARNED = Hardware.preset("paper-2b").replace(rows=16, adc={"bits": 4, "range": "learned"})  # two slices at four bits
NOISY = LOSSY.replace(cell={"programming": {"model": "gaussian", "sigma_levels": 0.3}})
BITS: dict[str, Any] = {"weight_bits": 4, "act_bits": 4}
RANGES = {"adc_lo": torch.tensor([0, 0]), "adc_lsb": torch.tensor([1.5, 2.0])}


def fitting(values: Tensor, types: list[torch.dtype]) -> list[torch.dtype]:
    """The types that hold all of the values."""
    return [dtype for dtype in types if torch.equal(values.to(dtype).to(values.dtype), values)]


def to(device: str, value: Any) -> Any:
    return value.to(device) if isinstance(value, Tensor) else value


def check_same(device: str, product: Callable[..., Tensor], x: Tensor, w: Tensor, case: Case, **options: Any) -> None:
    """Equal results, or the same refusal."""

    def run(on: str) -> Tensor:
        values = {name: to(on, value) for name, value in (case.options() | options).items()}
        return product(to(on, x), to(on, w), case.hardware, **values)

    try:
        expected = run("cpu")
    except ValueError as error:
        refusal = str(error)
        event("refused everywhere")
        with pytest.raises(ValueError, match=re.escape(refusal)):
            run(device)
        return
    event("compared")
    with runs_kernels(device) if expected.numel() > 0 else contextlib.nullcontext():
        y = run(device)
    assert y.device.type == device
    assert y.dtype == expected.dtype
    assert torch.equal(y.cpu(), expected)


@given(data=st.data(), case=cases())
def test_matrix_products_have_the_bits_of_the_cpu(device: str, data: st.DataObject, case: Case) -> None:
    inputs, outputs = data.draw(st.integers(1, 40)), data.draw(st.integers(1, 5))
    batch = data.draw(st.sampled_from([(1,), (3,), (2, 2), (0,), ()]))
    case = case.with_columns(outputs)
    x, w = case.activations(*batch, inputs), case.weights(outputs, inputs)
    types = INTEGERS + FLOATS
    x = x.to(data.draw(st.sampled_from(fitting(x, types))))
    w = w.to(data.draw(st.sampled_from(fitting(w, types))))
    options = {
        "chips": data.draw(st.sampled_from([None, 1, 2])),
        "backend": data.draw(st.sampled_from(["auto", "sliced"])),
        "layer": data.draw(st.integers(0, 3)),
        "first_access": data.draw(st.sampled_from([0, 5, 1 << 40])),
    }
    check_same(device, crossbar_mvm, x, w, case, **options)


@given(data=st.data(), case=cases(), geometry=geometries())
def test_convolutions_have_the_bits_of_the_cpu(
    device: str, data: st.DataObject, case: Case, geometry: dict[str, Any]
) -> None:
    channels = geometry["x"][1] // geometry["groups"]
    x = case.activations(*geometry.pop("x"))
    w = case.weights(geometry.pop("outputs"), channels, *geometry.pop("kernel"))
    case = case.with_columns(len(w))
    x = x.to(data.draw(st.sampled_from(fitting(x, [torch.uint8, torch.int8, torch.float32, torch.bfloat16]))))
    w = w.to(data.draw(st.sampled_from(fitting(w, [torch.int8, torch.float32]))))
    order = data.draw(st.sampled_from([torch.contiguous_format, torch.channels_last]))
    x, w = x.to(memory_format=order), w.to(memory_format=order)
    if data.draw(st.booleans()):  # every second column of a wider image
        x = torch.stack([x, torch.zeros_like(x)], -1).flatten(-2)[..., ::2]
    chips, first = data.draw(st.sampled_from([None, 2])), data.draw(st.sampled_from([0, 9]))
    check_same(device, crossbar_conv2d, x, w, case, chips=chips, first_access=first, **geometry)


def levels_of(x: Tensor, w: Tensor, hardware: Hardware, **options: Any) -> Tensor:
    found: Tensor = torch.ops.cimq.programmed_levels(
        w, hardware.to_json(), options["weight_bits"], options["seed"], options["chip"], 3, options["first_output"]
    )
    return found


@given(data=st.data(), case=cases())
def test_cells_are_those_of_the_cpu(device: str, data: st.DataObject, case: Case) -> None:
    w = case.weights(data.draw(st.integers(1, 4)), data.draw(st.integers(1, 20)))
    w = w.to(data.draw(st.sampled_from(fitting(w, [torch.int8, torch.int64, torch.float32]))))
    chip, first_output = data.draw(st.integers(0, 5)), data.draw(st.integers(0, 9))
    check_same(device, levels_of, torch.empty(0), w, case, chip=chip, first_output=first_output)


def test_weights_that_change_in_place_are_programmed_again(device: str) -> None:
    x, w = torch.ones(2, 8, device=device), torch.zeros(3, 8, dtype=torch.int8, device=device)
    for value in (0, 5, -7):
        w.fill_(value)
        for hardware in (LOSSY, NOISY):
            with runs_kernels(device, "pack_cells", "crossbar_product"):
                y = crossbar_mvm(x, w, hardware, **BITS)
            assert torch.equal(y.cpu(), crossbar_mvm(x.cpu(), w.cpu(), hardware, **BITS))


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"x_q": torch.tensor([[1.0, 16.0, 99.0]])}, r"x_q must hold integers in 0\.\.15, got 16 at flat index 1"),
    ({"x_q": torch.tensor([[0.0, 1.0, 0.5]])}, r"x_q must hold integers in 0\.\.15, got 0\.5 at flat index 2"),
    ({"x_q": torch.tensor([[1, -1, 0]])}, r"x_q must hold integers in 0\.\.15, got -1 at flat index 1"),
    ({"x_q": torch.tensor([[0, 16, 0]], dtype=torch.uint8)}, r"x_q must hold integers in 0\.\.15, got 16"),
    ({"w_q": torch.tensor([[0.0, float("nan"), 1.0]])}, r"w_q must hold integers in -7\.\.7, got nan at flat index 1"),
    (
        {"w_q": torch.tensor([[0, 0, -8]], dtype=torch.int8)},
        r"w_q must hold integers in -7\.\.7, got -8",
    ),
    ({"w_q": torch.tensor([[1, 0, -1]]), "weight_bits": 1}, r"one-bit weights must be -1 or \+1, got 0 at index 1"),
    (
        {"x_q": torch.tensor([[99, 0, 0]]), "w_q": torch.tensor([[99, 0, 0]])},
        "x_q must hold integers",
    ),
    ({"w_q": torch.ones(1, 3, dtype=torch.bool)}, "w_q must be an integer tensor"),
    ({"x_q": torch.ones(1, 3, dtype=torch.complex64)}, "x_q must be an integer tensor"),
    ({"x_q": torch.ones(1, 4)}, r"x_q must be \[\.\.\., 3\] for w_q \[1, 3\], got shape \[1, 4\]"),
    ({"act_bits": 9}, r"act_bits must be in 1\.\.8, got 9"),
    ({"hardware": LEARNED}, "needs adc_lo and adc_lsb"),
]


@pytest.mark.parametrize("as_convolution", [False, True])
@pytest.mark.parametrize(("change", "text"), WRONG)
def test_wrong_operands_are_named_as_on_the_cpu(
    device: str, change: dict[str, Any], text: str, as_convolution: bool
) -> None:
    arguments = {"x_q": torch.ones(1, 3), "w_q": torch.ones(1, 3), "hardware": LOSSY} | BITS | change
    product: Callable[..., Tensor] = crossbar_mvm
    if as_convolution:
        product = crossbar_conv2d
        arguments |= {name: arguments[name][:, :, None, None] for name in ("x_q", "w_q")}
    with pytest.raises((ValueError, TypeError)) as expected:
        product(**arguments)
    with pytest.raises(type(expected.value)) as found:
        product(**{name: to(device, value) for name, value in arguments.items()})
    assert str(found.value) == str(expected.value)
    if not as_convolution:
        found.match(text)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"backend": "reference_cpp"}, "backend reference_cpp is plain loops on the CPU"),
        ({"backend": "reference"}, "backend reference computes on the CPU, got x_q on"),
    ],
)
def test_what_only_the_cpu_computes_is_refused_by_name(device: str, change: dict[str, Any], text: str) -> None:
    matrix = {"x_q": torch.ones(1, 3), "w_q": torch.ones(1, 3), "hardware": LOSSY} | BITS | change
    image = matrix | {name: matrix[name][:, :, None, None] for name in ("x_q", "w_q")}
    for product, arguments in ((crossbar_mvm, matrix), (crossbar_conv2d, image)):
        with pytest.raises(NotImplementedError, match=text):
            product(**{name: to(device, value) for name, value in arguments.items()})


def test_operands_on_two_devices_are_refused_by_name(device: str) -> None:
    x, w = torch.ones(1, 3), torch.ones(2, 3)
    with pytest.raises(ValueError, match=r"crossbar_mvm: w_q must be a dense CUDA tensor, got device cpu"):
        crossbar_mvm(x.to(device), w, LOSSY, **BITS)
    with pytest.raises(ValueError, match=r"crossbar_mvm: x_q must be a dense CUDA tensor, got device cpu"):
        crossbar_mvm(x, w.to(device), LOSSY, **BITS)


@pytest.mark.parametrize("moved", [(), ("adc_lo",), ("adc_lsb",), ("adc_lo", "adc_lsb")])
def test_ranges_may_lie_on_either_side(device: str, moved: tuple[str, ...]) -> None:
    x, w = torch.randint(0, 16, (4, 40)), torch.randint(-7, 8, (3, 40))
    expected = crossbar_mvm(x, w, LEARNED, **BITS, **RANGES)
    ranges = {name: to(device, value) if name in moved else value for name, value in RANGES.items()}
    assert torch.equal(crossbar_mvm(x.to(device), w.to(device), LEARNED, **BITS, **ranges).cpu(), expected)


def test_autocast_changes_nothing(device: str) -> None:
    x, w = torch.ones(1, 3, device=device), torch.ones(2, 3, device=device)
    with torch.autocast(device, torch.bfloat16):
        y = crossbar_mvm(x, w, LOSSY, **BITS)
    assert y.dtype == torch.float32
    assert torch.equal(y, crossbar_mvm(x, w, LOSSY, **BITS))


def test_gradients_pass_straight_through(device: str) -> None:
    x = torch.randint(0, 16, (3, 5)).float().to(device).requires_grad_()
    w = torch.randint(-7, 8, (2, 5)).float().to(device).requires_grad_()
    crossbar_mvm(x, w, LOSSY, **BITS).sum().backward()
    assert x.grad is not None
    assert torch.equal(x.grad.cpu(), w.detach().cpu().sum(0).expand(3, 5))
