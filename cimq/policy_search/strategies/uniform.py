"""All uniform policies: one weight width and one activation width for every layer that is free."""

from __future__ import annotations

from cimq.policy_search.strategies.options import StrategyOptions
from cimq.policy_search.trials import BudgetSpent, Trials


def run(trials: Trials, options: StrategyOptions) -> None:
    """The grid of W x A, the most accurate first, as far as the budget goes."""
    space = trials.space
    grid = [(w, a) for w in space.weight_widths for a in space.act_widths]
    for weight, act in sorted(grid, key=lambda pair: (-sum(pair), -pair[0])):
        try:
            trials.evaluate(space.uniform(weight, act), "uniform")
        except BudgetSpent:
            return
