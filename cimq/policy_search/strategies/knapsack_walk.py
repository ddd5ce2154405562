"""Where on the path of an additive model the accuracy target lies."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from cimq.policy_search.cost_limit import CostLimit
from cimq.policy_search.records import Evaluation
from cimq.policy_search.space import Pairs
from cimq.policy_search.strategies.strategy import Proposal

# Near the target, on both sides.
NEAR = (0, 1, -1, 2, -2, 3)


class KnapsackWalk:
    """Bisects a path for its fastest policy within the target, then looks at its neighbours.

    Args:
        path: From the most accurate to the fastest; see `knapsack_path`.
        evaluations: New policies that may be proposed.
        steps: Where neighbours are, counted from the fastest policy within the target towards faster ones.
        limit: What policies may cost. Where that is given nothing is bisected: what counts is the least damage, and
            the neighbours are those of the slowest policy that fits.
    """

    def __init__(
        self, path: Sequence[Pairs], evaluations: int, steps: Iterable[int] = NEAR, limit: CostLimit | None = None
    ) -> None:
        self._path = path if limit is None else limit.within(path)
        self._left = evaluations
        self._steps = steps
        # path[low] is taken as feasible, path[high] as not.
        self._low, self._high = 0, len(path) if limit is None else 1
        self._looked: dict[int, None] = {}  # positions on the path, in the order in which they were asked for
        self._known: dict[Pairs, Evaluation] = {}
        self._neighbours: list[int] | None = None  # that are still to be looked at, once the bisection is over

    def propose(self, count: int) -> list[Proposal]:
        """One policy of the bisection, or several neighbours."""
        if self._neighbours is None:
            middle = self._bisect()
            if middle is not None:
                return [self._new(middle)]
            positions = (self._low + step for step in self._steps)
            self._neighbours = [position for position in positions if 0 <= position < len(self._path)]
        proposals: list[Proposal] = []
        while self._neighbours and len(proposals) < count:
            position = self._neighbours.pop(0)
            if self._path[position] in self._known:
                self._looked[position] = None
            elif self._left > 0:
                proposals.append(self._new(position))
        return proposals

    def observe(self, results: Sequence[Evaluation]) -> None:
        """Takes in what is known of any policy."""
        self._known.update((result.policy, result) for result in results)

    @property
    def best(self) -> Evaluation | None:
        """The evaluation on the path with the largest reward, the first of equals; None where there is none."""
        seen = (self._known.get(self._path[position]) for position in self._looked)
        return max((evaluation for evaluation in seen if evaluation), key=lambda e: e.reward, default=None)

    def _bisect(self) -> int | None:
        """The position that must be measured next; None at the end, or where no more may be measured."""
        while self._high - self._low > 1:
            middle = (self._low + self._high) // 2
            found = self._known.get(self._path[middle])
            if found is None:
                return middle if self._left > 0 else None
            self._looked[middle] = None
            self._low, self._high = (middle, self._high) if found.feasible else (self._low, middle)
        return None

    def _new(self, position: int) -> Proposal:
        self._left -= 1
        self._looked[position] = None
        return Proposal(self._path[position], "warm start")
