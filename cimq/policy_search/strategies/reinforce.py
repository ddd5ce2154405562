"""REINFORCE, started from the knapsack of an additive model."""

from __future__ import annotations

import math

from cimq._C import Reinforce
from cimq.policy_search.strategies.options import StrategyOptions
from cimq.policy_search.trials import BudgetSpent, Trials
from cimq.policy_search.warm_start import knapsack_path, measure_sensitivity, walk_path

_WARM_EVALUATIONS = 12
_WARM_RATE = 0.1
_COLD_RATE = 0.2
# Log-probability lost per bit of distance from the start; weights matter in steps of whole cells, hence less.
_WEIGHT_SLOPE = 1.0
_ACT_SLOPE = 2.0
# An agent that proposes only what it knows is stirred, and finally stopped.
_STALE_BEFORE_STIRRING = 2
_STIRRING = 0.08
_STALE_BEFORE_STOPPING = 60


def run(trials: Trials, options: StrategyOptions) -> None:
    """Samples batches, measures them, updates; known policies teach but cost no budget."""
    logits = _warm_start(trials, options)
    agent = Reinforce(
        trials.space.masks,
        seed=options.seed,
        learning_rate=_COLD_RATE if logits is None else _WARM_RATE,
        entropy_updates=max(1, math.ceil(trials.left / options.batch)),
        logits=logits,
    )
    stale = 0
    while trials.left > 0 and stale < _STALE_BEFORE_STOPPING:
        agent.exploration = _STIRRING if stale >= _STALE_BEFORE_STIRRING else 0.0
        first, before = agent.episode, trials.left
        actions = agent.sample(options.batch)
        try:
            rewards = [
                trials.evaluate(trials.space.decode(row), "reinforce", first + number).reward
                for number, row in enumerate(actions)
            ]
        except BudgetSpent:
            return
        agent.update(actions, rewards)
        stale = stale + 1 if trials.left == before else 0


def _warm_start(trials: Trials, options: StrategyOptions) -> list[list[float]] | None:
    if options.damage is None:
        return None
    path = knapsack_path(trials.space, measure_sensitivity(trials.space, options.damage))
    start = walk_path(trials, path, min(_WARM_EVALUATIONS, max(1, trials.left // 2)))
    if start is None:
        return None
    # A baseline may be better than the path: start from the best that the agent can express.
    known = [e for e in trials.evaluations if trials.space.contains(e.policy)]
    best = max([start, *known], key=lambda e: e.reward)
    return trials.space.logits_near(trials.space.canonical(best.policy), _WEIGHT_SLOPE, _ACT_SLOPE)
