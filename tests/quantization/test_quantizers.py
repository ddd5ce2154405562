from __future__ import annotations

import pytest
import torch

from cimq.quantization.quantizers import act_range, mse_scales, weight_range


def test_ranges() -> None:
    assert [weight_range(bits) for bits in (1, 2, 4, 8)] == [(-1, 1), (-1, 1), (-7, 7), (-127, 127)]
    assert [act_range(bits, False) for bits in (1, 4, 8)] == [(0, 1), (0, 15), (0, 255)]
    assert [act_range(bits, True) for bits in (1, 4, 8)] == [(-1, 0), (-8, 7), (-128, 127)]


def squared_error(values: torch.Tensor, scale: torch.Tensor, qmin: int, qmax: int) -> torch.Tensor:
    s = scale.double().reshape(-1, 1)
    return ((torch.clamp(torch.round(values.double() / s), qmin, qmax) * s - values.double()) ** 2).sum(1)


@pytest.mark.parametrize("limits", [(-7, 7), (-1, 1), (0, 15), (-8, 7), (0, 255), (0, 1), (-1, 0)])
def test_scale_is_as_good_as_a_fine_brute_force_search(limits: tuple[int, int]) -> None:
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(3, 500, generator=generator) ** 3
    if limits[0] == 0:
        values = values.abs()
    found = mse_scales(values, *limits)
    largest = max(float(values.max()) / max(limits[1], 1), float(values.min()) / (limits[0] or -1e9))
    grid = torch.linspace(0.005, 1.0, 2000) * largest
    best = torch.stack([squared_error(values, s.expand(3), *limits) for s in grid]).amin(0)
    assert bool((squared_error(values, found, *limits) <= best * 1.02).all())


def test_values_on_a_grid_are_found_exactly() -> None:
    codes = torch.arange(-7, 8).float().repeat(2, 3)
    scales = torch.tensor([0.25, 3.0])
    torch.testing.assert_close(mse_scales(codes * scales[:, None], -7, 7), scales, rtol=1e-2, atol=0)


def test_binary_scale_is_the_mean_magnitude() -> None:
    torch.testing.assert_close(mse_scales(torch.tensor([[1.0, -3.0]]), -1, 1, binary=True), torch.tensor([2.0]))


def test_rows_of_zeros_get_a_usable_scale() -> None:
    values = torch.tensor([[0.0, 0.0], [1.0, -7.0]])
    scales = mse_scales(values, -7, 7)
    assert float(scales[0]) == float(scales[1]) > 0
    assert float(mse_scales(torch.zeros(1, 4), 0, 15)) == 1.0
