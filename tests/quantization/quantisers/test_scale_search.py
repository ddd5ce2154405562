from __future__ import annotations

import pytest
import torch

import cimq
from cimq.mapping import act_range, weight_range
from cimq.quantization.quantisers.cell_moments import weight_moments
from cimq.quantization.quantisers.kinds import calibrated_weight
from cimq.quantization.quantisers.scale_search import binary_scales, mse_scales


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
    torch.testing.assert_close(binary_scales(torch.tensor([[1.0, -3.0]])), torch.tensor([2.0]))


def test_rows_of_zeros_get_a_usable_scale() -> None:
    values = torch.tensor([[0.0, 0.0], [1.0, -7.0]])
    scales = mse_scales(values, -7, 7)
    assert float(scales[0]) == float(scales[1]) > 0
    assert float(mse_scales(torch.zeros(1, 4), 0, 15)) == 1.0


NOISY = cimq.Hardware.preset("paper-2b").replace(cell={"programming": {"model": "gaussian", "sigma_levels": 0.2}})


@pytest.mark.parametrize("mapping", ["differential_column", "differential_row", "offset"])
@pytest.mark.parametrize("bits", [1, 2, 4])
def test_moments_are_those_of_the_cells(bits: int, mapping: str) -> None:
    mean, square = weight_moments(NOISY.replace(mapping=mapping), bits)  # type: ignore[misc]
    largest = weight_range(bits)[1]
    integers = torch.arange(-largest, largest + 1, dtype=torch.float64)
    torch.testing.assert_close(mean, integers, rtol=0, atol=0.1 * sum(4**s for s in range(-(-bits // 2))))
    # Slices of two bits: 4^s times the variance of one or two cells, less where a level of 0 cannot go lower.
    most = 2 * 0.2**2 * sum(16**s for s in range(-(-bits // 2)))
    used = integers != 0 if bits == 1 else integers == integers
    variance = (square - mean**2)[used]
    assert bool((variance > 0.2 * most / 2).all() and (variance < 1.1 * most).all())
    assert weight_moments(cimq.Hardware.preset("paper-2b"), bits) is None


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_scale_for_cells_that_vary_is_as_good_as_a_fine_search(bits: int) -> None:
    values = torch.randn(4, 2000, generator=torch.Generator().manual_seed(0))
    low, high = weight_range(bits)
    moments = weight_moments(NOISY, bits)
    assert moments is not None

    def error(scale: torch.Tensor) -> torch.Tensor:
        s = scale.double()[:, None]
        q = torch.round(values.double() / s).clamp(low, high)
        q = torch.where(values > 0, 1.0, -1.0) if bits == 1 else q
        mean, square = (m[(q - low).long()] for m in moments)
        return (values**2 - 2 * s * values * mean + s * s * square).sum(1)

    found = calibrated_weight(values, bits, moments).scale
    plain = calibrated_weight(values, bits, None).scale
    best = torch.stack([error(plain * ratio) for ratio in torch.linspace(0.2, 1.5, 200)]).amin(0)
    assert bool((error(found) <= best * 1.01).all())
    assert bits == 1 or bool((error(found) < error(plain)).all())


def test_a_prepared_layer_searches_for_its_cells() -> None:
    linear = torch.nn.Linear(64, 8)
    plain, noisy = (
        cimq.prepare(linear, cimq.Policy.uniform(8, 8), hw, example_inputs=torch.rand(1, 64))
        for hw in (cimq.Hardware.preset("paper-2b"), NOISY)
    )
    assert bool((noisy.weight_scale < plain.weight_scale).all())
