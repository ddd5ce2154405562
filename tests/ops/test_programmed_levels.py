"""Statistics of programmed cells, which the written-out specification takes as given."""

from __future__ import annotations

import math

import pytest
import torch

from cimq import Hardware
from cimq.ops.spec.mapping_rules import weight_levels


def noisy(sigma: float, **fields: object) -> Hardware:
    return Hardware.preset("paper").replace(
        cell={"programming": {"model": "gaussian", "sigma_levels": sigma}}, **fields
    )


def levels(w: torch.Tensor, hardware: Hardware, bits: int, **key: int) -> torch.Tensor:
    return torch.ops.cimq.programmed_levels(
        w, hardware.to_json(), bits, *[key.get(k, 0) for k in ("seed", "chip", "layer")]
    )


@pytest.mark.parametrize("sigma", [0.1, 0.5, 1.5])
def test_deviations_are_gaussian(sigma: float) -> None:
    # Level 7 of 16 is at least four sigma above the floor of 0 conductance.
    w = torch.full((400, 500), 7)
    deviation = (levels(w, noisy(sigma), 4)[0, 0].double() / 256 - 7).flatten()
    count = deviation.numel()
    assert abs(deviation.mean()) < 5 * sigma / math.sqrt(count)
    spread = math.sqrt(sigma**2 + 1 / 256**2 / 12)  # with the rounding to 1/256 level
    assert abs(deviation.std() / spread - 1) < 5 / math.sqrt(2 * count)
    for bound in (1.0, 2.0, 3.0, 4.0):
        expected = math.erfc(bound / math.sqrt(2))
        found = (deviation.abs() > bound * sigma).double().mean()
        assert abs(found - expected) < 5 * math.sqrt(expected / count) + 0.02 * expected


def test_conductance_is_never_negative() -> None:
    cells = levels(torch.zeros(100, 100), noisy(1.0), 4)
    assert cells.min() == 0
    assert 0.45 < (cells == 0).double().mean() < 0.55


def test_keys_give_independent_cells_and_the_same_key_the_same_cells() -> None:
    w, hardware = torch.full((100, 100), 7), noisy(0.5)
    first = levels(w, hardware, 4)
    assert torch.equal(first, levels(w, hardware, 4))
    others = [levels(w, hardware, 4, **{key: 1}) for key in ("seed", "chip", "layer")]
    bits8 = levels(torch.full((100, 100), 7 * 17), hardware, 8)  # two slices of level 7
    others += [bits8[1:2]]
    for other in others:
        pair = torch.stack([first[0, 0].flatten(), other[0, 0].flatten()]).double()
        assert abs(torch.corrcoef(pair)[0, 1]) < 5 / 100
    polarities = torch.stack([first[0, 0].flatten(), levels(-w, hardware, 4)[0, 1].flatten()]).double()
    assert abs(torch.corrcoef(polarities)[0, 1]) < 5 / 100


@pytest.mark.parametrize("mapping", ["differential_column", "differential_row", "offset"])
@pytest.mark.parametrize("bits", [1, 2, 5, 8])
@pytest.mark.parametrize("cell_bits", [1, 2, 3, 4, 8])
def test_without_variation_the_levels_are_the_specified_ones(mapping: str, bits: int, cell_bits: int) -> None:
    hardware = Hardware.preset("paper").replace(mapping=mapping, cell_bits=cell_bits)
    top = max(1, 2 ** (bits - 1) - 1)
    w = torch.arange(-top, top + 1)[None]
    w = w[w != 0][None] if bits == 1 else w
    specified, worth = weight_levels(w.numpy(), hardware, bits)
    assert torch.equal(levels(w, hardware, bits).long(), 256 * torch.from_numpy(specified))
    values = sum(worth[s] * specified[s] for s in range(len(worth)))
    signed = values[0] - values[1] if len(values) == 2 else values[0] - 2 ** (bits - 1)
    assert torch.equal(torch.from_numpy(signed), w)


def test_bad_arguments_are_named() -> None:
    with pytest.raises(ValueError, match=r"programmed_levels: w_q must be \[outputs, inputs\]"):
        levels(torch.ones(3), noisy(0.1), 4)
    with pytest.raises(ValueError, match="programmed_levels: chip and layer must be in"):
        levels(torch.ones(1, 1), noisy(0.1), 4, chip=-1)
    with pytest.raises(ValueError, match=r"programmed_levels: w_q must hold integers in -7\.\.7"):
        levels(torch.full((1, 1), 9), noisy(0.1), 4)
