"""crossbar_conv2d against patches and the written-out matrix product."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cimq import Hardware
from cimq.ops import crossbar_conv2d, crossbar_mvm

sys.path.insert(0, str(Path(__file__).parent))
from crossbar_cases import Case, activations, cases, geometries, weights

OPCHECKS = ("test_schema", "test_autograd_registration", "test_faketensor", "test_aot_dispatch_dynamic")
LOSSY = Hardware.preset("paper").replace(rows=16, adc={"bits": 4})
NOISY = LOSSY.replace(cell={"programming": {"model": "gaussian", "sigma_levels": 0.3}})
QUICK = settings(suppress_health_check=[HealthCheck.filter_too_much])


@settings(QUICK, max_examples=150)
@given(cases(), geometries(), st.sampled_from([None, 2]))
def test_every_backend_gives_the_bits_of_the_specification(
    case: Case, shape: dict[str, Any], chips: int | None
) -> None:
    case = case.with_columns(shape["outputs"])
    x = case.activations(*shape["x"])
    w = case.weights(shape["outputs"], shape["x"][1] // shape["groups"], *shape["kernel"])
    options = case.options() | {name: shape[name] for name in ("stride", "dilation", "padding", "groups")}
    expected = crossbar_conv2d(x, w, case.hardware, **options, chips=chips, backend="reference")
    for backend in ("auto", "sliced", "reference_cpp"):
        y = crossbar_conv2d(x, w, case.hardware, **options, chips=chips, backend=backend)
        assert y.dtype == expected.dtype
        assert torch.equal(y, expected), backend


@pytest.mark.parametrize("padding", [2, (1, 2), (0, 1, 2, 3)])
def test_without_a_converter_it_is_the_integer_convolution(padding: Any) -> None:
    x, w = activations((2, 4, 9, 8), 8, True), weights((6, 2, 3, 3), 8)
    four = {2: (2, 2, 2, 2), (1, 2): (2, 2, 1, 1)}.get(padding, padding)
    y = crossbar_conv2d(
        x,
        w,
        "paper-2b",
        weight_bits=8,
        act_bits=8,
        act_signed=True,
        stride=2,
        dilation=(2, 1),
        padding=padding,
        groups=2,
    )
    padded = torch.nn.functional.pad(x.double(), four)
    expected = torch.nn.functional.conv2d(padded, w.double(), stride=2, dilation=(2, 1), groups=2)
    assert y.dtype == torch.int32
    assert torch.equal(y.double(), expected)


def test_a_1x1_convolution_is_the_matrix_product_of_every_pixel() -> None:
    x, w = activations((2, 40, 3, 4), 4, False), weights((6, 40, 1, 1), 4)
    y = crossbar_conv2d(x, w, NOISY, weight_bits=4, act_bits=4, seed=9, layer=2)
    pixels = crossbar_mvm(x.permute(0, 2, 3, 1), w[:, :, 0, 0], NOISY, weight_bits=4, act_bits=4, seed=9, layer=2)
    assert torch.equal(y, pixels.permute(0, 3, 1, 2))


def test_groups_have_cells_of_their_own() -> None:
    x = activations((1, 1, 6, 6), 4, False).repeat(1, 2, 1, 1)
    w = weights((1, 1, 3, 3), 4).repeat(2, 1, 1, 1)
    y = crossbar_conv2d(x, w, NOISY, weight_bits=4, act_bits=4, groups=2)
    assert not torch.equal(y[:, 0], y[:, 1])


def test_threads_and_batch_splits_do_not_change_a_bit() -> None:
    threads = torch.get_num_threads()
    x, w = activations((6, 8, 14, 14), 4, False), weights((16, 8, 3, 3), 4)
    results = []
    try:
        for count in (1, 2, 5):
            torch.set_num_threads(count)
            results.append(crossbar_conv2d(x, w, NOISY, weight_bits=4, act_bits=4, padding=1))
    finally:
        torch.set_num_threads(threads)
    results.append(
        torch.cat([crossbar_conv2d(part, w, NOISY, weight_bits=4, act_bits=4, padding=1) for part in x.split(4)])
    )
    for other in results[1:]:
        assert torch.equal(results[0], other)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int32, torch.float32, torch.float16])
def test_operand_types_and_layouts(dtype: torch.dtype) -> None:
    x, w = activations((2, 4, 5, 5), 4, False), weights((3, 4, 3, 3), 4)
    expected = crossbar_conv2d(x, w, LOSSY, weight_bits=4, act_bits=4)
    for layout in (torch.contiguous_format, torch.channels_last):
        y = crossbar_conv2d(x.to(dtype).to(memory_format=layout), w.to(torch.int8), LOSSY, weight_bits=4, act_bits=4)
        assert torch.equal(y, expected)


@pytest.mark.parametrize("chips", [None, 2])
@pytest.mark.parametrize("hardware", [LOSSY, NOISY, Hardware.preset("paper")], ids=["lossy", "noisy", "ideal"])
@pytest.mark.parametrize("padding", [(1, 1, 1, 1), (0, 1, 2, 0)], ids=["even", "uneven"])
def test_gradients_are_straight_through(hardware: Hardware, chips: int | None, padding: Any) -> None:
    gradients = []
    for backend in ("auto", "reference"):
        x = activations((2, 4, 7, 6), 4, False).float().requires_grad_()
        w = weights((6, 2, 3, 3), 4).float().requires_grad_()
        y = crossbar_conv2d(
            x,
            w,
            hardware,
            weight_bits=4,
            act_bits=4,
            chips=chips,
            backend=backend,
            padding=padding,
            stride=(2, 1),
            groups=2,
        )
        (y * torch.linspace(-1, 1, y.numel()).reshape(y.shape)).sum().backward()
        gradients.append((y.detach(), x.grad, w.grad))
    assert torch.equal(gradients[0][0], gradients[1][0])
    torch.testing.assert_close(gradients[0][1], gradients[1][1])
    torch.testing.assert_close(gradients[0][2], gradients[1][2])


@pytest.mark.parametrize("chips", [None, 2])
@pytest.mark.parametrize("hardware", [NOISY, Hardware.preset("paper")], ids=["noisy", "ideal"])
def test_opcheck(hardware: Hardware, chips: int | None) -> None:
    x, w = activations((2, 4, 5, 5), 4, False), weights((6, 2, 3, 3), 4)
    for floating in (False, True):
        operands = (x.float().requires_grad_(), w.float().requires_grad_()) if floating else (x, w)
        args = (*operands, hardware.to_json(), 4, 4, False, [2, 1], [1, 0, 1, 2], [1, 1], 2, chips)
        torch.library.opcheck(torch.ops.cimq.crossbar_conv2d.default, args, test_utils=OPCHECKS)


def test_compiles_without_graph_break() -> None:
    def loss(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        return (crossbar_conv2d(x, w, LOSSY, weight_bits=4, act_bits=4, padding=1) * 0.01).square().sum()

    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager", dynamic=True)
    for batch in (2, 3):
        results = []
        for function in (loss, compiled):
            x = activations((batch, 4, 6, 6), 4, False).float().requires_grad_()
            w = weights((6, 4, 3, 3), 4).float().requires_grad_()
            value = function(x, w)
            value.backward()
            results.append((value.detach(), x.grad, w.grad))
        for eager, traced in zip(*results, strict=True):
            assert torch.equal(eager, traced)


def test_an_empty_batch_works() -> None:
    x, w = torch.zeros(0, 4, 5, 5), weights((6, 4, 3, 3), 4)
    for backend in ("auto", "reference_cpp", "reference"):
        assert crossbar_conv2d(x, w, LOSSY, weight_bits=4, act_bits=4, backend=backend).shape == (0, 6, 3, 3)
        y = crossbar_conv2d(x, w, LOSSY, weight_bits=4, act_bits=4, backend=backend, chips=2)
        assert y.shape == (2, 0, 6, 3, 3)


BAD = [
    (
        {"x_q": torch.full((1, 2, 5, 5), 16)},
        r"crossbar_conv2d: x_q must hold integers in 0\.\.15, got 16 at flat index 0",
    ),
    ({"x_q": torch.full((1, 2, 5, 5), float("nan"))}, "got nan"),
    ({"w_q": torch.full((3, 2, 3, 3), 8)}, r"crossbar_conv2d: w_q must hold integers in -7\.\.7, got 8"),
    ({"x_q": torch.ones(2, 5, 5)}, r"x must be \[batch, channels, height, width\], got shape \[2, 5, 5\]"),
    ({"w_q": torch.ones(3, 2, 3)}, "w must be"),
    ({"groups": 2}, r"x must have 4 channels for w \[3, 2, 3, 3\] and groups=2"),
    ({"groups": 0}, "channels"),
    ({"stride": 0}, "stride"),
    ({"padding": -1}, "pad"),
    ({"padding": (1, 2, 3)}, "padding must be one integer, two, or four"),
    ({"x_q": torch.ones(1, 2, 2, 5)}, "crossbar_conv2d: .*"),
]


@pytest.mark.parametrize(("change", "text"), BAD)
def test_bad_arguments_are_named(change: dict[str, object], text: str) -> None:
    args = {"x_q": torch.ones(1, 2, 5, 5), "w_q": torch.ones(3, 2, 3, 3), "hardware": LOSSY, "weight_bits": 4}
    with pytest.raises(ValueError, match=text):
        crossbar_conv2d(**(args | {"act_bits": 4} | change))
