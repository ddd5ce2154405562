"""fake_quantized_conv2d against fake_quantize and conv2d, in double where that tells more."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from devices import each_device, runs_kernels
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch._prims_common import suggest_memory_format

from cimq import ops
from cimq.ops import fake_quantize, fake_quantized_conv2d

pytestmark = pytest.mark.skipif(not ops.has_integer_convolutions(), reason="a CPU without AVX-512 VNNI")


@st.composite
def cases(draw: st.DrawFn) -> dict[str, Any]:
    groups = draw(st.sampled_from([1, 1, 2, 3]))
    bits, signed = draw(st.integers(1, 8)), draw(st.booleans())
    half = 2 ** max(1, bits - 1)
    limits = (-half, half - 1) if signed else (0, 2**bits - 1)
    kernel = (draw(st.integers(1, 3)), draw(st.integers(1, 3)))
    dilation = (draw(st.integers(1, 2)), draw(st.integers(1, 2)))
    smallest = [d * (k - 1) + 1 for d, k in zip(dilation, kernel, strict=True)]
    return {
        "limits": limits,
        "weight_bits": draw(st.integers(1, 8)),
        "shape": (
            draw(st.integers(1, 3)),
            groups * draw(st.sampled_from([2, 3, 4, 16, 17])),
            smallest[0] + draw(st.integers(0, 6)),
            smallest[1] + draw(st.integers(0, 6)),
        ),
        "outputs": groups * draw(st.sampled_from([1, 2, 8, 17])),
        "kernel": kernel,
        "call": {
            "stride": (draw(st.integers(1, 3)), draw(st.integers(1, 3))),
            "padding": tuple(p for p in (draw(st.integers(0, 3)), draw(st.integers(0, 3))) for _ in range(2)),
            "dilation": dilation,
            "groups": groups,
        },
        "bias": draw(st.booleans()),
        "channels_last": draw(st.booleans()),
        "weight_channels_last": draw(st.booleans()),
        "seed": draw(st.integers(0, 2**31)),
    }


def operands(case: dict[str, Any]) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(case["seed"])
    largest = max(1, 2 ** (case["weight_bits"] - 1) - 1)
    x = torch.randn(case["shape"], generator=generator)
    if case["channels_last"]:
        x = x.to(memory_format=torch.channels_last)
    weight_scale = torch.rand(case["outputs"], generator=generator) * 0.1 + 0.01
    shape = (case["outputs"], case["shape"][1] // case["call"]["groups"], *case["kernel"])
    integers = torch.randint(-largest, largest + 1, shape, generator=generator)
    if case.get("weight_channels_last"):
        integers = integers.to(memory_format=torch.channels_last)
    return {
        "x": x,
        "scale": torch.tensor(2.5 / max(case["limits"][1], 1)),
        "weight": integers * weight_scale.reshape(-1, 1, 1, 1),
        "bias": torch.randn(case["outputs"], generator=generator) if case["bias"] else None,
        "weight_scale": weight_scale,
        "integers": integers,
    }


def plain(x: Tensor, scale: Tensor, weight: Tensor, bias: Tensor | None, case: dict[str, Any], factor: float) -> Tensor:
    """Padded before, as conv2d itself may crash where its padding exceeds the kernel (PyTorch 2.13)."""
    call = case["call"]
    x_hat = F.pad(fake_quantize(x, scale, *case["limits"], grad_scale=factor), call["padding"])
    return F.conv2d(x_hat, weight, bias, call["stride"], 0, call["dilation"], call["groups"])


def leaves(values: dict[str, Any], dtype: torch.dtype) -> list[Tensor]:
    found = [values[key] for key in ("x", "scale", "weight", "bias") if values[key] is not None]
    return [value.to(dtype).clone(memory_format=torch.preserve_format).requires_grad_() for value in found]


def product(leaves: list[Tensor], values: dict[str, Any], case: dict[str, Any], **options: Any) -> Tensor:
    x, scale, weight = leaves[:3]
    bias = leaves[3] if case["bias"] else None
    options = {**case["call"], "grad_scale": 0.1, **options}
    return fake_quantized_conv2d(x, scale, *case["limits"], weight, values["weight_scale"], bias, **options)


@settings(max_examples=150)
@given(cases())
def test_equals_its_two_parts(case: dict[str, Any]) -> None:
    check_two_parts(case, "cpu")


@pytest.mark.parametrize("device", each_device("emulated", "cuda"))
@settings(max_examples=25)
@given(case=cases())
def test_equals_its_two_parts_on_a_device(device: str, case: dict[str, Any]) -> None:
    check_two_parts(case, device)


def check_two_parts(case: dict[str, Any], device: str) -> None:
    values = {key: None if value is None else value.to(device) for key, value in operands(case).items()}
    ours = leaves(values, torch.float32)
    x, scale, weight = ours[:3]
    bias = ours[3] if case["bias"] else None
    with runs_kernels(device, "fake_quantize_forward"):
        y = product(ours, values, case)
    wanted = plain(*ours[:3], bias, case, 0.1)
    assert y.shape == wanted.shape
    assert y.dtype == torch.float32
    last = torch.channels_last in (suggest_memory_format(x), suggest_memory_format(weight))
    assert y.is_contiguous(memory_format=torch.channels_last if last else torch.contiguous_format)
    integers = ops.quantize(x.detach(), scale.detach(), *case["limits"])
    left, _, top, _ = case["call"]["padding"]
    call = case["call"]
    sums = F.conv2d(
        integers.double(),
        values["integers"].double(),
        None,
        call["stride"],
        (top, left),
        call["dilation"],
        call["groups"],
    )
    unit = (scale.double() * values["weight_scale"].double()).reshape(-1, 1, 1)
    true = sums * unit + (0 if bias is None else bias.double().reshape(-1, 1, 1))
    size = (sums * unit).abs() + (0 if bias is None else bias.double().abs().reshape(-1, 1, 1))
    assert bool(((y.double() - true).abs() <= size * 4 * 2**-23 + 1e-30).all())

    grad = torch.randn(y.shape, generator=torch.Generator().manual_seed(case["seed"])).to(device)
    y.backward(grad)
    gradients = [leaf.grad for leaf in ours]
    for leaf in ours:
        leaf.grad = None
    image = [leaf.detach().requires_grad_(leaf is not x) for leaf in ours]
    product(image, values, case).backward(grad)
    assert image[0].grad is None  # an image needs no gradient, its scale does
    wanted.backward(grad)
    for name, leaf, *found in zip(("x", "scale", "weight", "bias"), ours, gradients, image, strict=False):
        bound = 1e-5 * float(leaf.grad.abs().max() + grad.abs().sum() * 1e-3) + 1e-6
        for tensor in (found[0], found[1].grad) if name != "x" else (found[0],):
            torch.testing.assert_close(
                tensor, leaf.grad, rtol=1e-4, atol=bound, msg=lambda text, name=name: f"{name}: {text}"
            )


@pytest.mark.parametrize("limits", [(0, 15), (-8, 7)])
@pytest.mark.parametrize(
    ("size", "kernel", "stride", "padding", "dilation"),
    [
        ((6, 1), (3, 1), (2, 3), (1, 1), (2, 1)),  # windows beside the image
        ((2, 1), (3, 2), (3, 1), (1, 1), (1, 2)),  # the image in the hole of a window
        ((1, 1), (1, 1), (1, 1), (3, 3), (1, 1)),  # padding wider than the kernel
        ((5, 4), (3, 3), (1, 2), (2, 2), (1, 1)),
    ],
)
def test_windows_in_the_padding(
    limits: tuple[int, int],
    size: tuple[int, int],
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int],
    dilation: tuple[int, int],
) -> None:
    """Where oneDNN's own padding would read beyond the image."""
    sides = (padding[1], padding[1], padding[0], padding[0])
    call = {"stride": stride, "padding": sides, "dilation": dilation, "groups": 1}
    generator = torch.Generator().manual_seed(1)
    for channels, outputs in ((2, 3), (16, 8), (17, 33)):
        x = torch.randint(limits[0], limits[1] + 1, (3, channels, *size), generator=generator).float()
        weight = torch.randint(-7, 8, (outputs, channels, *kernel), generator=generator).float()
        y = fake_quantized_conv2d(x, torch.tensor(1.0), *limits, weight, torch.ones(outputs), **call, grad_scale=1.0)
        exact = F.conv2d(x.double(), weight.double(), None, stride, padding, dilation)
        assert torch.equal(y.double(), exact)


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_under_autocast(channels_last: bool, dtype: torch.dtype) -> None:
    """The product of bf16 is rounded once, that of autocast rounds the weight as well."""
    case = {
        "limits": (0, 15), "weight_bits": 4, "shape": (4, 16, 9, 8), "outputs": 24, "kernel": (3, 3), "bias": True,
        "call": {"stride": (1, 1), "padding": (1, 1, 1, 1), "dilation": (1, 1), "groups": 1},
        "channels_last": channels_last, "seed": 3,
    }  # fmt: skip
    values = operands(case)
    x = values["x"].to(dtype).requires_grad_()
    _, scale, weight, bias = leaves(values, torch.float32)
    y = product([x, scale, weight, bias], values, case, dtype=torch.bfloat16)
    exact = plain(x.float(), scale, weight, bias, case, 0.1)
    assert y.dtype == torch.bfloat16
    torch.testing.assert_close(y, exact.bfloat16(), rtol=2**-7, atol=1e-3)
    # Several gradients, as the only one of a scale may happen to be small beside its rounding.
    upstream = [torch.randn(y.shape).to(torch.bfloat16) for _ in range(8)]

    def gradients(y: Tensor, leaves: list[Tensor]) -> list[Tensor]:
        found = [torch.autograd.grad(y, leaves, grad.to(y.dtype), retain_graph=True) for grad in upstream]
        return [torch.stack(some).float() for some in zip(*found, strict=True)]

    wanted = gradients(exact, [x, scale, weight, bias])
    found = gradients(y, [x, scale, weight, bias])
    image = product([x.detach(), scale, weight, bias], values, case, dtype=torch.bfloat16)
    found_too = gradients(image, [scale, weight, bias])
    for ours, true in zip([*found, *found_too], [*wanted, *wanted[1:]], strict=True):
        error = (ours - true).norm() / true.norm()
        assert error < 0.03, error


