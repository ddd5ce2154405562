"""Strategies propose policies; `Trials` measures them, with one evaluator and one budget for all.

A strategy is a function `run(trials, options)` that returns when the budget is spent or it knows nothing new.
"""

from __future__ import annotations

from collections.abc import Callable

from cimq.policy_search.strategies import random, reinforce, uniform
from cimq.policy_search.strategies.options import StrategyOptions
from cimq.policy_search.trials import Trials

STRATEGIES: dict[str, Callable[[Trials, StrategyOptions], None]] = {
    "reinforce": reinforce.run,
    "random": random.run,
    "uniform": uniform.run,
}

__all__ = ["STRATEGIES", "StrategyOptions"]
