"""What the user sees while a search runs: one bar over all of it."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tqdm import tqdm

from cimq.policy_search.costs import Costs, Size
from cimq.policy_search.durations import spoken
from cimq.policy_search.records import Evaluation

CALIBRATION, SHARED, UNIFORM, STRATEGY, FINALISTS = (
    "calibration", "shared training", "uniform policies", "strategy", "finalists"
)  # fmt: skip
STAGES = (CALIBRATION, SHARED, UNIFORM, STRATEGY, FINALISTS)
# Of the expected time must have passed before what it really took corrects what is left.
_ENOUGH = 0.02


class Progress:
    """A bar over the expected time of a search: stage, best feasible policy, share of feasible ones, time left.

    Attributes:
        stage: Where the search is.

    Args:
        shown: False shows nothing.
        by_damage: Whether the best one is the least damaged, not the fastest.
        clock: Gives seconds.
    """

    def __init__(self, shown: bool, clock: Callable[[], float] = time.monotonic, *, by_damage: bool = False) -> None:
        self._bar = tqdm(
            total=1.0, desc="search", disable=not shown, bar_format="{desc} |{bar}| {percentage:3.0f}%{postfix}"
        )
        self._clock = clock
        self._expected = dict.fromkeys(STAGES, 0.0)  # seconds
        self._shared_steps = self._evaluations = self._seen = self._feasible = 0
        self._by_damage = by_damage
        self._best: Evaluation | None = None
        self._began = clock()
        self._done = 0.0  # share of the stage
        self._resumed = False
        self.stage = CALIBRATION

    def plan(self, size: Size, costs: Costs, uniform_share: float, resumed: bool = False) -> None:
        """Takes in what is to be done; time counts from now.

        Args:
            size: How much.
            costs: What it takes.
            uniform_share: Of the evaluations, for uniform policies.
            resumed: What was done before takes no time now, and says nothing of the rest.
        """
        seconds = costs.stages(size)
        finalists = seconds["finalists"]
        self._expected = {
            CALIBRATION: 0.0,
            SHARED: seconds["shared training"],
            UNIFORM: seconds["uniform policies"] + uniform_share * seconds["evaluations"],
            STRATEGY: (1 - uniform_share) * seconds["evaluations"],
            FINALISTS: finalists,
        }
        self._shared_steps = size.shared_epochs * int(costs.steps(size.train_batches))
        self._evaluations = size.evaluations
        self._resumed = resumed
        self._began = self._clock()

    def stepped(self, step: int) -> None:
        """A step of the shared training begins, the first is 0."""
        self._at(SHARED, step / max(1, self._shared_steps))

    def evaluated(self, evaluation: Evaluation) -> None:
        """Takes in one more evaluation."""
        self._seen += 1
        if evaluation.feasible:
            self._feasible += 1
            if self._best is None or self._rank(evaluation) < self._rank(self._best):
                self._best = evaluation
        uniform = evaluation.strategy == "baseline"
        self._at(UNIFORM if uniform else STRATEGY, 0.9 if uniform else self._seen / max(1, self._evaluations))

    @contextmanager
    def training(self) -> Iterator[None]:
        """A policy is being trained: one of the uniform ones until there are evaluations, then a finalist."""
        self._at(FINALISTS if self._seen else UNIFORM, self._done if self.stage in (FINALISTS, UNIFORM) else 0.0)
        yield
        steps = 0.15 if self.stage == UNIFORM else 0.25
        self._at(self.stage, min(0.9, self._done + steps))

    @property
    def left(self) -> float | None:
        """Seconds that are left, as far as is known."""
        total = sum(self._expected.values())
        if total <= 0:
            return None
        passed, expected = self._clock() - self._began, self._passed()
        pace = passed / expected if expected > _ENOUGH * total else 1.0
        return (max(1.0, pace) if self._resumed else pace) * (total - expected)

    def say(self, text: str) -> None:
        """Writes a line above the bar."""
        if not self._bar.disable:
            self._bar.write(text, file=sys.stderr)

    def close(self) -> None:
        """Ends the bar."""
        self._bar.close()

    def __str__(self) -> str:
        parts = []
        if self._best is not None:
            damage = f" with damage {self._best.damage:.3g}" if self._by_damage else ""
            parts.append(f"best {self._best.speedup:.3f}x{damage}")
        if self._seen:
            parts.append(f"{self._seen} evaluations, {100 * self._feasible / self._seen:.0f}% feasible")
        if self.left is not None:
            parts.append(f"{spoken(self.left)} left")
        return ", ".join(parts)

    def _rank(self, evaluation: Evaluation) -> float:
        return evaluation.damage if self._by_damage else evaluation.cost

    def _passed(self) -> float:
        """Of the expected seconds, those of what is done."""
        before = STAGES.index(self.stage)
        return sum(self._expected[name] for name in STAGES[:before]) + self._done * self._expected[self.stage]

    def _at(self, stage: str, done: float) -> None:
        self.stage, self._done = stage, min(1.0, done)
        if self._bar.disable:
            return
        total = sum(self._expected.values())
        self._bar.set_description_str(f"search: {stage}", refresh=False)
        self._bar.set_postfix_str(str(self), refresh=False)
        self._bar.update(max(0.0, (self._passed() / total if total else 0.0) - self._bar.n))
