"""The search itself, apart from models and data: baselines, target, rungs, strategy, finalists."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

from cimq.policy_search.goals import Goal
from cimq.policy_search.judge import Ahead, Judge, Train, Trained
from cimq.policy_search.records import Evaluation, pareto_front
from cimq.policy_search.reward import AnyReward
from cimq.policy_search.rung_check import RungCheck
from cimq.policy_search.space import Pairs
from cimq.policy_search.strategies import Proposal, Strategy
from cimq.policy_search.trials import Trials
from cimq.policy_search.uniform_front import REFERENCE_BITS

# Uniform policies take this share of the evaluations at most.
BASELINE_SHARE = 0.25
# Policies along the front are trained up to a damage of so many targets: what lies beyond is of no use to anybody.
_WIDE = 4.0


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What the flow decided.

    Attributes:
        chosen: The best of what was trained, by the goal.
        reference: 8 bits everywhere after the same training.
        trained: All that was trained, in that order.
        uniform: Uniform policies, by (weight bits, activation bits).
        baselines: Those of them that are among the evaluations, by the same.
        target: Damage that the strategy aimed at, or set out from; None if it was interrupted before that was known.
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


def run_flow(
    trials: Trials,
    train: Train,
    *,
    goal: Goal,
    strategy: Callable[[AnyReward], Strategy],
    batch: int,
    finalists: int,
    rungs: RungCheck | None = None,
    pareto: int = 0,
    ahead: Ahead = lambda policies: None,
) -> Outcome:
    """Baselines, target, rungs, strategy, finalists.

    Ctrl-C ends it: what was trained until then is chosen from. It is raised while there is nothing to choose.

    Args:
        trials: Space, evaluator, budget, journal.
        goal: What is wanted of the result.
        train: Trains a policy; returns what the confirmation set says of it, and the model.
        strategy: Makes what proposes candidates, given what is to be made large.
        batch: How many it proposes at a time.
        finalists: How many candidates are trained at most, besides the uniform policies.
        rungs: Tells by which rung candidates are ranked; None: by that of the trials, unchecked.
        pareto: How many policies along the front are trained at the end.
        ahead: Is told which policies may be trained next, the likeliest first: training may begin with them.
    """
    space = trials.space
    grid = goal.uniform(space, max(2, int(BASELINE_SHARE * trials.budget.limit)))
    reference = grid[REFERENCE_BITS, REFERENCE_BITS]
    policies = list(grid.values())
    ahead([reference])
    trials.measured(policies)  # while the reference is trained
    judge = Judge(train, ahead, reference)
    target: float | None = None
    found: list[Evaluation] = []
    along: list[Trained] = []
    interrupted = False
    try:
        aim = goal.aim(trials, policies, judge)
        if rungs is not None:
            rungs.run(
                aim.damage, aim.target, lambda some: [entry.confirmed.damage for entry in judge.all_trained(some)]
            )
            if rungs.ranking != trials.rung:
                trials.budget.evaluations += len(policies)  # measured on the other rung, in vain
                trials.rank_by(rungs.ranker, rungs.ranking)
                aim = goal.aim(trials, policies, judge)
        target = max(aim.target, 1e-9)

        trials.reward = goal.reward(target)
        found = trials.evaluate([Proposal(policy, "baseline") for policy in policies])
        trials.run(strategy(trials.reward), batch)

        goal.train_finalists(trials, judge, aim, finalists)
        front = pareto_front(trials.evaluations)
        along = judge.all_trained(
            [evaluation.policy for evaluation in _along(front, pareto, _WIDE * target, space.cost(reference))]
        )
        if rungs is not None:
            rungs.finish({entry.policy: entry.confirmed.damage for entry in judge.trained.values()})
    except KeyboardInterrupt:
        interrupted = True
    chosen = goal.chosen(judge, space)
    if chosen is None:  # interrupted before anything was trained that is what was asked for
        raise KeyboardInterrupt
    return Outcome(
        chosen,
        judge.reference,
        list(judge.trained.values()),
        grid,
        dict(zip(grid, found, strict=False)),
        target,
        pareto_front(trials.evaluations),
        along,
        interrupted,
    )


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
