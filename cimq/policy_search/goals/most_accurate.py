"""The most accurate policy within a cost: `min_speedup`."""

from __future__ import annotations

from collections.abc import Sequence

from cimq.policy_search.cost_limit import CostLimit
from cimq.policy_search.goals.goal import Aim, near_uniform
from cimq.policy_search.judge import Judge, Trained
from cimq.policy_search.reward import LeastDamage
from cimq.policy_search.space import Pairs, SearchSpace
from cimq.policy_search.trials import Trials
from cimq.policy_search.uniform_front import uniform_grid


class MostAccurate:
    """Cost within a limit; of these the policy with the best accuracy after training.

    What a policy costs is known, so that nothing must be trained to find out where the limit lies.

    Args:
        limit: What a policy may cost.
    """

    def __init__(self, limit: CostLimit) -> None:
        self._limit = limit

    def uniform(self, space: SearchSpace, limit: int) -> dict[tuple[int, int], Pairs]:
        """Those near the limit first, and before all others one that is within."""
        return uniform_grid(space, limit, self._limit.gain)

    def aim(self, trials: Trials, uniform: Sequence[Pairs], judge: Judge) -> Aim:
        """Trains the least damaged that fits: from then on there is something to return."""
        damage = {policy: found.damage for policy, found in zip(uniform, trials.measured(uniform), strict=True)}
        within = [policy for policy in uniform if self._limit.fits(policy)]
        incumbent = min(within, key=lambda policy: (damage[policy], trials.space.cost(policy)))
        judge.trained_as(incumbent)
        return Aim(damage, incumbent, damage[incumbent])

    def reward(self, target: float) -> LeastDamage:
        """Little damaged, within the limit."""
        return LeastDamage(target, self._limit)

    def train_finalists(self, trials: Trials, judge: Judge, aim: Aim, count: int) -> None:
        """The least damaged candidates that fit, and uniform policies that fit and are hardly more damaged."""
        known = set(aim.damage)
        within = [e for e in trials.evaluations if self._limit.fits(e.policy) and e.policy not in known]
        best = sorted(within, key=lambda e: (e.damage, e.cost, e.index))[:count]
        near = near_uniform(aim, judge, [policy for policy in aim.damage if self._limit.fits(policy)])
        judge.all_trained([*(e.policy for e in best), *near])

    def chosen(self, judge: Judge, space: SearchSpace) -> Trained | None:
        """The most accurate that fits, the cheaper of equally accurate ones.

        No other trained policy that fits is both as cheap and more accurate, or cheaper and as accurate.
        """
        within = [entry for entry in judge.trained.values() if self._limit.fits(entry.policy)]
        return max(within, key=lambda entry: (entry.accuracy, -space.cost(entry.policy)), default=None)
