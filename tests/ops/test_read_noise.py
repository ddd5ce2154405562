"""Read noise: the same bits however a batch is split and whatever computes it; its variance; its cost in words."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from cimq import _C, Hardware
from cimq.ops import crossbar_conv2d, crossbar_diagnostics, crossbar_mvm

sys.path.insert(0, str(Path(__file__).parent))
from crossbar_cases import activations, weights
from devices import each_device, runs_kernels

BITS = {"weight_bits": 6, "act_bits": 4}
EVERYTHING = Hardware.preset("rram-wan2022").replace(
    rows=48,
    adc={"bits": 7},
    cell={
        "read": {"model": "proportional", "sigma_ratio": 0.05},
        "stuck_at": {"hrs_rate": 0.01, "lrs_rate": 0.01},
        "drift": {"nu": 0.03, "nu_sigma": 0.01, "time_s": 1000.0},
    },
    wires={"word_line_ohm": 1.0, "bit_line_ohm": 1.0},
)


def test_a_split_batch_with_the_offset_has_the_same_bits() -> None:
    x, w = activations((23, 100), 4, False), weights((20, 100), 6)
    whole = crossbar_mvm(x, w, EVERYTHING, **BITS, chips=2)
    assert torch.equal(whole, crossbar_mvm(x, w, EVERYTHING, **BITS, chips=2, backend="reference"))
    parts, first = [], 0
    for part in x.split(7):
        parts.append(crossbar_mvm(part, w, EVERYTHING, **BITS, chips=2, first_access=first))
        first += len(part)
    assert torch.equal(torch.cat(parts, 1), whole)
    assert not torch.equal(crossbar_mvm(x[:1], w, EVERYTHING, **BITS, first_access=1), whole[0, :1])


def test_a_split_convolution_counts_output_positions() -> None:
    x, w = activations((5, 4, 6, 6), 4, False), weights((6, 2, 3, 3), 6)
    options = {**BITS, "groups": 2, "padding": 1}
    whole = crossbar_conv2d(x, w, EVERYTHING, **options)
    assert torch.equal(whole, crossbar_conv2d(x, w, EVERYTHING, **options, backend="reference"))
    parts = [crossbar_conv2d(x[:2], w, EVERYTHING, **options)]
    parts.append(crossbar_conv2d(x[2:], w, EVERYTHING, **options, first_access=2 * 36))
    assert torch.equal(torch.cat(parts), whole)


def test_threads_do_not_change_a_bit() -> None:
    threads = torch.get_num_threads()
    x, w = activations((300, 100), 4, False), weights((64, 100), 6)
    images, kernels = activations((20, 4, 12, 12), 4, False), weights((8, 4, 3, 3), 6)
    results = []
    try:
        for count in (1, 2, 5):
            torch.set_num_threads(count)
            results.append(
                (crossbar_mvm(x, w, EVERYTHING, **BITS), crossbar_conv2d(images, kernels, EVERYTHING, **BITS))
            )
    finally:
        torch.set_num_threads(threads)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


@pytest.mark.parametrize("device", each_device("emulated", "cuda"))
@pytest.mark.parametrize(
    "read", [{"model": "constant", "sigma_levels": 0.3}, {"model": "proportional", "sigma_ratio": 0.1}]
)
@pytest.mark.parametrize("placement", ["per_column", "differential"])
@pytest.mark.parametrize("dac_bits", [1, 3, 6])
def test_devices_draw_the_noise_of_the_cpu(device: str, read: dict[str, object], placement: str, dac_bits: int) -> None:
    hardware = EVERYTHING.replace(
        dac_bits=dac_bits,
        adc={"placement": placement},
        cell={"read": read},
        wires={"word_line_ohm": 0.0, "bit_line_ohm": 0.0},
    )
    options = {"weight_bits": 6, "act_bits": 7, "seed": 3, "layer": 2}
    x, w = activations((9, 100), 7, False), weights((20, 100), 6)
    images, kernels = activations((3, 4, 5, 5), 7, False), weights((6, 2, 3, 3), 6)
    convolution = {**options, "groups": 2, "padding": 1, "first_access": 75}
    expected = crossbar_mvm(x, w, hardware, **options, chips=2, first_access=7)
    counted = crossbar_diagnostics(x, w, hardware, **options, first_access=7)
    with runs_kernels(device, "pack_cells", "crossbar_product"):
        y = crossbar_mvm(x.to(device), w.to(device), hardware, **options, chips=2, first_access=7)
    assert torch.equal(y.cpu(), expected)
    assert not torch.equal(expected[0], expected[1])
    found = crossbar_conv2d(images.to(device), kernels.to(device), hardware, **convolution)
    assert torch.equal(found.cpu(), crossbar_conv2d(images, kernels, hardware, **convolution))
    counts = crossbar_diagnostics(x.to(device), w.to(device), hardware, **options, first_access=7)
    assert torch.equal(counts.code_histogram, counted.code_histogram)
    still = hardware.replace(cell={"read": {"model": "none"}})
    assert not torch.equal(counted.code_histogram, crossbar_diagnostics(x, w, still, **options).code_histogram)


LONG = EVERYTHING.replace(adc={"bits": 5}, cell={"read": {"model": "constant", "sigma_levels": 0.3}}, rows=256)
SMALL: dict[str, int] = {"weight_bits": 2, "act_bits": 1}


@pytest.mark.parametrize("device", each_device("emulated", "cuda"))
def test_gradients_on_devices_follow_the_accesses_of_the_call(device: str) -> None:
    """More rows than a block of the backward has, from access 5 on: another access has other noise, and other masks."""
    x, w = activations((65_600, 6), 1, False).double(), weights((1, 6), 2).double()
    lsb = torch.full((LONG.weight_slices(2),), 0.4)
    hardware = LONG.replace(adc={"range": "learned", "bits": 3}, wires={"word_line_ohm": 0.0, "bit_line_ohm": 0.0})

    def gradient(on: str, first_access: int) -> torch.Tensor:
        leaf = x.to(on, copy=True).requires_grad_()
        steps = lsb.to(on, copy=True).requires_grad_()
        y = crossbar_mvm(
            leaf, w.to(on), hardware, **SMALL, first_access=first_access, adc_grad="clip",
            adc_lo=torch.zeros(len(lsb), dtype=torch.int32), adc_lsb=steps,
        )  # fmt: skip
        y.sum().backward()
        assert leaf.grad is not None
        return leaf.grad.cpu()

    expected = gradient("cpu", 5)
    assert torch.allclose(gradient(device, 5), expected, rtol=1e-11, atol=1e-12)
    assert not torch.allclose(gradient("cpu", 6)[-64:], expected[-64:], rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("device", each_device("emulated", "cuda"))
def test_counts_of_convolutions_on_devices_go_on_from_image_to_image(device: str) -> None:
    """Patches of two images are more than are made at once."""
    x, w = activations((2, 64, 32, 31), 1, False), weights((1, 64, 16, 16), 2)
    assert 2 * 17 * 16 * w[0].numel() > 1 << 23
    counts = [
        crossbar_diagnostics(x.to(on), w.to(on), LONG, **SMALL, stride=1, first_access=first).code_histogram
        for on, first in (("cpu", 3), (device, 3), ("cpu", 4))
    ]
    assert torch.equal(counts[1], counts[0])
    assert not torch.equal(counts[2], counts[0])


SCRIPT = """
import sys, torch
sys.path.insert(0, sys.argv[1])
from crossbar_cases import activations, weights
from cimq import Hardware
from cimq.ops import crossbar_mvm
x, w = activations((40, 100), 4, False), weights((70, 100), 6)
y = crossbar_mvm(x, w, Hardware.from_json(sys.argv[2]), weight_bits=6, act_bits=4, first_access=5)
sys.stdout.write(y.numpy().tobytes().hex())
"""


def test_instruction_sets_and_thread_counts_of_other_processes_give_the_same_bits(tmp_path: Path) -> None:
    x, w = activations((40, 100), 4, False), weights((70, 100), 6)
    expected = crossbar_mvm(x, w, EVERYTHING, **BITS, first_access=5).numpy().tobytes().hex()
    for isa, threads in [(isa, "1") for isa in _C.isa_available()] + [("scalar", "3")]:
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT, str(Path(__file__).parent), EVERYTHING.to_json()],
            env={**os.environ, "CIMQ_CPU_ISA": isa, "OMP_NUM_THREADS": threads},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout == expected, (isa, threads)


@pytest.mark.parametrize("mapping", ["differential_column", "differential_row", "offset"])
def test_the_variance_is_that_of_the_cells(mapping: str) -> None:
    sigma = 0.5
    machine = Hardware.preset("paper").replace(
        mapping=mapping, cell={"read": {"model": "constant", "sigma_levels": sigma}}
    )
    count = 20000
    x = torch.tensor([3, 1, 2, 0, 3]).repeat(count, 1)
    w = torch.tensor([[1, -2, 3, 0, 2]])
    y = crossbar_mvm(x, w, machine, weight_bits=3, act_bits=2).double()[:, 0]
    digits = sum(4**i * ((x[0] >> i) & 1).sum().item() for i in range(2))
    cells = 1 if mapping == "offset" else 2
    spread = sigma * math.sqrt(cells * digits)
    assert abs(y.mean() - (x[0] @ w[0]).item()) < 4 * spread / math.sqrt(count)
    assert abs(y.std() / spread - 1) < 4 / math.sqrt(2 * count)
    for bound in (1.0, 2.0, 3.0):
        expected = math.erfc(bound / math.sqrt(2))
        found = ((y - y.mean()).abs() > bound * spread).double().mean().item()
        assert abs(found - expected) < 4 * math.sqrt(expected / count) + 0.02 * expected


def test_read_noise_in_microsiemens_is_that_of_its_level_steps() -> None:
    window = {"g_min_microsiemens": 1.0, "g_max_microsiemens": 31.0}  # 2 microsiemens per step
    x, w = activations((8, 30), 4, False), weights((5, 30), 4)
    results = [
        crossbar_mvm(x, w, Hardware.preset("paper").replace(cell={**window, "read": read}), weight_bits=4, act_bits=4)
        for read in (
            {"model": "constant", "sigma_microsiemens": 0.5},
            {"model": "constant", "sigma_levels": 0.25},
        )
    ]
    assert torch.equal(*results)


def test_first_access_is_checked() -> None:
    x, w = activations((2, 8), 4, False), weights((3, 8), 4)
    for first in (-1, 2**48 + 1):
        with pytest.raises(ValueError, match=r"crossbar_mvm: first_access must be in 0\.\."):
            crossbar_mvm(x, w, EVERYTHING, weight_bits=4, act_bits=4, first_access=first)
    with pytest.raises(ValueError, match="first_access plus the batch must be at most"):
        crossbar_mvm(x, w, EVERYTHING, weight_bits=4, act_bits=4, first_access=2**48 - 1)
