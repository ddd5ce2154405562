"""Products that a library computes must prove to be exact: trials, what takes their place, and what is said."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from devices import captured, each_device, runs_kernels
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

import cimq
from cimq import CimqWarning, ops
from cimq.quantization.layers.products import conv2d_product, linear_product, matmul_product

FOLDER = Path(__file__).parent  # of child processes: beside the sources they would import those
PAPER = cimq.Hardware.preset("paper")
X86 = "avx512vnni" in cimq.build_info()["cpu_features"]
vnni = pytest.mark.skipif(not X86, reason="a CPU without AVX-512 VNNI")


@pytest.fixture(autouse=True)
def _undisturbed() -> Iterator[None]:
    yield
    for primitive in ("int8_conv2d", "float_conv2d", "float_matmul"):
        torch.ops.cimq._disturb(primitive, "none")
    ops.clear_caches()


def int8_product(x: Tensor, w: Tensor, **call: object) -> Tensor:
    ones = torch.ones(w.shape[0])
    return ops.fake_quantized_conv2d(x.float(), torch.tensor(1.0), 0, 255, w.float(), ones, grad_scale=1.0, **call)


def conv_product(x: Tensor, w: Tensor) -> Tensor:
    call = {"stride": (1, 1), "padding": (1, 1, 1, 1), "dilation": (1, 1), "groups": 1, "seed": 0, "layer": 0}
    bits = {"weight_bits": 4, "act_bits": 4, "act_signed": False}
    with torch.no_grad():
        return conv2d_product(x, w, hardware=PAPER, **bits, **call)


CONV = (torch.randint(0, 16, (2, 6, 7, 5)), torch.randint(-7, 8, (9, 6, 3, 3)))
LINEAR = (torch.randint(0, 16, (5, 33)), torch.randint(-7, 8, (70, 33)))


@vnni
@pytest.mark.parametrize("disturbance", ["sum", "outside"])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_wrong_convolution_of_bytes_is_found_and_replaced(
    disturbance: str, bias: bool, signed: bool, dtype: torch.dtype
) -> None:
    low, high = (-128, 128) if signed else (0, 256)
    x, w = torch.randint(low, high, (3, 5, 6, 4)).float(), torch.randint(-127, 128, (8, 5, 3, 2)).float()
    x = x.to(memory_format=torch.channels_last)
    b = torch.randn(8) if bias else None
    scales, call = torch.rand(8) + 0.5, {"stride": (2, 1), "padding": (1, 1, 2, 2), "grad_scale": 1.0}
    on_grid = w * scales.reshape(-1, 1, 1, 1)

    def product() -> Tensor:
        return ops.fake_quantized_conv2d(x, torch.tensor(1.0), low, high - 1, on_grid, scales, b, dtype=dtype, **call)

    right = product()
    torch.ops.cimq._disturb("int8_conv2d", disturbance)
    with pytest.warns(CimqWarning, match=r"oneDNN's convolution of bytes is not exact .* x \[3, 5, .*sums are wrong"):
        replaced = product()
    sums = F.conv2d(F.pad(x.double(), (1, 1, 2, 2)), w.double(), None, (2, 1))
    exact = sums * scales.double().reshape(-1, 1, 1) + (0 if b is None else b.double().reshape(-1, 1, 1))
    tolerance = 1e-6 if dtype == torch.float32 else 2**-7
    torch.testing.assert_close(replaced.double(), exact, rtol=tolerance, atol=tolerance * 1000)
    assert (replaced.dtype, replaced.stride()) == (right.dtype, right.stride())
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # said once, for other geometries as well
        assert torch.equal(product(), replaced)
        int8_product(torch.ones(1, 2, 3, 3), torch.ones(1, 2, 2, 2))


@vnni
def test_a_disturbance_shows_where_nothing_is_tried() -> None:
    """The seam works: a geometry that had been proven would give the wrong sum."""
    x, w = torch.randint(0, 256, (1, 4, 5, 5)), torch.randint(-127, 128, (3, 4, 3, 3))
    exact = F.conv2d(x.double(), w.double())
    assert torch.equal(int8_product(x, w).double(), exact)
    before = torch.ops.cimq.cache_entries()["proofs"]
    torch.ops.cimq._disturb("int8_conv2d", "sum")
    assert (before > 0, torch.ops.cimq.cache_entries()["proofs"]) == (True, 0)
    with pytest.warns(CimqWarning, match="sums are wrong, the first is"):
        assert torch.equal(int8_product(x, w).double(), exact)


@pytest.mark.parametrize("disturbance", ["sum", "outside"])
def test_a_wrong_float_convolution_is_found_and_replaced(disturbance: str) -> None:
    if not torch.backends.mkldnn.is_available() or not X86:
        pytest.skip("no oneDNN")
    x, w = CONV
    exact = F.conv2d(x.double(), w.double(), padding=1)
    bits = {"weight_bits": 4, "act_bits": 4}
    torch.ops.cimq._disturb("float_conv2d", disturbance)
    with pytest.warns(CimqWarning, match="oneDNN's float32 convolution of integers is not exact"):
        assert torch.equal(conv_product(x, w).double(), exact)
    assert torch.equal(ops.crossbar_conv2d(x, w, PAPER, padding=(1, 1, 1, 1), **bits).double(), exact)


@pytest.mark.parametrize("disturbance", ["sum", "outside"])
def test_a_wrong_product_of_matrices_is_found_and_replaced(disturbance: str) -> None:
    x, w = LINEAR
    exact = x.double() @ w.double().t()
    bits = {"weight_bits": 4, "act_bits": 4}
    call = {"hardware": PAPER, "act_signed": False, "seed": 0, "layer": 0, **bits}
    stacks = torch.randint(0, 16, (2, 3, 5, 33)), torch.randint(-7, 8, (2, 3, 4, 33))
    wide = torch.randint(0, 256, (1, 1, 2, 1500)), torch.randint(-127, 128, (1, 1, 2, 1500))
    torch.ops.cimq._disturb("float_matmul", disturbance)
    with torch.no_grad(), pytest.warns(CimqWarning, match="torch's product of matrices of integers is not exact"):
        assert torch.equal(linear_product(x, w, **call).double(), exact)
    with torch.no_grad():
        found = matmul_product(*stacks, **call)
        assert torch.equal(found.double(), stacks[0].double() @ stacks[1].double().transpose(-1, -2))
        found = matmul_product(*wide, **(call | {"weight_bits": 8, "act_bits": 8}))
        assert found.dtype == torch.int32
        assert torch.equal(found.double(), wide[0].double() @ wide[1].double().transpose(-1, -2))
    assert torch.equal(ops.crossbar_mvm(x.float(), w.float(), PAPER, **bits).double(), exact)
    many = torch.randint(0, 256, (2, 3000)).float(), torch.randint(-127, 128, (3, 3000)).float()  # in pieces
    found = ops.crossbar_mvm(*many, PAPER, weight_bits=8, act_bits=8)
    assert torch.equal(found.double(), many[0].double() @ many[1].double().t())


def test_a_warning_that_is_an_error_stops_the_product() -> None:
    torch.ops.cimq._disturb("float_matmul", "sum")
    call = {"hardware": PAPER, "weight_bits": 4, "act_bits": 4, "act_signed": False, "seed": 0, "layer": 0}
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(RuntimeError, match="is not exact on this machine"):
            linear_product(*LINEAR, **call)


def test_a_disturbance_has_a_name() -> None:
    with pytest.raises(ValueError, match="primitive must be int8_conv2d, float_conv2d or float_matmul, got int4"):
        torch.ops.cimq._disturb("int4", "sum")
    with pytest.raises(ValueError, match="disturbance must be none, sum or outside, got all"):
        torch.ops.cimq._disturb("float_matmul", "all")


@vnni
def test_the_trial_runs_while_a_model_is_traced() -> None:
    network = cimq.prepare(nn.Conv2d(4, 8, 3), example_inputs=torch.randn(2, 4, 8, 8)).train()
    x = torch.randn(2, 4, 8, 8)
    wanted = network(x)
    ops.clear_caches()
    found = torch.compile(network, backend="aot_eager", fullgraph=True)(x)
    torch.testing.assert_close(found, wanted)
    ops.clear_caches()
    with FakeTensorMode():
        assert ops.has_integer_convolutions()


@vnni
def test_training_goes_on_with_exact_products() -> None:
    torch.manual_seed(0)
    layer, x = nn.Conv2d(2, 8, 3, stride=2, padding=1), torch.randn(4, 2, 16, 2)
    network = cimq.prepare(layer, example_inputs=x).train()
    right = network(x)
    torch.ops.cimq._disturb("int8_conv2d", "sum")
    with pytest.warns(CimqWarning, match="convolution of bytes is not exact"):
        found = network(x)
    torch.testing.assert_close(found, right, rtol=1e-5, atol=1e-5)


def test_trials_draw_no_random_numbers() -> None:
    state = torch.get_rng_state()
    ops.clear_caches()
    int8_product(torch.ones(1, 3, 4, 4), torch.ones(2, 3, 3, 3))
    conv_product(*CONV)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("precision", ["medium", "high", "highest"])
def test_reduced_precision_of_float32_changes_no_integer(precision: str) -> None:
    before = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision(precision)
        x, w = torch.randint(0, 256, (40, 500)), torch.randint(-127, 128, (70, 500))
        with torch.no_grad():
            call = {"weight_bits": 8, "act_bits": 8, "act_signed": False, "seed": 0, "layer": 0}
            found = linear_product(x, w, hardware=PAPER, **call)
        assert torch.equal(found.double(), x.double() @ w.double().t())
        image, kernel = torch.randint(0, 256, (2, 20, 9, 9)), torch.randint(-127, 128, (8, 20, 3, 3))
        y = ops.crossbar_conv2d(image.float(), kernel.float(), PAPER, weight_bits=8, act_bits=8)
        assert torch.equal(y.double(), F.conv2d(image.double(), kernel.double()))
    finally:
        torch.set_float32_matmul_precision(before)


@pytest.mark.parametrize("device", each_device())
@pytest.mark.parametrize("channels_last", [False, True])
def test_digital_operators(channels_last: bool, device: str) -> None:
    utils = ("test_schema", "test_faketensor")
    order = torch.channels_last if channels_last else torch.contiguous_format
    x, w = (tensor.float().to(device=device, memory_format=order) for tensor in CONV)
    for image, weight in ((x, w), (CONV[0].to(device, torch.uint8), w)):
        arguments = (image, weight, 4, 4, False, [2, 1], [1, 0, 2, 2], [1, 1], 1)
        torch.library.opcheck(torch.ops.cimq.digital_conv2d.default, arguments, test_utils=utils)
        with runs_kernels(device, "narrow_channels", "integer_products"):
            y = torch.ops.cimq.digital_conv2d(*arguments)
        assert y.is_contiguous(memory_format=order if image is x else torch.contiguous_format)
        exact = F.conv2d(F.pad(CONV[0], (1, 0, 2, 2)).double(), CONV[1].double(), None, (2, 1))
        assert torch.equal(y.cpu().double(), exact)
    for shape in ((5, 9), (2, 5, 9), (2, 3, 5, 9), (0, 5, 9), (2, 0, 9)):
        rows, weight = torch.randint(-8, 8, shape), torch.randint(-7, 8, (*shape[:-2], 4, 9))
        exact = rows.double() @ weight.double().transpose(-1, -2)
        arguments = (rows.to(device), weight.to(device), 4, 4, True)
        torch.library.opcheck(torch.ops.cimq.digital_matmul.default, arguments, test_utils=utils)
        assert torch.equal(torch.ops.cimq.digital_matmul(*arguments).cpu().double(), exact)
    with pytest.raises(
        ValueError, match=r"digital_matmul: x must be \[..., rows, inputs\] .* got \[2, 3\] and \[2, 4\]"
    ):
        torch.ops.cimq.digital_matmul(torch.ones(2, 3, device=device), torch.ones(2, 4, device=device), 4, 4, False)
    many = torch.ones(1, 100, 3, 3, device=device)
    with pytest.raises(
        ValueError, match="digital_conv2d: sums of 900 products of 8 and 8 bits are not exact in float32"
    ):
        torch.ops.cimq.digital_conv2d(many, many, 8, 8, False, [1, 1], [0] * 4, [1, 1], 1)


@pytest.mark.parametrize("device", each_device())
def test_digital_products_beyond_float32_are_int32(device: str) -> None:
    rows, weight = torch.randint(0, 256, (3, 900)), torch.randint(-127, 128, (4, 900))
    y = torch.ops.cimq.digital_matmul(rows.to(device), weight.float().to(device), 8, 8, False)
    assert y.dtype == torch.int32
    assert torch.equal(y.cpu(), (rows @ weight.t()).int())


@pytest.mark.parametrize("device", each_device("emulated", "cuda"))
@pytest.mark.parametrize("bad", [16.0, -1.0, 0.5, float("nan"), float("inf")])
def test_what_is_no_integer_of_its_range_shows_on_a_device(bad: float, device: str) -> None:
    x, w = torch.ones(2, 1000, device=device), torch.ones(3, 1000, device=device)
    x[1, 5] = bad
    with captured(device):  # a result of floats waits for nothing
        y = torch.ops.cimq.digital_matmul(x, w, 4, 4, False)
    assert bool(y[1].isnan().all())
    with pytest.raises(ValueError, match=r"digital_matmul: x must hold integers in 0\.\.255 and w in -127\.\.127"):
        torch.ops.cimq.digital_matmul(torch.where(x == bad, 256.0, x), w, 8, 8, False)


@pytest.mark.parametrize("device", each_device())
def test_depthwise_digital_convolutions(device: str) -> None:
    x, w = torch.randint(0, 16, (2, 6, 7, 5)).float(), torch.randint(-7, 8, (12, 1, 3, 3)).float()
    arguments = (x.to(device), w.to(device), 4, 4, False, [1, 2], [1, 1, 1, 1], [1, 1], 6)
    with runs_kernels(device, "convolve_few_outputs"):
        y = torch.ops.cimq.digital_conv2d(*arguments)
    assert torch.equal(y.cpu().double(), F.conv2d(x.double(), w.double(), None, (1, 2), 1, 1, 6))


RANDOM_SHAPES = r"""
import random, sys, warnings
import torch, torch.nn.functional as F
import cimq
from cimq import ops
warnings.simplefilter("ignore")
draw, paper, wrong = random.Random(int(sys.argv[1])), cimq.Hardware.preset("paper"), []
torch.manual_seed(int(sys.argv[1]))
for number in range(int(sys.argv[2])):
    groups = draw.choice([1, 1, 1, 2, 3])
    channels, outputs = draw.randint(2, 70), draw.choice([1, 2, 7, 16, 33, 64])
    kernel, stride = (draw.randint(1, 3), draw.randint(1, 3)), (draw.randint(1, 3), draw.randint(1, 3))
    dilation, pad = (draw.randint(1, 2), draw.randint(1, 2)), (draw.randint(0, 3), draw.randint(0, 3))
    size = (draw.randint(1, 9), draw.randint(1, 8))
    if any(s + 2 * p < d * (k - 1) + 1 for s, p, d, k in zip(size, pad, dilation, kernel)):
        continue
    signed = draw.random() < 0.5
    low, high = (-128, 127) if signed else (0, 255)
    x = torch.randint(low, high + 1, (draw.choice([1, 2, 4, 9]), groups * channels, *size))
    w = torch.randint(-127, 128, (groups * outputs, channels, *kernel))
    if draw.random() < 0.5:  # what saturates
        x, w = torch.where(x > 0, high, low), torch.where(w > 0, 127, -127)
    sides = (pad[1], pad[1], pad[0], pad[0])
    call = {"stride": stride, "padding": sides, "dilation": dilation, "groups": groups}
    exact = F.conv2d(F.pad(x, sides).double(), w.double(), None, stride, 0, dilation, groups)
    y = ops.fake_quantized_conv2d(
        x.float(), torch.tensor(1.0), low, high, w.float(), torch.ones(len(w)), grad_scale=1.0, **call
    )
    products = {"training": (y, exact)}
    bits = {"weight_bits": 8, "act_bits": 8, "act_signed": signed}
    if x[0].numel() // (size[0] * size[1] * groups) * kernel[0] * kernel[1] < 500:
        products["evaluation"] = (torch.ops.cimq.digital_conv2d(x, w, **bits, **call), exact)
        products["crossbar"] = (ops.crossbar_conv2d(x.float(), w.float(), paper, **bits, **call), exact)
    for name, (found, wanted) in products.items():
        if found.shape != wanted.shape or (found.double() - wanted).abs().max() > wanted.abs().max() * 2**-23:
            wrong.append((name, tuple(x.shape), tuple(w.shape), call))
