"""Candidates measured side by side, by workers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from cimq.policy_search.evaluators.evaluator import Evaluator, Measured
from cimq.policy_search.space import Pairs
from cimq.policy_search.workers import Call, Pool


class OneByOne:
    """The tool of a worker: an evaluator that is asked for one policy at a time."""

    def __init__(self, evaluator: Evaluator) -> None:
        self._evaluator = evaluator

    def measured(self, policy: Pairs) -> Measured:
        """What is found of one policy."""
        (found,) = self._evaluator.measure([policy])
        return found


class SideBySide:
    """An evaluator whose policies are measured by workers.

    Args:
        pool: The workers.
        tool: Name of a `OneByOne` that they have.
    """

    def __init__(self, pool: Pool, tool: str) -> None:
        self._pool = pool
        self._tool = tool

    def measure(self, policies: Sequence[Pairs]) -> Iterator[Measured]:
        """All side by side; given in their order, each as soon as it and those before it are known."""
        tickets = self._pool.submit([Call(self._tool, "measured", (policy,)) for policy in policies])
        return map(self._pool.result, tickets)
