"""The search for the scale with the smallest mean squared error."""

from __future__ import annotations

import torch
from torch import Tensor

# Scales below this are taken as this: a division by the scale must stay finite in float32.
SMALLEST_SCALE = 1e-8


@torch.no_grad()
def mse_scales(values: Tensor, qmin: int, qmax: int, *, moments: tuple[Tensor, Tensor] | None = None) -> Tensor:
    """Per row, the scale s that minimises sum((v - s * clamp(rint(v / s), qmin, qmax))^2).

    With `moments` the expectation of the same where the integers are held by cells that vary: more values are then cut
    off, as what is left is larger against the variation.

    A geometric grid below the scale that clips nothing, then a finer grid around its best. The error of a candidate
    comes from sorted values and their prefix sums, so its cost does not grow with the number of values.

    Args:
        values: Finite values [rows, n].
        qmin: Smallest integer.
        qmax: Largest integer.
        moments: Mean and mean square of what is held for each of qmin..qmax, see `weight_moments`.

    Returns:
        Scales, float32 [rows], positive. A row of zeros gets the mean scale of the other rows (1 if there is none).

    Example:
        >>> mse_scales(torch.tensor([[0.0, 1.0, 2.0, 3.0]]), 0, 3)
        tensor([1.])
    """
    values = values.detach().to(torch.float32)
    low = values.amin(dim=1)
    high = values.amax(dim=1)
    largest = high / max(qmax, 1)
    if qmin < 0:
        largest = torch.maximum(largest, low / qmin)
    if moments is None:
        if qmin == -qmax:  # symmetric: half of the boundaries do
            values, qmin = values.abs(), 0
        exact = torch.arange(qmin, qmax + 1, dtype=torch.float64)
        moments = exact, exact * exact
    ordered = values.sort(dim=1).values.contiguous()
    # On the CPU: CUDA adds them up in an order that changes from run to run, which deterministic algorithms refuse.
    prefixes = ordered.cpu().double().cumsum(dim=1).to(ordered.device)
    sums = torch.nn.functional.pad(prefixes, (1, 0))
    usable = largest.clamp_min(torch.finfo(torch.float32).tiny)

    coarse = torch.logspace(-1.7, 0.0, 16, dtype=torch.float64)
    best = _best_ratio(ordered, sums, usable, coarse.expand(len(values), -1), qmin, moments)
    for width in (0.14, 0.035):
        fine = best[:, None] * torch.linspace(1 - width, 1 + width, 5, dtype=torch.float64, device=best.device)
        best = _best_ratio(ordered, sums, usable, fine, qmin, moments)
    scales = (best * usable.double()).float()
    return _fill_empty_rows(torch.where(largest > 0, scales, torch.zeros_like(scales)))


@torch.no_grad()
def binary_scales(values: Tensor, moments: tuple[Tensor, Tensor] | None = None) -> Tensor:
    """The same where the integers are -1 and +1 alone: the optimum is mean(|v|) (Rastegari et al., 2016).

    Example:
        >>> binary_scales(torch.tensor([[1.0, -3.0]]))
        tensor([2.])
    """
    values = values.detach().to(torch.float32)
    scales = values.abs().mean(dim=1)
    if moments is not None:
        mean, square = (m.to(values.device) for m in moments)
        # sum(v * m(v)) / sum(q(v)): the least squares of v against s * held, with the sign of v written to the cell
        held = torch.where(values > 0, mean[-1], mean[0])
        power = torch.where(values > 0, square[-1], square[0])
        scales = ((values * held).sum(dim=1) / power.sum(dim=1)).clamp_min(0).float()
    return _fill_empty_rows(scales)


def _best_ratio(
    ordered: Tensor, sums: Tensor, largest: Tensor, ratios: Tensor, qmin: int, moments: tuple[Tensor, Tensor]
) -> Tensor:
    """For each row the ratio s / largest with the smallest error; the first one where several are equal."""
    n = ordered.shape[1]
    mean, square = (m.to(ordered.device) for m in moments)
    steps = qmin + torch.arange(1, len(mean), dtype=torch.float64, device=ordered.device)
    best_error = torch.full((len(ordered),), float("inf"), dtype=torch.float64, device=ordered.device)
    best = torch.ones_like(best_error)
    for column in range(ratios.shape[1]):
        ratio = ratios[:, column].to(ordered.device)
        scale = ratio * largest.double()
        boundaries = ((steps - 0.5) * scale[:, None]).float()
        below = torch.searchsorted(ordered, boundaries.contiguous())
        # sum(m * v) and sum(q) over all values, m and q the moments of the integer of v: each boundary passed adds
        # their difference to the next integer.
        sum_mv = mean[0] * sums[:, -1] + ((sums[:, -1:] - sums.gather(1, below)) * mean.diff()).sum(dim=1)
        sum_q = square[0] * n + ((n - below) * square.diff()).sum(dim=1)
        error = scale * scale * sum_q - 2 * scale * sum_mv
        better = error < best_error
        best_error = torch.where(better, error, best_error)
        best = torch.where(better, ratio, best)
    return best


def _fill_empty_rows(scales: Tensor) -> Tensor:
    used = scales > 0
    typical = scales[used].mean() if bool(used.any()) else torch.ones((), device=scales.device)
    return torch.where(used, scales, typical).clamp_min(SMALLEST_SCALE)
