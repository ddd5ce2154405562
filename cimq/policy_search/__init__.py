"""Search for mixed-precision policies.

`search(model, loader)` is the whole way; its parts can be used apart: `SearchSpace` (what may be chosen), `STRATEGIES`
(objects that propose policies and observe results), `Trials` (measures for all of them in the same way, within a
`Budget`, recorded in a `Journal`), `Evaluator`, `Reward`, `SearchResult`.
"""

from __future__ import annotations

from cimq.policy_search.baselines import Baseline
from cimq.policy_search.budget import Budget
from cimq.policy_search.evaluators import Evaluator
from cimq.policy_search.journal import Journal
from cimq.policy_search.model_search import search
from cimq.policy_search.records import Evaluation, pareto_front
from cimq.policy_search.result import SearchResult
from cimq.policy_search.reward import Reward
from cimq.policy_search.space import SearchSpace
from cimq.policy_search.strategies import STRATEGIES, Proposal, Strategy, StrategyTask
from cimq.policy_search.trials import Trials

__all__ = [
    "STRATEGIES",
    "Baseline",
    "Budget",
    "Evaluation",
    "Evaluator",
    "Journal",
    "Proposal",
    "Reward",
    "SearchResult",
    "SearchSpace",
    "Strategy",
    "StrategyTask",
    "Trials",
    "pareto_front",
    "search",
]
