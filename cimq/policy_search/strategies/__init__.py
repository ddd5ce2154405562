"""Strategies propose policies and observe what was measured of them; `Trials` measures, for all in the same way."""

from __future__ import annotations

from collections.abc import Callable

from cimq.policy_search.strategies.evolution import Evolution
from cimq.policy_search.strategies.knapsack import Knapsack
from cimq.policy_search.strategies.pairwise import Pairwise
from cimq.policy_search.strategies.random import Random
from cimq.policy_search.strategies.reinforce import Reinforce
from cimq.policy_search.strategies.strategy import Proposal, Strategy, StrategyTask
from cimq.policy_search.strategies.thompson import Thompson
from cimq.policy_search.strategies.uniform import Uniform

# "auto" is what measures best at 50, 100 and 300 evaluations: docs/search.md has the table.
STRATEGIES: dict[str, Callable[[StrategyTask], Strategy]] = {
    "auto": Thompson,
    "thompson": Thompson,
    "pairwise": Pairwise,
    "knapsack": Knapsack,
    "evolution": Evolution,
    "reinforce": Reinforce,
    "random": Random,
    "uniform": Uniform,
}

# These do not ask for sensitivities.
WITHOUT_SENSITIVITIES = frozenset({"random", "uniform"})

__all__ = ["STRATEGIES", "WITHOUT_SENSITIVITIES", "Proposal", "Strategy", "StrategyTask"]
