"""The search itself, apart from models and data: baselines, target, rungs, strategy, finalists."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

from cimq.policy_search.judge import Ahead, Judge, Train, Trained
from cimq.policy_search.records import Evaluation, evenly_spaced, front_of, pareto_front
from cimq.policy_search.reward import Reward
from cimq.policy_search.rung_check import RungCheck
from cimq.policy_search.space import Pairs
from cimq.policy_search.strategies import Proposal, Strategy
from cimq.policy_search.trials import Trials
from cimq.policy_search.uniform_front import REFERENCE_BITS, target_between, uniform_grid

# Uniform policies take this share of the evaluations at most.
BASELINE_SHARE = 0.25
# Where every uniform policy satisfies the constraint, the search goes this much beyond the fastest.
_STRETCH = 1.5
# A uniform policy with a damage of up to this many targets may hold after training, even if it does not look like it.
_NEAR = 1.25
_NEAR_UNIFORM = 2
# Policies along the front are trained up to a damage of so many targets: what lies beyond is of no use to anybody.
_WIDE = 4.0


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What the flow decided.

    Attributes:
        chosen: The fastest trained policy that satisfies the constraint, the more accurate of equally fast ones.
        reference: 8 bits everywhere after the same training.
        trained: All that was trained, in that order.
        uniform: Uniform policies, by (weight bits, activation bits).
        baselines: Those of them that are among the evaluations, by the same.
        target: Damage that the strategy aimed at; None if it was interrupted before that was known.
        pareto: Front of the evaluations.
        along: Trained policies along that front, the least damaged first.
        interrupted: By Ctrl-C: it is the best so far.
    """

    chosen: Trained
    reference: Trained
    trained: list[Trained]
    uniform: dict[tuple[int, int], Pairs]
    baselines: dict[tuple[int, int], Evaluation]
    target: float | None
    pareto: list[Evaluation]
    along: list[Trained]
    interrupted: bool = False


@dataclasses.dataclass(frozen=True)
class _Aim:
    """Where the constraint is expected to end.

    Attributes:
        damage: Of the uniform policies.
        incumbent: The fastest uniform policy that satisfies the constraint.
        target: Damage up to which it is expected to hold.
    """

    damage: dict[Pairs, float]
    incumbent: Pairs
    target: float


def run_flow(
    trials: Trials,
    train: Train,
    *,
    strategy: Callable[[Reward], Strategy],
    batch: int,
    max_accuracy_drop: float,
    finalists: int,
    rungs: RungCheck | None = None,
    pareto: int = 0,
    ahead: Ahead = lambda policies: None,
) -> Outcome:
    """Baselines, target, rungs, strategy, finalists.

    Candidates are measured by their damage, the constraint is on the accuracy after training. Where the one stands for
    the other is learned from the uniform policies: the fastest of their front that satisfies the constraint after
    training, and the next one, which does not, tell the damage up to which it is expected to hold.

    Ctrl-C, once the reference is trained, ends it: what was trained until then is chosen from.

    Args:
        trials: Space, evaluator, budget, journal.
        train: Trains a policy; returns what the confirmation set says of it, and the model.
        strategy: Makes what proposes candidates, given what is to be made large.
        batch: How many it proposes at a time.
        max_accuracy_drop: As a fraction.
        finalists: How many candidates are trained at most, besides the uniform policies.
        rungs: Tells by which rung candidates are ranked; None: by that of the trials, unchecked.
        pareto: How many policies along the front are trained at the end.
        ahead: Is told which policies may be trained next, the likeliest first: training may begin with them.
    """
    space = trials.space
    grid = uniform_grid(space, max(2, int(BASELINE_SHARE * trials.budget.limit)))
    reference = grid[REFERENCE_BITS, REFERENCE_BITS]
    policies = list(grid.values())
    ahead([reference])
    trials.measured(policies)  # while the reference is trained
    judge = Judge(train, ahead, reference, max_accuracy_drop)
    target: float | None = None
    found: list[Evaluation] = []
    along: list[Trained] = []
    interrupted = False
    try:
        aim = _aim(trials, policies, judge, max_accuracy_drop)
        if rungs is not None:
            rungs.run(
                aim.damage, aim.target, lambda some: [entry.confirmed.damage for entry in judge.all_trained(some)]
            )
            if rungs.ranking != trials.rung:
                trials.budget.evaluations += len(policies)  # measured on the other rung, in vain
                trials.rank_by(rungs.ranker, rungs.ranking)
                aim = _aim(trials, policies, judge, max_accuracy_drop)
        target = max(aim.target, 1e-9)

        trials.reward = Reward(target)
        found = trials.evaluate([Proposal(policy, "baseline") for policy in policies])
        trials.run(strategy(trials.reward), batch)

        front = pareto_front(trials.evaluations)
        walk = [candidate.policy for candidate in _finalists(trials, front, aim.incumbent, finalists)]
        for number, policy in enumerate(walk):
            ahead(walk[number:])
            if judge.satisfies(policy):
                break
        _train_near_uniform(trials, judge, aim)
        along = judge.all_trained(
            [evaluation.policy for evaluation in _along(front, pareto, _WIDE * target, space.cost(reference))]
        )
        if rungs is not None:
            rungs.finish({entry.policy: entry.confirmed.damage for entry in judge.trained.values()})
    except KeyboardInterrupt:  # there is something to return: the reference at least
        interrupted = True
    return Outcome(
        judge.fastest(space.cost),
        judge.reference,
        list(judge.trained.values()),
        grid,
        dict(zip(grid, found, strict=False)),
        target,
        pareto_front(trials.evaluations),
        along,
        interrupted,
    )


