"""fake_quantized_conv2d: what it refuses, and what compilers assume of it."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
import torch
from devices import each_device
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from cimq import ops
from cimq.ops import fake_quantized_conv2d

pytestmark = pytest.mark.skipif(not ops.has_integer_convolutions(), reason="a CPU without AVX-512 VNNI")
OPCHECKS = ("test_schema", "test_autograd_registration", "test_faketensor", "test_aot_dispatch_dynamic")

BAD: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"x": torch.rand(2, 3, 5)}, ValueError, r"x must be \[batch, channels, height, width\], got shape \[2, 3, 5\]"),
    ({"x": torch.rand(2, 3, 5, 5).double()}, TypeError, "x must be float32 or bfloat16, got Double"),
    ({"x": torch.ones(2, 3, 5, 5, dtype=torch.int32)}, TypeError, "x must be float32 or bfloat16, got Int"),
    ({"scale": torch.tensor(-1.0)}, ValueError, "scale must be positive and finite, got -1"),
    ({"qmax": 256}, ValueError, "qmin and qmax must be within 0 and 255, or within -128 and 127, got qmin=0 qmax=256"),
    ({"qmin": -1, "qmax": 200}, ValueError, "must be within 0 and 255, or within -128 and 127"),
    ({"weight": torch.ones(4, 2, 3, 3)}, ValueError, r"x must have 2 channels for w \[4, 2, 3, 3\] and groups=1"),
    ({"weight": torch.ones(4, 3, 3, 3).double()}, TypeError, "w and w_scale must be float32, got Double"),
    ({"weight": torch.ones(4, 3, 7, 7)}, ValueError, "kernel"),
    ({"weight_scale": torch.ones(3)}, ValueError, r"w_scale must have shape \[4\], got \[3\]"),
    ({"weight_scale": torch.zeros(4)}, ValueError, "w_scale must be positive and finite, got 0 at index 0"),
    ({"padding": (0, 1, 0, 0)}, ValueError, r"same padding left and right, .* at the bottom, got \[0, 1"),
    ({"padding": (0, 0)}, ValueError, "four paddings"),
    ({"stride": (0, 1)}, ValueError, "stride"),
    ({"weight": torch.ones(6, 1, 3, 3), "weight_scale": torch.ones(6), "groups": 3}, ValueError, "at least two input"),
    ({"weight": torch.ones(0, 3, 3, 3), "weight_scale": torch.ones(0)}, ValueError, "out_channels must lie in 1"),
    ({"groups": 0}, ValueError, "channels"),
    ({"bias": torch.ones(3)}, ValueError, r"bias must be float32 \[4\], got Float \[3\]"),
    ({"dtype": torch.float16}, TypeError, "dtype must be float32 or bfloat16, got Half"),
    (
        {"x": torch.rand(1, 70000, 1, 1), "weight": torch.ones(4, 70000, 1, 1)},
        ValueError,
        "sums of 70000 products do not fit 32 bits",
    ),
]  # fmt: skip


@pytest.mark.parametrize("device", each_device())
@pytest.mark.parametrize(("change", "error", "text"), BAD)
def test_bad_arguments_are_named(change: dict[str, Any], error: type[Exception], text: str, device: str) -> None:
    args: dict[str, Any] = {
        "x": torch.rand(2, 3, 5, 5), "scale": torch.tensor(0.1), "qmin": 0, "qmax": 15,
        "weight": torch.ones(4, 3, 3, 3), "weight_scale": torch.ones(4), "grad_scale": 1.0,
    }  # fmt: skip
    args = {key: value.to(device) if isinstance(value, Tensor) else value for key, value in (args | change).items()}
    if device != "cpu" and "positive and finite" in text:  # values of scales are not read: NaN shows them
        assert bool(fake_quantized_conv2d(**args).isnan().all())
        return
    with pytest.raises(error, match=f"^fake_quantized_conv2d: .*{text}"):
        fake_quantized_conv2d(**args)


def test_gradients_of_other_shapes_or_types_are_refused() -> None:
    backward = torch.ops.cimq.fake_quantized_conv2d_backward
    rest = ([1, 1], [0, 0, 0, 0], [1, 1], 1, 1.0, True, False)
    x, scale, weight, ones = torch.rand(2, 3, 5, 5), torch.tensor(0.1), torch.ones(4, 3, 3, 3), torch.ones(4)
    with pytest.raises(ValueError, match=r"_backward: grad must have shape \[2, 4, 3, 3\], got \[2, 4, 5, 5\]"):
        backward(torch.rand(2, 4, 5, 5), x, scale, 0, 15, weight, ones, *rest)
    with pytest.raises(TypeError, match="_backward: grad must be float32 or bfloat16, got Half"):
        backward(torch.rand(2, 4, 3, 3).half(), x, scale, 0, 15, weight, ones, *rest)


@pytest.mark.parametrize("channels_last", [False, True])
def test_opcheck(channels_last: bool) -> None:
    x = torch.randn(2, 4, 6, 5)
    if channels_last:
        x = x.to(memory_format=torch.channels_last)
    scale, weight, ones, bias = torch.tensor(0.1), torch.ones(3, 4, 3, 3), torch.ones(3), torch.ones(3)
    rest = ([1, 2], [1, 1, 0, 0], [1, 1], 1, 0.5)
    for leaf in (False, True):
        x_leaf = x.clone(memory_format=torch.preserve_format).requires_grad_(leaf)
        tensors = [value.clone().requires_grad_(leaf) for value in (scale, weight, bias)]
        args = (x_leaf, tensors[0], -8, 7, tensors[1], ones, tensors[2], *rest)
        torch.library.opcheck(torch.ops.cimq.fake_quantized_conv2d.default, args, test_utils=OPCHECKS)
    grad = torch.randn(2, 3, 4, 3)
    backward = torch.ops.cimq.fake_quantized_conv2d_backward.default
    for image_too in (False, True):
        arguments = (grad, x, scale, -8, 7, weight, ones, *rest, image_too, True)
        torch.library.opcheck(backward, arguments, test_utils=OPCHECKS)


@pytest.mark.parametrize("device", each_device())
@pytest.mark.parametrize("layout", ["row-major", "channels last", "slice", "one pixel", "one row"])
def test_what_compilation_assumes_of_layouts_holds(layout: str, device: str) -> None:
    base = torch.randn(2, 4, 6, 6, device=device)
    x = {
        "row-major": base,
        "channels last": base.to(memory_format=torch.channels_last),
        "slice": base[:, :2],
        "one pixel": base[..., :1, :1],
        "one row": base[..., :1, :],
    }[layout]
    weight, ones, grad = (
        torch.ones(shape, device=device) for shape in ((5, x.shape[1], 1, 1), (5,), (2, 5, *x.shape[2:]))
    )
    arguments = (x, torch.tensor(0.1, device=device), weight, ones, grad)

    def results(mode: Any) -> list[Tensor]:
        x, scale, weight, ones, grad = (t if mode is None else mode.from_tensor(t) for t in arguments)
        rest = ([1, 1], [0, 0, 0, 0], [1, 1], 1, 1.0)
        with contextlib.nullcontext() if mode is None else mode:
            y = torch.ops.cimq.fake_quantized_conv2d(x, scale, 0, 15, weight, ones, None, *rest)
            backward = torch.ops.cimq.fake_quantized_conv2d_backward
            return [y, *backward(grad, x, scale, 0, 15, weight, ones, *rest, True, False)]

    for real, fake in zip(results(None), results(FakeTensorMode()), strict=True):
        assert (real.shape, real.dtype, real.stride()) == (fake.shape, fake.dtype, fake.stride())


def test_second_derivatives_are_refused() -> None:
    x = torch.rand(1, 2, 4, 4, requires_grad=True)
    y = fake_quantized_conv2d(x, torch.tensor(0.1), 0, 15, torch.ones(2, 2, 1, 1), torch.ones(2), grad_scale=1.0)
    (dx,) = torch.autograd.grad(y.square().sum(), x, create_graph=True)
    with pytest.raises(NotImplementedError, match="second derivatives are not defined"):
        dx.sum().backward()
