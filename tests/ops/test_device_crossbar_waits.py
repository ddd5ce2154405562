"""What a device's user does not see in results: waits, streams, graphs that are captured, launches that fail.

The emulated device counts and refuses; CUDA itself would only be slow, or wrong now and then.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from devices import captured, launched, needs, runs_kernels
from torch import Tensor

from cimq import Hardware
from cimq.ops import crossbar_conv2d, crossbar_mvm

pytestmark = needs("emulated")

LOSSY = Hardware.preset("paper").replace(rows=16, adc={"bits": 5, "range": "full_scale"})
LEARNED = LOSSY.replace(adc={"bits": 4, "range": "learned"})
NOISY = LOSSY.replace(cell={"programming": {"model": "gaussian", "sigma_levels": 0.3}})
OFFSET = LEARNED.replace(mapping="offset")  # its constants depend on adc_lo
BITS: dict[str, Any] = {"weight_bits": 4, "act_bits": 4}
RANGES = {"adc_lo": torch.tensor([2]), "adc_lsb": torch.tensor([1.5])}
SIGNED_RANGES = RANGES | {"adc_lo": torch.tensor([0])}


def operands(dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    x = torch.randint(0, 16, (5, 20), generator=generator).to(dtype)
    w = torch.randint(-7, 8, (3, 20), generator=generator).to(dtype)
    return x, w


def waits_of(product: Any, *args: Any, **options: Any) -> int:
    before = torch.ops.cimq_emulated.waits()
    product(*args, **options)
    return int(torch.ops.cimq_emulated.waits() - before)


@pytest.fixture(autouse=True)
def cold() -> Iterator[None]:
    """Nothing is remembered before a test, and no kernel wrote where it must not."""
    torch.ops.cimq_emulated.clear_caches()
    yield
    torch.ops.cimq_emulated.check_memory()


@pytest.mark.parametrize("hardware", [LOSSY, NOISY, Hardware.preset("paper")], ids=["lossy", "noisy", "lossless"])
def test_a_call_waits_once_for_all_operands(hardware: Hardware) -> None:
    x, w = (operand.to("emulated") for operand in operands())
    crossbar_mvm(x, w, hardware, **BITS)
    assert waits_of(crossbar_mvm, x, w, hardware, **BITS) == 1
    assert waits_of(crossbar_mvm, x, w, hardware, **BITS, chips=3, seed=7) == 1  # another chip is no other layer
    x, w = x[:, :, None, None], w[:, :, None, None]
    crossbar_conv2d(x, w, hardware, **BITS)
    assert waits_of(crossbar_conv2d, x, w, hardware, **BITS) == 1


def test_ranges_on_the_device_are_copied_and_steps_that_change_bring_nothing_new_there() -> None:
    x, w = (operand.to("emulated") for operand in operands())
    crossbar_mvm(x, w, OFFSET, **BITS, **RANGES)
    assert waits_of(crossbar_mvm, x, w, OFFSET, **BITS, **(RANGES | {"adc_lsb": torch.tensor([3.0])})) == 1
    moved = {name: value.to("emulated") for name, value in RANGES.items()}
    assert waits_of(crossbar_mvm, x, w, OFFSET, **BITS, **moved) == 3
    # Constants of this one have another first code.
    assert waits_of(crossbar_mvm, x, w, OFFSET, **BITS, **(RANGES | {"adc_lo": torch.tensor([-3])})) > 1


@pytest.mark.parametrize(
    ("hardware", "options"),
    [(LOSSY, {}), (NOISY, {"chips": 2}), (LEARNED, SIGNED_RANGES), (OFFSET, RANGES)],
    ids=["lossy", "noisy", "learned", "offset"],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.int8])
def test_a_warm_call_can_be_captured(hardware: Hardware, options: dict[str, Any], dtype: torch.dtype) -> None:
    x, w = operands(dtype)
    expected = crossbar_mvm(x, w, hardware, **BITS, **options)
    x, w = x.to("emulated"), w.to("emulated")
    crossbar_mvm(x, w, hardware, **BITS, **options)
    with runs_kernels("emulated", "crossbar_product"), captured("emulated"):
        y = crossbar_mvm(x, w, hardware, **BITS, **options)
    assert torch.equal(y.cpu(), expected)
    image, kernel = x[:, :, None, None], w[:, :, None, None]
    crossbar_conv2d(image, kernel, hardware, **BITS, **options)
    with captured("emulated"):
        y = crossbar_conv2d(image, kernel, hardware, **BITS, **options)
    assert torch.equal(y.cpu(), expected[..., None, None])


def test_constants_of_a_captured_call_outlive_the_caches() -> None:
    x, w = (operand.to("emulated") for operand in operands())
    crossbar_mvm(x, w, OFFSET, **BITS, **RANGES)
    torch.ops.cimq_emulated.clear_caches()
    empty = torch.ops.cimq_emulated.blocks_and_bytes(0)[0]
    crossbar_mvm(x, w, OFFSET, **BITS, **RANGES)
    with captured("emulated"):
        crossbar_mvm(x, w, OFFSET, **BITS, **RANGES)
    torch.ops.cimq_emulated.clear_caches()
    assert torch.ops.cimq_emulated.blocks_and_bytes(0)[0] == empty + 1


def test_what_cannot_be_captured_is_named() -> None:
    x, w = (operand.to("emulated") for operand in operands())
    with captured("emulated"), pytest.raises(RuntimeError, match=r"crossbar_mvm: constants .* call it once .* before"):
        crossbar_mvm(x, w, LOSSY, **BITS)
    moved = {name: value.to("emulated") for name, value in SIGNED_RANGES.items()}
    crossbar_mvm(x, w, LEARNED, **BITS, **moved)
    with (
        captured("emulated"),
        pytest.raises(RuntimeError, match=r"adc_lo and adc_lsb must be on the CPU while"),
    ):
        crossbar_mvm(x, w, LEARNED, **BITS, **moved)


def test_operands_of_a_captured_call_are_not_checked() -> None:
    x, w = (operand.to("emulated") for operand in operands())
    crossbar_mvm(x, w, LOSSY, **BITS)
    w[0, 0] = 99
    with captured("emulated"):
        crossbar_mvm(x, w, LOSSY, **BITS)
    with pytest.raises(ValueError, match="w_q must hold integers"):
        crossbar_mvm(x, w, LOSSY, **BITS)


def test_kernels_run_on_the_current_stream_of_the_operands_device() -> None:
    x, w = (operand.to("emulated:1") for operand in operands())
    image, kernel = x[:, :, None, None], w[:, :, None, None]
    assert torch.ops.cimq_emulated.current_device() == 0
    expected = crossbar_mvm(*operands(), NOISY, **BITS)
    crossbar_mvm(x, w, NOISY, **BITS)
    stream = torch.Stream("emulated:1")
    with stream:
        torch.ops.cimq_emulated.forget_launches()
        y = crossbar_mvm(x, w, NOISY, **BITS)
        crossbar_conv2d(image, kernel, NOISY, **BITS)
        torch.ops.cimq.programmed_levels(w, NOISY.to_json(), 4)
    assert len(launched()) > 10
    assert set(torch.ops.cimq_emulated.launch_devices()) == {1}
    assert set(torch.ops.cimq_emulated.launch_streams()) == {stream.stream_id}
    assert y.device == torch.device("emulated:1")
    assert torch.equal(y.cpu(), expected)
    assert torch.ops.cimq_emulated.current_device() == 0


def test_a_launch_that_fails_names_operator_shape_and_architecture() -> None:
    x, w = (operand.to("emulated", torch.int8) for operand in operands())
    image, kernel = x[:, :, None, None], w[:, :, None, None]
    calls = [
        ("crossbar_mvm", lambda: crossbar_mvm(x, w, LOSSY, **BITS)),
        ("crossbar_conv2d", lambda: crossbar_conv2d(image, kernel, LOSSY, **BITS)),
        ("programmed_levels", lambda: torch.ops.cimq.programmed_levels(w, LOSSY.to_json(), 4)),
    ]
    for name, call in calls:
        call()
        torch.ops.cimq_emulated.forget_launches()
        call()
        for kernel_name in launched():
            torch.ops.cimq_emulated.fail_next_launch("out of memory", kernel_name)
            with pytest.raises(
                RuntimeError, match=rf"^{name}: .*CUDA kernel {kernel_name} for .*\d did not start on .*: out of memory"
            ):
                call()
        call()
