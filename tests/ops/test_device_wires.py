"""Wires with resistance on a device against the CPU: the same bits, in everything that programs cells."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from devices import each_device, runs_kernels
from torch import Tensor

from cimq import Hardware
from cimq.ops import crossbar_conv2d, crossbar_diagnostics, crossbar_mvm

pytestmark = [
    pytest.mark.parametrize("device", each_device("emulated", "cuda")),
    pytest.mark.parametrize("mapping", ["differential_column", "differential_row", "offset"]),
]

KERNELS = ("sum_word_lines", "attenuate_bit_lines")
WINDOW = {"g_min_microsiemens": 1.0, "g_max_microsiemens": 100.0}
NOISE = {"programming": {"model": "gaussian", "sigma_levels": 0.2}, "stuck_at": {"hrs_rate": 0.05, "lrs_rate": 0.05}}
BITS: dict[str, Any] = {"weight_bits": 5, "act_bits": 3}


def machine(mapping: str, **fields: Any) -> Hardware:
    """Arrays of 12 x 7: several in both directions, and slices of a weight in two of them."""
    wires = {"word_line_ohm": 4.0, "bit_line_ohm": 6.0, "mean_activity": 0.4}
    described = {"rows": 12, "cols": 7, "cell": WINDOW | NOISE, "adc": {"bits": 6, "range": "full_scale"}}
    return Hardware.preset("paper-2b").replace(mapping=mapping, wires=wires, **(described | fields))


def drawn(low: int, high: int, *shape: int) -> Tensor:
    return torch.randint(low, high + 1, shape, generator=torch.Generator().manual_seed(sum(shape)))


def without_wires(hardware: Hardware) -> Hardware:
    return hardware.replace(wires=None)


@pytest.mark.parametrize("cell", [WINDOW, WINDOW | NOISE])
def test_cells(device: str, mapping: str, cell: dict[str, Any]) -> None:
    hardware = machine(mapping, cell=cell)
    w = drawn(-15, 15, 9, 75)
    with runs_kernels(device, *KERNELS):
        found = torch.ops.cimq.programmed_levels(w.to(device), hardware.to_json(), 5, 3, 1, 2, 4)
    expected = torch.ops.cimq.programmed_levels(w, hardware.to_json(), 5, 3, 1, 2, 4)
    assert torch.equal(found.cpu(), expected)
    plain = torch.ops.cimq.programmed_levels(w, without_wires(hardware).to_json(), 5, 3, 1, 2, 4)
    assert not torch.equal(expected, plain)


@pytest.mark.parametrize("chips", [None, 3])
def test_matrix_products(device: str, mapping: str, chips: int | None) -> None:
    x, w, hardware = drawn(0, 7, 4, 75), drawn(-15, 15, 9, 75), machine(mapping)
    options = BITS | {"chips": chips, "seed": 7}
    with runs_kernels(device, *KERNELS):
        y = crossbar_mvm(x.to(device), w.to(device), hardware, **options)
    assert torch.equal(y.cpu(), crossbar_mvm(x, w, hardware, **options))
    assert not torch.equal(y.cpu(), crossbar_mvm(x, w, without_wires(hardware), **options))


@pytest.mark.parametrize("groups", [1, 2, 6])
def test_convolutions_whose_groups_have_arrays_of_their_own(device: str, mapping: str, groups: int) -> None:
    x, w, hardware = drawn(0, 7, 2, 6, 5, 5), drawn(-15, 15, 12, 6 // groups, 3, 3), machine(mapping)
    options = BITS | {"chips": 2, "groups": groups, "padding": (1, 1, 1, 1)}
    with runs_kernels(device, *KERNELS):
        y = crossbar_conv2d(x.to(device), w.to(device), hardware, **options)
    assert torch.equal(y.cpu(), crossbar_conv2d(x, w, hardware, **options))
    assert not torch.equal(y.cpu(), crossbar_conv2d(x, w, without_wires(hardware), **options))


def test_gradients_and_counts_know_the_wires(device: str, mapping: str) -> None:
    """Operands and steps are multiples of 1/4: sums of what passes are exact in any order."""
    hardware = machine(mapping, adc={"bits": 4, "range": "learned"})
    x, w = drawn(0, 7, 4, 2, 5, 5), drawn(-15, 15, 4, 1, 3, 3)
    slices = hardware.weight_slices(5)
    ranges = {"adc_lo": torch.zeros(slices, dtype=torch.int32), "adc_lsb": torch.full((slices,), 0.75)}
    options = BITS | ranges | {"groups": 2}

    def run(on: str, described: Hardware) -> list[Tensor]:
        leaves = [x.to(on).double().requires_grad_(), w.to(on).double().requires_grad_()]
        crossbar_conv2d(*leaves, described, **options, adc_grad="clip").sum().backward()
        counts = crossbar_diagnostics(x.to(on), w.to(on), described, **options)
        found = [leaf.grad for leaf in leaves] + [counts.code_histogram, counts.clipped, counts.currents]
        return [tensor.cpu() for tensor in found if tensor is not None]

    expected = run("cpu", hardware)
    with runs_kernels(device, *KERNELS, "conversion_shares", "conversion_counts"):
        found = run(device, hardware)
    assert len(found) == 5
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one, other)
    without = run("cpu", without_wires(hardware))
    assert not torch.equal(expected[0], without[0])
    assert not torch.equal(expected[2], without[2])
