"""Random search over the masked space: the sanity floor of every comparison."""

from __future__ import annotations

from cimq._C import Reinforce
from cimq.policy_search.strategies.options import StrategyOptions
from cimq.policy_search.trials import Trials

_STALE_DRAWS = 1000


def run(trials: Trials, options: StrategyOptions) -> None:
    """Every head draws uniformly from its allowed choices, without learning."""
    sampler = Reinforce(trials.space.masks, seed=options.seed)
    stale = 0
    while trials.left > 0 and stale < _STALE_DRAWS:
        episode = sampler.episode
        pairs = trials.space.decode(sampler.sample(1)[0])
        stale = stale + 1 if trials.seen(pairs) else 0
        trials.evaluate(pairs, "random", episode)
