"""Search for mixed-precision policies.

`search(model, loader)` is the whole way; its parts can be used apart: `SearchSpace` (what may be chosen), `Trials` (one
evaluator, budget, cache and log for every strategy), `STRATEGIES`, `Reward`, `SearchResult`.
"""

from __future__ import annotations

from cimq.policy_search.evaluation import Evaluation, pareto_front
from cimq.policy_search.log import EvaluationLog
from cimq.policy_search.result import Baseline, SearchResult
from cimq.policy_search.reward import Reward, binomial_noise
from cimq.policy_search.search import search
from cimq.policy_search.space import SearchSpace
from cimq.policy_search.strategies import STRATEGIES, StrategyOptions
from cimq.policy_search.trials import BudgetSpent, Evaluator, Trials

__all__ = [
    "STRATEGIES",
    "Baseline",
    "BudgetSpent",
    "Evaluation",
    "EvaluationLog",
    "Evaluator",
    "Reward",
    "SearchResult",
    "SearchSpace",
    "StrategyOptions",
    "Trials",
    "binomial_noise",
    "pareto_front",
    "search",
]
