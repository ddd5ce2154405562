"""fake_quantize and quantize on every device against the CPU, bit for bit, and their misuse."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from devices import captured, each_device, no_kernels, runs_kernels
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from cimq.ops import fake_quantize, quantize

sys.path.insert(0, str(Path(__file__).parent))
from quantizer_cases import quantizer_cases, values

LAYOUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "row-major": lambda x: x,
    "channels last": lambda x: x.to(memory_format=torch.channels_last),
    "transposed": lambda x: x.transpose(0, 2),
    "slice": lambda x: x[..., 1:-1],
    "transposed slice": lambda x: x[..., 1:-1].transpose(1, 2),
    "every second": lambda x: x[..., ::2],
    "misaligned": lambda x: x.flatten()[1:].view(11, 13),
    "expanded": lambda x: x[:, :1].expand(x.shape),
    "empty": lambda x: x[:0],
    "empty and wide": lambda x: x.new_empty(0, 2**40),
    "scalar": lambda x: x[0, 0, 0, 0],
}
TYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
OTHERS = each_device("emulated", "cuda")


def same(found: Tensor, wanted: Tensor) -> bool:
    """Equal bits (NaN: of any bits), type and order in memory."""
    found = found.cpu()
    return (
        (found.dtype, found.stride()) == (wanted.dtype, wanted.stride())
        and torch.equal(found.isnan(), wanted.isnan())
        and torch.equal(found.nan_to_num(7), wanted.nan_to_num(7))
        and torch.equal(found.signbit(), wanted.signbit())
    )


def check(cpu: tuple[Tensor, Tensor, Tensor], device: tuple[Tensor, Tensor, Tensor], *args: Any) -> None:
    """x, scale and grad, on the CPU and on a device; args: qmin, qmax, axis, grad_scale, binary."""
    op, backward = torch.ops.cimq.fake_quantize, torch.ops.cimq.fake_quantize_backward
    (x, scale, grad), on_device = cpu, device
    assert same(op(*on_device[:2], *args), op(x, scale, *args))
    dx, dscale = backward(on_device[2], *on_device[:2], *args)
    wanted_dx, wanted_dscale = backward(grad, x, scale, *args)
    assert same(dx, wanted_dx)
    assert (dscale.dtype, dscale.shape) == (wanted_dscale.dtype, wanted_dscale.shape)
    torch.testing.assert_close(dscale.cpu(), wanted_dscale, rtol=1e-5, atol=1e-5 * args[1])
    if x.dtype != torch.float64:
        low, high, axis, _, binary = args
        q = quantize(*on_device[:2], low, high, axis=axis, binary=binary)
        assert same(q, quantize(x, scale, low, high, axis=axis, binary=binary))


@pytest.mark.parametrize("device", OTHERS)
@settings(max_examples=60)
@given(case=quantizer_cases(), dtype=st.sampled_from(TYPES))
def test_the_bits_of_the_cpu(case: dict[str, Any], dtype: torch.dtype, device: str) -> None:
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    x, scale, grad = values(case | {"dtype": wide})
    cpu = (x.to(dtype), scale, grad.to(dtype))
    args = (case["qmin"], case["qmax"], case["axis"], case["factor"], case["binary"])
    with runs_kernels(device):
        check(cpu, tuple(t.to(device) for t in cpu), *args)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("device", OTHERS)
def test_layouts(layout: str, dtype: torch.dtype, device: str) -> None:
    """The layout is made on each device: a copy between devices closes gaps."""
    view = LAYOUTS[layout]
    base = (torch.randn(2, 3, 4, 6) * 2).to(dtype)
    x, x_there = view(base), view(base.to(device))
    assert x.stride() == x_there.stride()
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    for axis in {"scalar": (None,), "empty and wide": (None, 0)}.get(layout, (None, 0, -1)):
        scale = torch.rand([] if axis is None else [x.shape[axis]], dtype=wide) + 0.1
        for grad, grad_there in ((x, x_there), (x.contiguous(), x_there.contiguous())):
            check((x, scale, grad), (x_there, scale.to(device), grad_there), -8, 7, axis, None, False)


@pytest.mark.parametrize("device", OTHERS)
def test_training_goes_as_on_the_cpu(device: str) -> None:
    """Through autograd, from leaves of another type and order than the kernels', on and on."""
    results = []
    for name in ("cpu", device):
        torch.manual_seed(0)
        weight = torch.randn(6, 5, 3, 3).to(memory_format=torch.channels_last).to(name).requires_grad_()
        scale = torch.full([6], 0.2).to(name).requires_grad_()
        optimizer = torch.optim.SGD([weight, scale], lr=0.001, momentum=0.9)
        for _ in range(3):
            optimizer.zero_grad()
            with runs_kernels(name, "fake_quantize_forward", "fake_quantize_backward_pass"):
                fake_quantize(weight, scale, -7, 7, axis=0).square().sum().backward()
            optimizer.step()
        assert weight.grad.stride() == weight.stride()
        results.append((weight.detach(), scale.detach()))
    for wanted, found in zip(*results, strict=True):
        torch.testing.assert_close(found.cpu(), wanted, rtol=1e-6, atol=1e-6)


