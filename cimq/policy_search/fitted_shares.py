"""Shares of slots whose sum comes near to a cost that is no sum: fitted to the costs of drawn policies.

A slot takes what the closed form says, times a factor that is the same for all; how much more or less its MVMs, its
crossbars and its input vectors count is learned from the policies, as far as they say so clearly (a ridge regression
around the closed form, in shares of the cost, without negative terms). Changing one slot's bits alone says little where
layers overlap: the time of a program is then that of its slowest layers.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from cimq.policy_search.axes import Pairs
from cimq.policy_search.prices import Part, Shares
from cimq.policy_search.rank_correlation import spearman

# Terms of a slot, by its bits: the first is what the closed form has of it.
Terms = dict[tuple[int, int], tuple[float, ...]]

_POLICIES = 256
# How far terms are held to the closed form: what ranks policies best that are left out of the fit, a part at a time.
_RIDGES = (100.0, 1.0, 0.3, 0.1, 0.01, 0.001, 0.0001)
_PARTS = 8
_SWEEPS = 100
# Bits of a policy about a common width are off by so much.
_AROUND = 1.5


def drawn_policies(parts: Sequence[Part], count: int = _POLICIES) -> list[Pairs]:
    """Policies of a space: every second one with any bits, the others with bits about a common width."""
    numbers = random.Random("shares")
    layers = sum(len(part) for part, _ in parts)
    widths = [pair for _, options in parts for pair in options]
    low, high = min(map(min, widths)), max(map(max, widths))
    policies = []
    for number in range(count):
        rows: list[tuple[int, int]] = [(0, 0)] * layers
        width = numbers.uniform(low, high)
        for part, options in parts:
            weight, act = (width + numbers.uniform(-_AROUND, _AROUND) for _ in range(2))
            near = min(options, key=lambda pair: abs(pair[0] - weight) + abs(pair[1] - act))
            chosen = near if number % 2 else numbers.choice(options)
            for layer in part:
                rows[layer] = chosen
        policies.append(tuple(rows))
    return policies


def fitted_shares(parts: Sequence[Part], terms: Sequence[Terms], cost: Callable[[Pairs], int]) -> list[Shares]:
    """Shares of every slot, positive.

    Args:
        parts: The slots.
        terms: What their shares are made of.
        cost: Of a policy.
    """
    policies = drawn_policies(parts)
    costs = torch.tensor([cost(policy) for policy in policies], dtype=torch.float64)
    rows = [[v for (part, _), own in zip(parts, terms, strict=True) for v in own[p[part[0]]]] for p in policies]
    # In shares of the cost: a policy that takes twice as long may be off by twice as much.
    matrix = torch.cat([torch.tensor(rows, dtype=torch.float64), torch.ones(len(policies), 1)], 1) / costs[:, None]
    each = (matrix.shape[1] - 1) // len(parts)
    found: list[float] = _fit(matrix, each, _best_ridge(matrix, costs, each)).tolist()
    *own, constant = found

    def share(slot: int, values: Sequence[float]) -> int:
        factors = own[slot * each : (slot + 1) * each]
        return max(1, round(constant / len(parts) + sum(f * v for f, v in zip(factors, values, strict=True))))

    return [{pair: share(slot, values) for pair, values in own_terms.items()} for slot, own_terms in enumerate(terms)]


def _closed_form(matrix: Tensor, each: int) -> Tensor:
    """One factor for the first terms of all slots, and a constant, neither below 0."""
    first = matrix[:, :-1:each].sum(1)
    both = torch.stack([first, matrix[:, -1]], 1)
    ones = torch.ones(len(both), 1, dtype=torch.float64)
    factor, constant = torch.linalg.lstsq(both, ones).solution.flatten().tolist()
    if constant < 0 or factor < 0:
        factor, constant = float(first.sum() / first.square().sum()), 0.0
    found = torch.zeros(matrix.shape[1], dtype=torch.float64)
    found[:-1:each] = factor
    found[-1] = constant
    return found


def _best_ridge(matrix: Tensor, costs: Tensor, each: int) -> float:
    """By policies with any bits: of the others their common width tells most."""
    part = torch.arange(len(matrix)) // 2 % _PARTS
    any_bits = torch.arange(len(matrix)) % 2 == 0

    def agreement(ridge: float) -> float:
        told = torch.zeros(len(matrix), dtype=torch.float64)
        for number in range(_PARTS):
            left_out = part == number
            start, scale, gram, wanted = _equations(matrix[~left_out], each, ridge)
            told[left_out] = matrix[left_out] @ (start + torch.linalg.solve(gram, wanted) / scale)
        return spearman((told * costs)[any_bits].tolist(), costs[any_bits].tolist())

    return max(_RIDGES, key=agreement)


def _equations(matrix: Tensor, each: int, ridge: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The closed form, the scale of the terms, and what their scaled changes solve to make ones."""
    start = _closed_form(matrix, each)
    scale = matrix.square().mean(0).sqrt() + 1e-300
    scaled = matrix / scale
    gram = scaled.T @ scaled / len(matrix)
    gram.diagonal().add_(ridge)
    return start, scale, gram, scaled.T @ (1 - matrix @ start) / len(matrix)


def _fit(matrix: Tensor, each: int, ridge: float) -> Tensor:
    """Factors of the terms that make ones, near the closed form and not below 0; one is changed at a time."""
    start, scale, gram, wanted = _equations(matrix, each, ridge)
    least = (-start * scale).tolist()
    change = torch.zeros_like(start)
    for _ in range(_SWEEPS):
        for j, low in enumerate(least):
            change[j] += (wanted[j] - gram[j] @ change) / gram[j, j]
            change[j].clamp_(min=low)
    return start + change / scale
