"""The emulated device itself: that what it is to show cannot go unseen."""

from __future__ import annotations

import pytest
import torch
from devices import captured, launched, needs, runs_kernels

from cimq.ops import fake_quantize, quantize, softmax

pytestmark = needs("emulated")


def test_kernels_run_on_the_device() -> None:
    x, scale = torch.randn(33, device="emulated"), torch.tensor(0.5, device="emulated")
    with runs_kernels("emulated", "quantize_values"):
        quantize(x, scale, -8, 7)
    assert launched() == ["quantize_values"]


def test_an_operator_without_a_kernel_does_not_go_to_the_cpu() -> None:
    with pytest.raises(NotImplementedError, match=r"cimq::softmax has no CUDA kernel in this build .* to the CPU"):
        softmax(torch.randn(2, 3, device="emulated"), -1)


def test_what_waits_is_refused_while_a_graph_is_captured() -> None:
    x, scale = torch.randn(33, device="emulated"), torch.tensor(0.5, device="emulated")
    with captured("emulated"):
        y = fake_quantize(x, scale, -8, 7)
        with pytest.raises(RuntimeError, match=r"item\(\) waits for the device while a graph is captured"):
            y.sum().item()
        with pytest.raises(RuntimeError, match="a copy from emulated:0 to cpu waits for the device"):
            y.cpu()
    assert y.isfinite().all()