@pytest.mark.parametrize("image_too", [False, True])
def test_bf16_images_with_float32_outputs(image_too: bool) -> None:
    """The gradient is wider than the images; each size needs more of the memory that is kept than the one before."""
    weight, ones = torch.randint(-7, 8, (4, 3, 3, 3)).float(), torch.ones(4)
    for side in (300, 600, 700):
        x = torch.rand(1, 3, side, side).bfloat16().requires_grad_(image_too)
        plain_x = x.detach().float().requires_grad_(image_too)
        w, plain_w = weight.clone().requires_grad_(), weight.clone().requires_grad_()
        y = fake_quantized_conv2d(x, torch.tensor(0.1), 0, 7, w, ones, grad_scale=1.0, dtype=torch.float32)
        wanted = F.conv2d(fake_quantize(plain_x, torch.tensor(0.1), 0, 7), plain_w)
        grad = torch.randn(y.shape)
        y.backward(grad)
        wanted.backward(grad)
        assert (w.grad - plain_w.grad).norm() < 1e-4 * plain_w.grad.norm()
        if image_too:
            assert (x.grad.float() - plain_x.grad).norm() < 0.01 * plain_x.grad.norm()


BF16: list[tuple[tuple[int, int], int, int, int, int, int]] = [  # size, kernel, stride, padding, dilation, groups
    ((40, 40), 3, 1, 2, 2, 2),
    ((40, 38), 2, 1, 1, 2, 4),
    ((1, 1), 3, 2, 1, 1, 1),
    ((1, 1), 5, 3, 2, 1, 4),
    ((2, 2), 3, 3, 1, 1, 2),
    ((3, 3), 3, 3, 1, 1, 1),
    ((9, 7), 3, 2, 1, 1, 2),
]


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize(("size", "kernel", "stride", "padding", "dilation", "groups"), BF16)
def test_bf16_gradients_where_onednn_is_wrong(
    size: tuple[int, int], kernel: int, stride: int, padding: int, dilation: int, groups: int, channels_last: bool
) -> None:
    case = {
        "limits": (0, 15), "weight_bits": 4, "shape": (2, 8, *size), "outputs": 8, "kernel": (kernel, kernel),
        "call": {"stride": (stride,) * 2, "padding": (padding,) * 4, "dilation": (dilation,) * 2, "groups": groups},
        "bias": False, "channels_last": channels_last, "seed": 1,
    }  # fmt: skip
    values = operands(case)
    for count in (64, 1024, 16384, 65536):
        del [torch.full((count,), 1e30) for _ in range(20)][:]  # memory that is not zero
    ours = [values["x"].bfloat16().requires_grad_(), *leaves(values, torch.float32)[1:]]
    y = product(ours, values, case, dtype=torch.bfloat16)
    grad = torch.randn(y.shape).bfloat16()
    y.backward(grad)
    found = [leaf.grad.float() for leaf in (ours[0], ours[2])]
    ours[0].grad = ours[2].grad = None
    plain(ours[0].float(), *ours[1:], None, case, 0.1).backward(grad.float())
    for mine, leaf in zip(found, (ours[0], ours[2]), strict=True):
        assert (mine - leaf.grad.float()).norm() <= 0.02 * leaf.grad.float().norm()


