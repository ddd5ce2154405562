"""Regularised evolution: a population that ages, started from the knapsack's front (Real et al., arXiv 1802.01548)."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Sequence

from cimq.policy_search.axes import Axes
from cimq.policy_search.records import Evaluation
from cimq.policy_search.space import Pairs, Row
from cimq.policy_search.strategies.knapsack import Knapsack
from cimq.policy_search.strategies.random import Random
from cimq.policy_search.strategies.strategy import Proposal, StrategyTask

_POPULATION = 24
_TOURNAMENT = 5
_CROSSOVER = 0.3
# The first population takes this share of the evaluations at most.
_FIRST_SHARE = 0.25
# Children that are known already, in a row, after which nothing new is expected.
_STALE_CHILDREN = 1000


class Evolution:
    """The best of a few policies drawn from the population has a child; the oldest of the population dies.

    A child has its parent's bits, or slot by slot those of one of two parents, with one or two slots changed; where
    that costs more than it may, as many more as it takes.
    """

    def __init__(self, task: StrategyTask) -> None:
        self._task = task
        self._numbers = random.Random(f"evolution {task.seed}")
        self._start = Random(task) if task.sensitivities is None else Knapsack(task)
        self._first = 0  # how many of the first population were proposed
        self._known: dict[Pairs, Evaluation] = {}
        self._population: deque[Evaluation] | None = None
        self._queue: list[Proposal] = []  # the rest of a batch

    def propose(self, count: int) -> list[Proposal]:
        """The first population, then batches of children; none where no child is new."""
        if self._population is None:
            left = self._first_left
            proposals = self._start.propose(min(count, left)) if left > 0 else []
            self._first += len(proposals)
            if proposals:
                return proposals
            self._population = self._best_known()
        if not self._queue:
            self._queue = self._children(self._population)
        proposals, self._queue = self._queue[:count], self._queue[count:]
        return proposals

    def observe(self, results: Sequence[Evaluation]) -> None:
        """Adds children to the population; what others measured is in the first one, if it is good enough."""
        new = [result for result in results if result.policy not in self._known]
        self._known.update((result.policy, result) for result in new)
        if self._population is None:
            self._start.observe(results)
            return
        self._population.extend(new)
        while len(self._population) > _POPULATION:
            self._population.popleft()

    @property
    def _first_left(self) -> int:
        budget = self._task.budget
        return min(_POPULATION, max(2, int(_FIRST_SHARE * budget.limit))) - self._first

    def _best_known(self) -> deque[Evaluation]:
        """The best of all that the space holds, the best last: it dies last."""
        held = [known for known in self._known.values() if self._task.space.contains(known.policy)]
        best = sorted(held, key=lambda known: (-known.reward, known.index))[:_POPULATION]
        return deque(reversed(best))

    def _children(self, population: deque[Evaluation]) -> list[Proposal]:
        proposals: list[Proposal] = []
        asked = set(self._known)
        for _ in range(_STALE_CHILDREN):
            child = self._child(population)
            if child not in asked:
                asked.add(child)
                proposals.append(Proposal(child, "evolution"))
                if len(proposals) == self._task.batch:
                    break
        return proposals

    def _child(self, population: deque[Evaluation]) -> Pairs:
        space, numbers = self._task.space, self._numbers
        parent = self._parent(population)
        other = self._parent(population) if numbers.random() < _CROSSOVER else parent
        canonical = (space.canonical(parent), space.canonical(other))
        genes = [canonical[numbers.random() < 0.5][slot.layers[0]] for slot in space.slots]
        free = [index for index, slot in enumerate(space.slots) if len(slot.pairs) > 1]
        for index in numbers.sample(free, min(len(free), numbers.choice((1, 2)))):
            genes[index] = numbers.choice(_next_to(genes[index], space.slots[index].pairs, space.axes))
        return self._task.fitting(space.assigned(genes))

    def _parent(self, population: deque[Evaluation]) -> Pairs:
        drawn = [self._numbers.randrange(len(population)) for _ in range(_TOURNAMENT)]
        return max((population[position] for position in drawn), key=lambda known: known.reward).policy


def _next_to(row: Row, rows: Sequence[Row], axes: Axes) -> list[Row]:
    """Rows that differ in one number, which is the next smaller or larger, or in the mapping; all others else."""
    values, every = axes.values(row), [axes.values(other) for other in rows]
    near = []
    for axis, value in enumerate(values):
        options = sorted({other[axis] for other in every})
        place = options.index(value)
        steps = range(len(options)) if axis == axes.mapping_axis else (place - 1, place + 1)
        near += [
            axes.row((*values[:axis], options[step], *values[axis + 1 :]))
            for step in steps
            if 0 <= step < len(options) and step != place
        ]
    return [other for other in near if other in rows] or [other for other in rows if other != row]
