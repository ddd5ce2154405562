"""What slots take of the cost of a policy under an objective: whole numbers that knapsacks add up."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from cimq.policy_search.axes import Pairs
from cimq.policy_search.prices import Part, Prices, Shares

_MEAN_SCALE = 2**48  # of shares, so that integers hold them


class SlotShares:
    """Shares under an objective.

    Attributes:
        uniform8: What 8 bits everywhere have.

    Args:
        prices: What policies cost.
        objective: See `SearchSpace`.
        middle: The middle of the bit range everywhere, whose time and energy are taken as equally dear.
        eight: 8 bits everywhere.
    """

    def __init__(self, prices: Prices, objective: str, middle: Pairs, eight: Pairs) -> None:
        self._prices = prices
        self._objective = objective
        totals: dict[str, Callable[[Pairs], int]] = {"time": prices.time_ps, "energy": prices.energy_fj}
        self._counted = {"latency": ("time",), "energy": ("energy",)}.get(objective, ("time", "energy"))
        self._units = {name: totals[name](middle) for name in self._counted} if objective == "energy_delay" else {}
        self._eight = {name: totals[name](eight) for name in self._counted}
        self.uniform8 = self._together(self._eight)

    def of(self, parts: Sequence[Part]) -> list[Shares]:
        """Those of every slot."""
        found = {name: self._prices.shares(parts, name) for name in self._counted}
        return [
            {pair: self._together({name: shares[slot][pair] for name, shares in found.items()}) for pair in options}
            for slot, (_, options) in enumerate(parts)
        ]

    def at(self, gain: float) -> int:
        """The largest sum at which a policy has a gain, see `SearchSpace.cost_at`."""
        if self._objective == "energy_delay":
            time, energy = (self._eight[name] / self._units[name] for name in self._counted)
            return math.floor((1 - 1e-12) * _MEAN_SCALE * math.sqrt(time * energy) / gain)
        cost = math.floor(self.uniform8 / gain)  # of floats: the last place may be off
        return next(value for value in (cost + 1, cost, cost - 1) if self.uniform8 / value >= gain)

    def _together(self, costs: Mapping[str, int]) -> int:
        if self._objective != "energy_delay":
            return costs[self._counted[0]]
        return round(_MEAN_SCALE * sum(cost / self._units[name] for name, cost in costs.items()) / 2)