@pytest.mark.parametrize("limits", [(0, 255), (-128, 127), (0, 15)])
def test_scales_of_bf16_images_get_a_precise_gradient(limits: tuple[int, int]) -> None:
    weight, ones = torch.randint(-127, 128, (16, 3, 3, 3)).float(), torch.ones(16)
    errors, sizes = [], []
    for _ in range(12):
        x, grad = torch.rand(4, 3, 16, 16).bfloat16(), torch.randn(4, 16, 16, 16).bfloat16()
        found = []
        for image in (x, x.float()):
            scale = torch.tensor(float(x.max()) / limits[1], requires_grad=True)
            call = {"padding": (1, 1, 1, 1), "grad_scale": 1.0, "dtype": image.dtype}
            fake_quantized_conv2d(image, scale, *limits, weight, ones, **call).backward(grad.to(image.dtype))
            found.append(float(scale.grad))
        errors.append(found[0] - found[1])
        sizes.append(found[1])
    assert torch.tensor(errors).norm() < 0.02 * torch.tensor(sizes).norm()


def test_weight_scales_and_bias_may_have_any_strides() -> None:
    x, weight = torch.rand(2, 3, 6, 6), torch.randint(-7, 8, (12, 3, 3, 3)).float()
    for scales in (torch.full((1,), 0.5).expand(12), torch.rand(24)[::2] + 0.1):
        bias, call = torch.randn(36)[::3], {"padding": (1, 1, 1, 1), "grad_scale": 1.0}
        on_grid = weight * scales.reshape(-1, 1, 1, 1)
        y = fake_quantized_conv2d(x, torch.tensor(0.1), 0, 15, on_grid, scales, bias, **call)
        dense = fake_quantized_conv2d(x, torch.tensor(0.1), 0, 15, on_grid, scales.clone(), bias.clone(), **call)
        torch.testing.assert_close(y, F.conv2d(fake_quantize(x, torch.tensor(0.1), 0, 15), on_grid, bias, padding=1))
        assert torch.equal(y, dense)