CALLS: dict[str, Callable[[Tensor, Tensor], Any]] = {
    "fake_quantize": lambda x, scale: fake_quantize(x, scale, -8, 7),
    "fake_quantize_backward": lambda x, scale: torch.ops.cimq.fake_quantize_backward(x, x, scale, -8, 7),
    "quantize": lambda x, scale: quantize(x, scale, -8, 7),
}


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("device", OTHERS)
def test_operands_on_different_devices_are_named(name: str, device: str) -> None:
    x, scale = torch.randn(5), torch.tensor(0.5)
    call = CALLS[name]
    with no_kernels(device):
        with pytest.raises(ValueError, match=f"^{name}: scale must be a dense CUDA tensor, got device cpu"):
            call(x.to(device), scale)
        with pytest.raises(ValueError, match=f"^{name}: (x must be a dense CUDA|scale must be on the CPU)"):
            call(x, scale.to(device))


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("device", each_device("emulated:1"))
def test_operands_on_two_devices_of_one_kind_are_named(name: str, device: str) -> None:
    with (
        no_kernels(device),
        pytest.raises(ValueError, match=f"^{name}: scale must be on x's device emulated:0, got emulated:1"),
    ):
        CALLS[name](torch.randn(5, device="emulated:0"), torch.tensor(0.5, device=device))


@pytest.mark.parametrize("device", OTHERS)
def test_a_gradient_elsewhere_or_of_another_shape_is_named(device: str) -> None:
    x, scale = torch.randn(5, device=device), torch.tensor(0.5, device=device)
    backward = torch.ops.cimq.fake_quantize_backward
    with pytest.raises(ValueError, match=r"^fake_quantize_backward: grad must be a dense CUDA tensor, got device cpu"):
        backward(torch.randn(5), x, scale, -8, 7)
    with pytest.raises(ValueError, match=r"^fake_quantize_backward: grad must have x's shape \[5\], got \[4\]"):
        backward(x[1:], x, scale, -8, 7)


@pytest.mark.parametrize("device", OTHERS)
def test_a_device_that_is_not_there_is_named(device: str) -> None:
    with pytest.raises(RuntimeError, match="device"):
        torch.randn(5, device=f"{device}:77")


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("device", each_device("emulated:1"))
def test_the_device_of_the_operands_is_current_while_kernels_start(name: str, device: str) -> None:
    assert torch.emulated.current_device() == 0
    x, scale = torch.randn(33, device=device), torch.tensor(0.5, device=device)
    with runs_kernels(device):
        results = CALLS[name](x, scale)
    assert set(torch.ops.cimq_emulated.launch_devices()) == {1}
    for result in results if isinstance(results, tuple) else (results,):
        assert result.device == x.device
    assert torch.emulated.current_device() == 0


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("device", each_device("emulated"))
def test_kernels_start_on_the_current_stream(name: str, device: str) -> None:
    x, scale = torch.randn(33, device=device), torch.tensor(0.5, device=device)
    stream = torch.Stream(device)
    with runs_kernels(device), stream:
        CALLS[name](x, scale)
    assert set(torch.ops.cimq_emulated.launch_streams()) == {stream.stream_id}
    with runs_kernels(device):
        CALLS[name](x, scale)
    assert set(torch.ops.cimq_emulated.launch_streams()) == {0}


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("device", each_device("emulated"))
def test_graphs_can_capture(name: str, device: str) -> None:
    x, scale = torch.randn(33, device=device), torch.tensor(0.5, device=device)
    with runs_kernels(device), captured(device):
        CALLS[name](x, scale)


@pytest.mark.parametrize("device", each_device("emulated"))
def test_what_waits_for_the_device(device: str) -> None:
    x, scale = torch.randn(33, device=device), torch.tensor(0.5, device=device)
    waited = {}
    for name, call in CALLS.items():
        before = torch.ops.cimq_emulated.waits()
        call(x, scale)
        waited[name] = torch.ops.cimq_emulated.waits() - before
    assert waited == {"fake_quantize": 0, "fake_quantize_backward": 0, "quantize": 1}


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("device", each_device("emulated"))
def test_a_launch_that_fails_is_named(name: str, device: str) -> None:
    x, scale = torch.randn(33, device=device), torch.tensor(0.5, device=device)
    torch.ops.cimq_emulated.fail_next_launch("out of memory")
    with pytest.raises(RuntimeError, match=rf"^{name}: the CUDA kernel \w+ for .*inner 33 did not start on .*memory$"):
        CALLS[name](x, scale)


@pytest.mark.parametrize("device", OTHERS)
def test_scales_that_are_not_usable(device: str) -> None:
    x = torch.randn(4, device=device)
    for bad in (0.0, -1.0, float("nan"), float("inf")):
        scale = torch.tensor(bad, device=device)
        assert fake_quantize(x, scale, -8, 7).isnan().all(), bad
        with pytest.raises(ValueError, match=r"^quantize: scale must be positive and finite"):
            quantize(x, scale, -8, 7)
