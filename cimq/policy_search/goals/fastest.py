"""The fastest policy within an accuracy: `max_accuracy_drop`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from cimq.policy_search.goals.goal import Aim, near_uniform
from cimq.policy_search.judge import Judge, Trained
from cimq.policy_search.records import Evaluation, evenly_spaced, front_of, pareto_front
from cimq.policy_search.reward import Reward
from cimq.policy_search.space import Pairs, SearchSpace
from cimq.policy_search.trials import Trials
from cimq.policy_search.uniform_front import target_between, uniform_grid

# Where every uniform policy satisfies the constraint, the search goes this much beyond the fastest.
_STRETCH = 1.5


class Fastest:
    """Accuracy after training >= that of the reference - `max_accuracy_drop`; of these the one that costs least.

    Candidates are measured by their damage, the constraint is on the accuracy after training. Where the one stands for
    the other is learned from the uniform policies: the fastest of their front that satisfies the constraint after
    training, and the next one, which does not, tell the damage up to which it is expected to hold.

    Args:
        max_accuracy_drop: As a fraction.
    """

    def __init__(self, max_accuracy_drop: float) -> None:
        self._drop = max_accuracy_drop

    def uniform(self, space: SearchSpace, limit: int) -> dict[tuple[int, int], Pairs]:
        """Those near 4 bits first."""
        return uniform_grid(space, limit)

    def aim(self, trials: Trials, uniform: Sequence[Pairs], judge: Judge) -> Aim:
        """Bisects their front for the fastest that satisfies the constraint."""
        damage = {policy: found.damage for policy, found in zip(uniform, trials.measured(uniform), strict=True)}
        points = front_of([(trials.space.cost(policy), damage[policy]) for policy in uniform])
        front = [uniform[point] for point in reversed(points)]  # from the least damage to the least time
        last = self._last_within(front, judge)
        target = self._target(front, last, damage, judge)
        return Aim(damage, front[last] if last >= 0 else judge.reference.policy, target)

    def reward(self, target: float) -> Reward:
        """Fast, and not more damaged than the target."""
        return Reward(target)

    def train_finalists(self, trials: Trials, judge: Judge, aim: Aim, count: int) -> None:
        """Until one satisfies the constraint, from the best reward to the least damage.

        The bisection goes by the front of the damages of uniform policies, and what training repairs differs: one
        beside the front, or one beyond the first that failed, may hold, and is trained if it is as fast.
        """
        front = pareto_front(trials.evaluations)
        walk = [candidate.policy for candidate in _finalists(trials, front, aim.incumbent, count)]
        for number, policy in enumerate(walk):
            judge.ahead(walk[number:])
            if self._satisfies(judge, policy):
                break
        cost = trials.space.cost
        limit = cost(self.chosen(judge, trials.space).policy)
        judge.all_trained(near_uniform(aim, judge, [policy for policy in aim.damage if cost(policy) <= limit]))

    def chosen(self, judge: Judge, space: SearchSpace) -> Trained:
        """The fastest that satisfies the constraint, the more accurate of equally fast ones.

        No other trained policy is both faster and as accurate: it would satisfy the constraint as well.
        """
        within = [entry for entry in judge.trained.values() if self._satisfies(judge, entry.policy)]
        return min(within, key=lambda entry: (space.cost(entry.policy), -entry.accuracy))

    def _satisfies(self, judge: Judge, policy: Pairs) -> bool:
        return within_drop(judge.drop(policy), self._drop)

    def _last_within(self, front: Sequence[Pairs], judge: Judge) -> int:
        """Position of the fastest policy that satisfies the constraint, by bisection; -1 where none does."""
        low, high = -1, len(front)
        while high - low > 1:
            middle = (low + high) // 2
            judge.ahead([front[i] for i in (middle, (middle + high) // 2, (low + middle) // 2) if low < i < high])
            low, high = (middle, high) if self._satisfies(judge, front[middle]) else (low, middle)
        return low

    def _target(self, front: Sequence[Pairs], last: int, damage: Mapping[Pairs, float], judge: Judge) -> float:
        """Damage up to which the constraint is expected to hold."""
        if last == len(front) - 1:
            return _STRETCH * damage[front[last]]
        beyond = (damage[front[last + 1]], judge.drop(front[last + 1]))
        within = (damage[front[last]], judge.drop(front[last])) if last >= 0 else (0.0, 0.0)
        return target_between(within, beyond, self._drop)


def within_drop(drop: float, allowed: float) -> bool:
    """Whether a drop is allowed; accuracies are shares of whole samples, and their differences are rounded.

    Example:
        >>> within_drop(0.3 - 0.2, 0.1), within_drop(0.11, 0.1)
        (True, False)
    """
    return drop <= allowed + 1e-12


def _finalists(trials: Trials, front: Sequence[Evaluation], incumbent: Pairs, count: int) -> list[Evaluation]:
    """Front members faster than the incumbent, from the best reward to the least damage, evenly spaced."""
    faster = [e for e in front if e.cost < trials.space.cost(incumbent)]
    if not faster or count < 1:
        return []
    start = max(range(len(faster)), key=lambda i: (faster[i].reward, -i))
    return evenly_spaced(faster[start:], count)