def test_nothing_but_the_input_is_kept() -> None:
    x = torch.rand(2, 8, 16, 16, requires_grad=True)
    scale, ones = torch.tensor(0.1, requires_grad=True), torch.ones(8)
    weight = torch.randint(-3, 4, (8, 8, 3, 3)).float().requires_grad_()
    kept: list[Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda value: kept.append(value) or value, lambda value: value):
        fake_quantized_conv2d(x, scale, 0, 15, weight, ones, padding=(1, 1, 1, 1), grad_scale=1.0)
    own = {value.data_ptr() for value in (x, scale, weight, ones)}
    assert {value.data_ptr() for value in kept} <= own
    two: list[Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda value: two.append(value) or value, lambda value: value):
        F.conv2d(fake_quantize(x, scale, 0, 15), weight, None, 1, 1)
    assert {value.data_ptr() for value in two} - own  # the fake-quantised input


def test_the_number_of_threads_changes_nothing() -> None:
    threads = torch.get_num_threads()
    x, scale, ones = torch.randn(9, 17, 31, 33), torch.tensor(0.1), torch.ones(8)
    weight = torch.randint(-3, 4, (8, 17, 3, 3)).float()
    results = []
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            results.append(fake_quantized_conv2d(x, scale, -8, 7, weight, ones, grad_scale=1.0))
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(result, results[0]) for result in results[1:])