def _aim(trials: Trials, policies: Sequence[Pairs], judge: Judge, max_accuracy_drop: float) -> _Aim:
    """Measures the uniform policies, and trains those of their front that tell where the constraint ends."""
    damage = {policy: found.damage for policy, found in zip(policies, trials.measured(policies), strict=True)}
    points = front_of([(trials.space.cost(policy), damage[policy]) for policy in policies])
    front = [policies[point] for point in reversed(points)]  # from the least damage to the least time
    last = _last_within(front, judge)
    target = _target(front, last, damage, judge, max_accuracy_drop)
    return _Aim(damage, front[last] if last >= 0 else judge.reference.policy, target)


def _last_within(front: Sequence[Pairs], judge: Judge) -> int:
    """Position of the fastest policy that satisfies the constraint, by bisection; -1 where none does."""
    low, high = -1, len(front)
    while high - low > 1:
        middle = (low + high) // 2
        judge.ahead([front[i] for i in (middle, (middle + high) // 2, (low + middle) // 2) if low < i < high])
        low, high = (middle, high) if judge.satisfies(front[middle]) else (low, middle)
    return low


def _target(
    front: Sequence[Pairs], last: int, damage: dict[Pairs, float], judge: Judge, max_accuracy_drop: float
) -> float:
    """Damage up to which the constraint is expected to hold."""
    if last == len(front) - 1:
        return _STRETCH * damage[front[last]]
    beyond = (damage[front[last + 1]], judge.drop(front[last + 1]))
    within = (damage[front[last]], judge.drop(front[last])) if last >= 0 else (0.0, 0.0)
    return target_between(within, beyond, max_accuracy_drop)


def _finalists(trials: Trials, front: Sequence[Evaluation], incumbent: Pairs, count: int) -> list[Evaluation]:
    """Front members faster than the incumbent, from the best reward to the least damage, evenly spaced."""
    faster = [e for e in front if e.cost < trials.space.cost(incumbent)]
    if not faster or count < 1:
        return []
    start = max(range(len(faster)), key=lambda i: (faster[i].reward, -i))
    return evenly_spaced(faster[start:], count)


def _train_near_uniform(trials: Trials, judge: Judge, aim: _Aim) -> None:
    """Trains the uniform policies that could be better than what was found, the least damaged first.

    The bisection goes by the front of their damages, and what training repairs differs: one beside the front, or one
    beyond the first that failed, may hold.
    """
    cost = trials.space.cost
    limit = cost(judge.fastest(cost).policy)
    near = [
        policy
        for policy, damage in aim.damage.items()
        if policy not in judge.trained and cost(policy) <= limit and damage <= _NEAR * aim.target
    ]
    judge.all_trained(sorted(near, key=lambda policy: aim.damage[policy])[:_NEAR_UNIFORM])


def _along(front: Sequence[Evaluation], count: int, damage: float, eight: float) -> list[Evaluation]:
    """At most so many of a front, the least damaged first, with even steps of the logarithm of the cost between."""
    slow_first = [e for e in reversed(front) if e.cost < eight and e.damage <= damage]
    if len(slow_first) <= count or count < 1:
        return slow_first[: max(0, count)]
    if count == 1:
        return slow_first[-1:]
    first, last = slow_first[0].cost, slow_first[-1].cost
    chosen: dict[int, None] = {}
    for step in range(count):
        wanted = first * (last / first) ** (step / (count - 1))
        # At least one more than before, and as many left as are still wanted.
        low, high = max(chosen, default=-1) + 1, len(slow_first) - (count - step)
        chosen[min(range(low, high + 1), key=lambda i: abs(slow_first[i].cost - wanted))] = None
    return [slow_first[position] for position in chosen]
