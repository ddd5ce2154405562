"""A budget on cost: policies that are at least so much faster, or need so much less energy, than 8 bits everywhere."""

from __future__ import annotations

import bisect
import math
from collections.abc import Callable, Sequence

from cimq.policy_search.knapsack import PolicyFront
from cimq.policy_search.space import Pairs, Row, SearchSpace

# Distances are small whole numbers: few sums differ.
_STATES = 1024
_FASTEST = {
    "latency": "the fastest policy has a speed-up of",
    "energy": "the policy with the least energy has a saving of",
    "energy_delay": "for the policy with the least energy and time the root of saving and speed-up is",
}


class CostLimit:
    """What a policy may cost at most.

    Attributes:
        space: The search space.
        gain: The least `SearchSpace.gain` that a policy must have.
        cost: The largest sum of the slots' costs at which it has that for certain; where costs are no sums, at which
            policies have it as a rule.

    Args:
        space: As above.
        gain: As above.

    Raises:
        ValueError: If no policy of the space has it; names the largest gain that there is.

    Example:
        >>> from cimq.cost_model import LayerShape
        >>> space = SearchSpace([LayerShape(n, "linear", 512, 512, 1) for n in ("a", "b", "c")], first_last_bits=None)
        >>> limit = CostLimit(space, 1.9)
        >>> limit.fits(((8, 8),) * 3), limit.fits(limit.nearest(((8, 8),) * 3))
        (False, True)
    """

    def __init__(self, space: SearchSpace, gain: float) -> None:
        reach = space.gain(space.fastest)
        if reach < gain:
            fastest = _FASTEST[space.objective] if space.prices.sums else "the policy with the fewest bits has"
            raise ValueError(
                f"search: min_speedup={gain:g} is out of reach: {fastest} "
                f"{math.floor(1000 * reach) / 1000:.3f} with bits={space.bits}, first_last_bits="
                f"{space.first_last_bits}, weight_multiple_of_cell, groups, adc_bits and mappings as given"
            )
        self.space = space
        self.gain = gain
        least = sum(min(slot.cost[pair] for pair in slot.pairs) for slot in space.slots)
        self.cost = max(least, space.cost_at(gain) if space.prices.sums else self._cost_of_fitting())

    def _cost_of_fitting(self) -> int:
        """Of the slowest policy that fits along a front on which all layers are alike."""
        front = PolicyFront(self.space, lambda _, pair: 4.0 ** -pair[0] + 4.0 ** -pair[1], _STATES)
        last = bisect.bisect_right(range(len(front.costs)), 0, key=lambda point: not self.fits(front.policy(point)))
        return front.costs[max(0, last - 1)]

    def fits(self, policy: Pairs) -> bool:
        """Whether a policy is within the budget."""
        return self.space.gain(policy) >= self.gain

    def least(self, damage: Callable[[int, Row], float], states: int = _STATES) -> Pairs:
        """The policy within the budget with the least sum of `damage(index, row)` over the slots.

        Args:
            damage: Of slot `index` under a row.
            states: See `cimq._C.KnapsackFront`.
        """
        front = PolicyFront(self.space, damage, states)
        point = bisect.bisect_right(front.costs, self.cost) - 1
        while point > 0 and not self.fits(front.policy(point)):
            point -= 1
        policy = front.policy(max(0, point))
        return policy if self.fits(policy) else self.space.fastest

    def nearest(self, policy: Pairs) -> Pairs:
        """The policy itself where it fits; else the one that fits with the fewest bits changed."""
        if self.fits(policy):
            return policy
        slots = self.space.slots

        def changed(index: int, row: Row) -> float:
            return self.space.axes.distance(row, policy[slots[index].layers[0]])

        return self.least(changed)

    def within(self, path: Sequence[Pairs]) -> list[Pairs]:
        """Those of some policies that fit; the fastest of all where none does."""
        return [policy for policy in path if self.fits(policy)] or [self.space.fastest]