@pytest.mark.parametrize("channels_last", [False, True])
def test_images_larger_than_what_is_kept(channels_last: bool) -> None:
    """Intermediate images of up to 64 MB stay in memory that the next call uses; a small one follows the large one."""
    for side in (2950, 9):  # float32 [1, 2, 2950, 2950]: 66 MB
        x = torch.rand(1, 2, side, side)
        if channels_last:
            x = x.to(memory_format=torch.channels_last)
        scale, ones, weight = torch.tensor(0.1), torch.ones(2), torch.tensor([[3.0, -1.0], [0.0, 2.0]])
        ours, plain_x = (x.clone(memory_format=torch.preserve_format).requires_grad_() for _ in range(2))
        y = fake_quantized_conv2d(ours, scale, 0, 7, weight.reshape(2, 2, 1, 1), ones, grad_scale=1.0)
        y.square().sum().backward()
        wanted = F.conv2d(fake_quantize(plain_x, scale, 0, 7), weight.reshape(2, 2, 1, 1))
        wanted.square().sum().backward()
        torch.testing.assert_close(y, wanted)
        torch.testing.assert_close(ours.grad, plain_x.grad)


@pytest.mark.parametrize("device", each_device())
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("where", ["x", "weight"])
def test_what_is_not_finite_shows(bad: float, where: str, device: str) -> None:
    x, scale, ones = torch.rand(2, 3, 5, 5, device=device), torch.tensor(0.1, device=device), torch.ones(4).to(device)
    weight = torch.randint(-3, 4, (4, 3, 3, 3)).float().to(device)
    {"x": x, "weight": weight}[where][0, 1, 2, 2] = bad
    y = fake_quantized_conv2d(x, scale, 0, 15, weight, ones, grad_scale=1.0)
    wanted = F.conv2d(fake_quantize(x, scale, 0, 15), weight)
    if device == "cpu" or bool(wanted.isfinite().all()):
        torch.testing.assert_close(y, wanted, equal_nan=True)
    else:  # on a device all of the call are NaN
        assert bool(y.isnan().all())


@pytest.mark.parametrize("device", each_device())
def test_bf16_results_are_those_of_float32_rounded(device: str) -> None:
    x, scale, ones = (
        torch.rand(2, 3, 5, 5).bfloat16().to(device),
        torch.tensor(0.1).to(device),
        torch.ones(4).to(device),
    )
    weight = torch.randint(-3, 4, (4, 3, 3, 3)).float().to(device)
    y = fake_quantized_conv2d(x, scale, 0, 15, weight, ones, grad_scale=1.0)
    assert y.dtype == torch.bfloat16
    exact = F.conv2d(fake_quantize(x.float(), scale, 0, 15), weight)
    torch.testing.assert_close(y, exact.bfloat16(), rtol=2**-8, atol=1e-6)


@pytest.mark.parametrize("device", each_device())
def test_empty_batches(device: str) -> None:
    x = torch.rand(0, 3, 5, 5, device=device, requires_grad=True)
    scale, ones = torch.tensor(0.1, device=device, requires_grad=True), torch.ones(4, device=device)
    weight = torch.ones(4, 3, 3, 3, device=device, requires_grad=True)
    y = fake_quantized_conv2d(x, scale, 0, 15, weight, ones, grad_scale=1.0)
    assert y.shape == (0, 4, 3, 3)
    y.sum().backward()
    assert float(scale.grad) == 0.0
    assert torch.equal(weight.grad, torch.zeros_like(weight))
