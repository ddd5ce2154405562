"""What the operators do with tensors of a CUDA device, as far as it shows without one.

The kernels that are registered for CUDA are called with tensors of the CPU: they must refuse them, and operators
without such a kernel must say so. Results of CUDA kernels are compared in tests/csrc/kernels/cuda, under emulation.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch

import cimq
from cimq.build_report import build_info

HAS_KERNELS = build_info()["cuda"].startswith("on")


def names_of_operators() -> list[str]:
    """All operators with a kernel for the CPU."""
    names = [name for name in torch._C._dispatch_get_all_op_names() if name.startswith("cimq::")]
    return [name for name in names if torch._C._dispatch_has_kernel_for_dispatch_key(name, "CPU")]


def call_as_cuda(name: str, *arguments: Any) -> Any:
    """Calls the kernel that tensors of a CUDA device would get."""
    keys = torch._C.DispatchKeySet(torch._C.DispatchKey.CUDA)
    return getattr(torch.ops.cimq, name).default.redispatch(keys, *arguments)


def test_every_operator_has_an_answer_for_cuda() -> None:
    assert len(names_of_operators()) > 20
    for name in names_of_operators():
        assert torch._C._dispatch_has_kernel_for_dispatch_key(name, "CUDA"), name


@pytest.mark.skipif(HAS_KERNELS, reason="this build has CUDA kernels")
def test_an_operator_without_a_kernel_says_what_to_do() -> None:
    with pytest.raises(NotImplementedError, match=r"cimq::softmax has no CUDA kernel in this build .* to the CPU"):
        call_as_cuda("softmax", torch.ones(2, 3), -1)


def test_kernels_for_cuda_refuse_tensors_of_the_cpu() -> None:
    x = torch.ones(2, 3)
    images = torch.ones(1, 2, 4, 4)
    scale = torch.tensor(0.5)
    machine = cimq.Hardware.preset("paper").to_json()
    calls: dict[str, tuple[str, tuple[Any, ...]]] = {
        "fake_quantize": ("x", (x, scale, -7, 7)),
        "fake_quantize_backward": ("x", (x, x, scale, -7, 7)),
        "quantize": ("x", (x, scale, -7, 7)),
        "crossbar_mvm": ("x_q", (x, x, machine, 8, 8)),
        "crossbar_conv2d": ("x_q", (images, images, machine, 8, 8)),
        "programmed_levels": ("w_q", (x, machine, 8)),
        "activation": ("x", (x, "gelu")),
        "avg_pool2d": ("x", (images, [2, 2], [2, 2], [0, 0])),
        "adaptive_avg_pool2d": ("x", (images, [1, 1])),
        "mean": ("x", (x, [1])),
        "resize2d": ("x", (images, [3, 3], [1.0, 1.0], "nearest")),
        "softmax": ("x", (x, -1)),
        "layer_norm": ("x", (x, [3])),
        "group_norm": ("x", (images, 1)),
        "linear_f32": ("x", (x, x)),
        "conv2d_f32": ("x", (images, images)),
        "digital_matmul": ("x", (x, x, 4, 4, False)),
        "digital_conv2d": ("x", (images, images, 4, 4, False, [1, 1], [0] * 4, [1, 1], 1)),
        "fake_quantized_conv2d": (
            "x",
            (images, scale, 0, 7, images, scale.expand(1), None, [1, 1], [0] * 4, [1, 1], 1, 1.0),
        ),
    }
    for name, (operand, arguments) in calls.items():
        if HAS_KERNELS:
            with pytest.raises(ValueError, match=rf"{name}: {operand} must be a dense CUDA tensor, got device cpu"):
                call_as_cuda(name, *arguments)
        else:
            with pytest.raises(NotImplementedError, match=rf"cimq::{name} has no CUDA kernel in this build"):
                call_as_cuda(name, *arguments)