assert not wrong, f"{len(wrong)} wrong, first {wrong[:3]}"
print(ops.has_integer_convolutions())
"""


@pytest.mark.parametrize("isa", ["", "SSE41", "AVX2", "AVX512_CORE", "AVX512_CORE_VNNI"])
def test_every_instruction_set_of_onednn_gives_the_same_integers(isa: str) -> None:
    """In a process of its own, as oneDNN chooses its instruction set once."""
    environment = {**os.environ, "OMP_NUM_THREADS": "2"}
    environment.pop("ONEDNN_MAX_CPU_ISA", None)
    if isa:
        environment["ONEDNN_MAX_CPU_ISA"] = isa
    result = subprocess.run(
        [sys.executable, "-c", RANDOM_SHAPES, str(len(isa)), "40"],
        env=environment,
        cwd=FOLDER,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr[-2000:]
    assert result.stdout.strip() == str(X86 and isa in ("", "AVX512_CORE_VNNI"))


@pytest.mark.parametrize("mode", ["BF16", "ANY"])
def test_reduced_precision_of_onednn_changes_no_integer(mode: str) -> None:
    environment = {**os.environ, "ONEDNN_DEFAULT_FPMATH_MODE": mode}
    result = subprocess.run(
        [sys.executable, "-c", RANDOM_SHAPES, "7", "25"], env=environment, cwd=FOLDER, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr[-2000:]


SAID = """
import warnings
import torch
import cimq
with warnings.catch_warnings(record=True) as said:
    warnings.simplefilter("always")
    network = cimq.prepare(torch.nn.Conv2d(4, 8, 3), example_inputs=torch.randn(2, 4, 8, 8)).train()
    x = torch.randn(2, 4, 8, 8)
    assert (network(x) - network.eval()(x)).abs().max() < 1e-4
    cimq.ops.fake_quantized_conv2d(
        x, torch.tensor(0.1), 0, 15, torch.ones(2, 4, 1, 1), torch.ones(2), grad_scale=1.0
    )
said = [warning for warning in said if issubclass(warning.category, cimq.CimqWarning)]
assert len(said) == 1, said
print(said[0].filename, said[0].message)
"""


@vnni
def test_an_instruction_set_that_saturates_is_named_once() -> None:
    result = subprocess.run(
        [sys.executable, "-c", SAID],
        env={**os.environ, "ONEDNN_MAX_CPU_ISA": "AVX2"},
        cwd=FOLDER,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr[-2000:]
    assert result.stdout.startswith("<string> oneDNN's convolution of bytes is not exact on this machine for x [2, 64,")
