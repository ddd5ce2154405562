"""What a goal is: what the flow asks of it, in this order."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Protocol

from cimq.policy_search.judge import Judge, Trained
from cimq.policy_search.reward import AnyReward
from cimq.policy_search.space import Pairs, SearchSpace
from cimq.policy_search.trials import Trials

# A uniform policy with a damage of up to this many targets may be better after training, even if it does not look it.
_NEAR = 1.25
_MOST_NEAR = 2


@dataclasses.dataclass(frozen=True)
class Aim:
    """What the uniform policies say of where the search is to look.

    Attributes:
        damage: Of the uniform policies.
        incumbent: The uniform policy that the search must beat; it is trained.
        target: The damage that matters: up to which the constraint is expected to hold, or of the incumbent.
    """

    damage: Mapping[Pairs, float]
    incumbent: Pairs
    target: float


class Goal(Protocol):
    """What is wanted, and which policies are trained for it."""

    def uniform(self, space: SearchSpace, limit: int) -> dict[tuple[int, int], Pairs]:
        """The uniform policies that are measured, see `uniform_grid`."""
        ...

    def aim(self, trials: Trials, uniform: Sequence[Pairs], judge: Judge) -> Aim:
        """Measures the uniform policies, and trains those of them that tell where to look."""
        ...

    def reward(self, target: float) -> AnyReward:
        """What the strategy makes large."""
        ...

    def train_finalists(self, trials: Trials, judge: Judge, aim: Aim, count: int) -> None:
        """Trains at most so many candidates, and the uniform policies that could be better."""
        ...

    def chosen(self, judge: Judge, space: SearchSpace) -> Trained | None:
        """The best of what was trained; None where nothing is what was asked for."""
        ...


def near_uniform(aim: Aim, judge: Judge, allowed: Sequence[Pairs]) -> list[Pairs]:
    """Uniform policies that were not trained and are hardly more damaged than the target, the least damaged first.

    Damages tell only so much of what training repairs.

    Args:
        aim: Their damages, and the target.
        judge: Knows what was trained.
        allowed: Those that may be taken.
    """
    near = [p for p in allowed if p not in judge.trained and aim.damage[p] <= _NEAR * aim.target]
    return sorted(near, key=lambda policy: aim.damage[policy])[:_MOST_NEAR]
