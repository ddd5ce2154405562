"""The one way to measure a policy: cache, budget, reward, log. All strategies go through it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, Protocol

from cimq.policy_search.evaluation import Evaluation
from cimq.policy_search.log import EvaluationLog
from cimq.policy_search.reward import Reward
from cimq.policy_search.space import Pairs, SearchSpace


class Evaluator(Protocol):
    """Measures accuracy. `samples` is the size of the set that it measures on."""

    samples: int

    def accuracy(self, pairs: Pairs) -> float:
        """Accuracy of a policy; the same value whenever it is asked."""
        ...


class BudgetSpent(Exception):  # noqa: N818 - it ends a loop, it is no error
    """Raised where one more evaluation would exceed the budget."""


class Trials:
    """Evaluates policies within a budget.

    Args:
        space: Gives time and speed-up.
        evaluator: Gives the accuracy.
        budget: Evaluations allowed in all.
        log: Where they are recorded; what it holds already is not measured again.
        progress: Has `update(n)` and `set_postfix(...)`, e.g. a tqdm bar; None shows nothing.

    Raises:
        ValueError: If the budget is below 1.
    """

    def __init__(
        self,
        space: SearchSpace,
        evaluator: Evaluator,
        budget: int,
        log: EvaluationLog | None = None,
        progress: Any = None,
    ) -> None:
        if isinstance(budget, bool) or not isinstance(budget, int) or budget < 1:
            raise ValueError(f"search: evaluations must be an integer of at least 1, got {budget!r}")
        self.space = space
        self.evaluator = evaluator
        self.budget = budget
        self.evaluations: list[Evaluation] = []
        self._log = log or EvaluationLog(None, {})
        self._progress = progress
        self._reward: Reward | None = None
        self._cache: dict[Pairs, Evaluation] = {}
        self._measured: dict[Pairs, tuple[float, float]] = {
            entry.policy: (entry.accuracy, entry.seconds) for entry in self._log.recorded
        }

    @property
    def left(self) -> int:
        """Evaluations that the budget still allows."""
        return self.budget - len(self.evaluations)

    @property
    def reward(self) -> Reward:
        """The reward in use.

        Raises:
            RuntimeError: Before it is set.
        """
        if self._reward is None:
            raise RuntimeError("the reward of these trials is not set yet")
        return self._reward

    @reward.setter
    def reward(self, reward: Reward) -> None:
        self._reward = reward

    @property
    def best(self) -> Evaluation | None:
        """The evaluation with the largest reward so far, the first of equals."""
        return max(self.evaluations, key=lambda e: e.reward, default=None)

    def seen(self, pairs: Sequence[tuple[int, int]]) -> bool:
        """Whether evaluating this policy costs nothing."""
        return tuple(pairs) in self._cache

    def measure(self, pairs: Pairs) -> float:
        """Accuracy alone, kept for `evaluate`: for what must be known before the reward is."""
        if pairs not in self._measured:
            start = time.perf_counter()
            accuracy = float(self.evaluator.accuracy(pairs))
            if accuracy != accuracy:
                raise ValueError(f"search: the accuracy of {list(pairs)} is not a number")
            self._measured[pairs] = (accuracy, time.perf_counter() - start)
        return self._measured[pairs][0]

    def evaluate(self, pairs: Sequence[tuple[int, int]], strategy: str, episode: int | None = None) -> Evaluation:
        """Measures a policy, or returns what is known of it.

        Args:
            pairs: (weight bits, activation bits) per layer.
            strategy: Recorded as the proposer.
            episode: Recorded with it.

        Raises:
            BudgetSpent: If it is new and the budget is spent.
            ValueError: If the log that is resumed continues differently.
        """
        key: Pairs = tuple((int(weight), int(act)) for weight, act in pairs)
        if key in self._cache:
            return self._cache[key]
        if self.left <= 0:
            raise BudgetSpent
        index = len(self.evaluations)
        recorded = self._log.recorded[index] if index < len(self._log.recorded) else None
        if recorded is not None and recorded.policy != key:
            raise ValueError(
                f"search: the log's evaluation {index} is of another policy than the search now asks for; it was "
                "made by another version or on another machine and cannot be resumed"
            )
        accuracy = self.measure(key)
        speedup = self.space.speedup(key)
        evaluation = Evaluation(
            index,
            key,
            strategy,
            accuracy,
            self.space.time_us(key),
            speedup,
            self.reward(accuracy, speedup),
            self.reward.feasible(accuracy),
            self._measured[key][1],
            episode,
        )
        self._cache[key] = evaluation
        self.evaluations.append(evaluation)
        if recorded is None:
            self._log.append(evaluation)
        self._show(evaluation)
        return evaluation

    def _show(self, evaluation: Evaluation) -> None:
        if self._progress is None:
            return
        self._progress.update(1)
        feasible = [e.speedup for e in self.evaluations if e.feasible]
        if feasible:
            self._progress.set_postfix(fastest_feasible=f"{max(feasible):.3f}x", refresh=False)
