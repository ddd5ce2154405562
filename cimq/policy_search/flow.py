"""The search itself, apart from models and data: baselines, target, strategy, finalists."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

from cimq.policy_search.records import Evaluation, front_of, pareto_front
from cimq.policy_search.reward import Reward
from cimq.policy_search.space import Pairs
from cimq.policy_search.strategies import Proposal, Strategy
from cimq.policy_search.trials import Trials
from cimq.policy_search.uniform_front import REFERENCE_BITS, target_between, uniform_grid

# Uniform policies take this share of the evaluations at most.
BASELINE_SHARE = 0.25
# Where every uniform policy satisfies the constraint, the search goes this much beyond the fastest.
_STRETCH = 1.5

Train = Callable[[Pairs], tuple[float, Any]]
Ahead = Callable[[Sequence[Pairs]], None]


@dataclasses.dataclass(frozen=True)
class Trained:
    """A policy after the short training.

    Attributes:
        policy: (weight bits, activation bits) per layer.
        accuracy: On the confirmation set.
        artefact: What training returned besides (the model).
    """

    policy: Pairs
    accuracy: float
    artefact: Any


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What the flow decided.

    Attributes:
        chosen: The fastest trained policy that satisfies the constraint, the more accurate of equally fast ones.
        reference: 8 bits everywhere after the same training.
        trained: All that was trained, in that order.
        baselines: Uniform policies that were measured, by (weight bits, activation bits).
        target: Damage that the strategy aimed at; None if it was interrupted before that was known.
        pareto: Front of the evaluations.
        interrupted: By Ctrl-C: it is the best so far.
    """

    chosen: Trained
    reference: Trained
    trained: list[Trained]
    baselines: dict[tuple[int, int], Evaluation]
    target: float | None
    pareto: list[Evaluation]
    interrupted: bool = False


class _Judge:
    """Trains policies, once each, and knows which of them satisfy the constraint."""

    def __init__(self, train: Train, ahead: Ahead, reference: Pairs, max_accuracy_drop: float) -> None:
        self.trained: dict[Pairs, Trained] = {}
        self._train = train
        self.ahead = ahead
        self._limit = max_accuracy_drop + 1e-12
        self.reference = self.trained_as(reference)

    def trained_as(self, policy: Pairs) -> Trained:
        if policy not in self.trained:
            self.trained[policy] = Trained(policy, *self._train(policy))
        return self.trained[policy]

    def drop(self, policy: Pairs) -> float:
        return self.reference.accuracy - self.trained_as(policy).accuracy

    def satisfies(self, policy: Pairs) -> bool:
        return self.drop(policy) <= self._limit


def run_flow(
    trials: Trials,
    train: Train,
    *,
    strategy: Callable[[Reward], Strategy],
    batch: int,
    max_accuracy_drop: float,
    finalists: int,
    ahead: Ahead = lambda policies: None,
) -> Outcome:
    """Baselines, target, strategy, finalists.

    Candidates are measured by their damage, the constraint is on the accuracy after training. Where the one stands for
    the other is learned from the uniform policies: the fastest of their front that satisfies the constraint after
    training, and the next one, which does not, tell the damage up to which it is expected to hold.

    Ctrl-C, once the reference is trained, ends it: what was trained until then is chosen from.

    Args:
        trials: Space, evaluator, budget, journal.
        train: Trains a policy; returns its accuracy on the confirmation set, and the model.
        strategy: Makes what proposes candidates, given what is to be made large.
        batch: How many it proposes at a time.
        max_accuracy_drop: As a fraction.
        finalists: How many candidates are trained at most, besides the uniform policies.
        ahead: Is told which policies may be trained next, the likeliest first: training may begin with them.
    """
    space = trials.space
    grid = uniform_grid(space, max(2, int(BASELINE_SHARE * trials.budget.limit)))
    reference = grid[REFERENCE_BITS, REFERENCE_BITS]
    ahead([reference])
    policies = list(grid.values())
    damage = {policy: found.damage for policy, found in zip(policies, trials.measured(policies), strict=True)}
    judge = _Judge(train, ahead, reference, max_accuracy_drop)

    incumbent, target, interrupted = reference, None, False
    found: list[Evaluation] = []
    try:
        points = front_of([(space.time_us(policy), damage[policy]) for policy in policies])
        front = [policies[point] for point in reversed(points)]  # from the least damage to the least time
        last = _last_within(front, judge)
        incumbent = front[last] if last >= 0 else reference
        target = max(_target(front, last, damage, judge, max_accuracy_drop), 1e-9)

        trials.reward = Reward(target)
        found = trials.evaluate([Proposal(policy, "baseline") for policy in policies])
        trials.run(strategy(trials.reward), batch)

        walk = [e.policy for e in _finalists(trials, pareto_front(trials.evaluations), incumbent, finalists)]
        for number, policy in enumerate(walk):
            ahead(walk[number:])
            if judge.satisfies(policy):
                break
    except KeyboardInterrupt:  # there is something to return: the reference at least
        interrupted = True
    within = [entry for entry in judge.trained.values() if judge.satisfies(entry.policy)]
    chosen = min(within, key=lambda entry: (space.time_us(entry.policy), -entry.accuracy))
    baselines = dict(zip(grid, found, strict=False))
    pareto = pareto_front(trials.evaluations)
    return Outcome(chosen, judge.reference, list(judge.trained.values()), baselines, target, pareto, interrupted)


def _last_within(front: Sequence[Pairs], judge: _Judge) -> int:
    """Position of the fastest policy that satisfies the constraint, by bisection; -1 where none does."""
    low, high = -1, len(front)
    while high - low > 1:
        middle = (low + high) // 2
        judge.ahead([front[i] for i in (middle, (middle + high) // 2, (low + middle) // 2) if low < i < high])
        low, high = (middle, high) if judge.satisfies(front[middle]) else (low, middle)
    return low


def _target(
    front: Sequence[Pairs], last: int, damage: dict[Pairs, float], judge: _Judge, max_accuracy_drop: float
) -> float:
    """Damage up to which the constraint is expected to hold."""
    if last == len(front) - 1:
        return _STRETCH * damage[front[last]]
    beyond = (damage[front[last + 1]], judge.drop(front[last + 1]))
    within = (damage[front[last]], judge.drop(front[last])) if last >= 0 else (0.0, 0.0)
    return target_between(within, beyond, max_accuracy_drop)


def _finalists(trials: Trials, front: Sequence[Evaluation], incumbent: Pairs, count: int) -> list[Evaluation]:
    """Front members faster than the incumbent, from the best reward to the least damage, evenly spaced."""
    faster = [e for e in front if e.time_us < trials.space.time_us(incumbent)]
    if not faster or count < 1:
        return []
    start = max(range(len(faster)), key=lambda i: (faster[i].reward, -i))
    walk = faster[start:]
    if len(walk) <= count:
        return walk
    if count == 1:
        return walk[:1]
    return [walk[round(i * (len(walk) - 1) / (count - 1))] for i in range(count)]
