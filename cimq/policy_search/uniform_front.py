"""The uniform policies, which a search must beat: the same bits everywhere, with widths that cost nothing widened."""

from __future__ import annotations

import math

from cimq.policy_search.space import Pairs, SearchSpace

REFERENCE_BITS = 8
_CENTRE = 4.4  # 4 before 5 before 3


def uniform_grid(space: SearchSpace, limit: int, gain: float | None = None) -> dict[tuple[int, int], Pairs]:
    """Uniform policies by (weight bits, activation bits), 8 bits everywhere first, then those with the most bits.

    Of pairs that give one policy, since a layer has wider weights for nothing, one with equal bits is named before the
    one with the most bits.

    Args:
        space: What may be chosen; 8 bits everywhere are there anyway.
        limit: Policies that there may be, at least 1: where there are more, those with equal bits for weights and
            activations come first, and of these the ones near 4 bits.
        gain: Where there are more, those with about this gain come first, and before all the next one that has it.
    """
    eight: Pairs = ((REFERENCE_BITS, REFERENCE_BITS),) * len(space.shapes)
    grid: dict[tuple[int, int], Pairs] = {(REFERENCE_BITS, REFERENCE_BITS): eight}
    # Equal bits first, then most bits first: the order in which a policy is named.
    pairs = [(w, a) for w in reversed(space.weight_widths) for a in reversed(space.act_widths)]
    for pair in sorted(pairs, key=lambda pair: pair[0] != pair[1]):
        policy = space.canonical(space.uniform(*pair))
        if policy not in grid.values() and space.gain(policy) > 1:
            grid[pair] = policy
    reference, *others = grid
    if gain is None:
        others.sort(key=lambda pair: (pair[0] != pair[1], abs(pair[0] - _CENTRE)))
    else:
        away = {pair: math.log(space.gain(grid[pair]) / gain) for pair in others}
        within = min((pair for pair in others if away[pair] >= 0), key=away.__getitem__, default=None)
        others.sort(key=lambda pair: (pair != within, abs(away[pair])))
    kept = [reference, *others][: max(1, limit)]
    return {pair: grid[pair] for pair in sorted(kept, reverse=True)}


def name_of(pair: tuple[int, int]) -> str:
    """A uniform policy's name in results."""
    weight, act = pair
    return f"uniform {weight}-bit" if weight == act else f"uniform W{weight}A{act}"


def target_between(within: tuple[float, float], beyond: tuple[float, float], wanted: float) -> float:
    """Damage at which the accuracy drop is expected to be `wanted`, on a straight line between two policies.

    Args:
        within: (damage, drop) of a policy that satisfies the constraint.
        beyond: The same of one that does not.
        wanted: The largest drop.
    """
    (near, small), (far, large) = within, beyond
    if not (far > near and large > small):
        return near
    return near + (far - near) * min(1.0, max(0.0, (wanted - small) / (large - small)))
