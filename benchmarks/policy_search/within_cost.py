"""Every strategy within a cost, on made-up networks for which the least damage is known between bounds (`_problems`).

All measure through one evaluator and one budget, as in `strategies.py`. A strategy is judged by the true damage of the
least damaged policy that it measured, over the bound that none is below: 1 is the optimum. What policies may cost is
that of the fastest policy known to have a damage of 1, what 4 bits everywhere cost. Geometric mean, and standard
deviation of the logarithm, over networks.

    python benchmarks/policy_search/within_cost.py --json
"""

from __future__ import annotations

import math
import statistics

from _problems import Problem
from strategies import BATCH, COMPARED, TARGET, _common, networks

from cimq.policy_search import Budget, StrategyTask, Trials
from cimq.policy_search.cost_limit import CostLimit
from cimq.policy_search.reward import LeastDamage
from cimq.policy_search.uniform_front import uniform_grid


def excess(strategy: str, network: str, budget: int, seed: int) -> float:
    """Least damage that a strategy measured, over the bound, at the speed-up at which that is about 1."""
    made = Problem(networks()[network], seed, interaction=0.5, noise=0.02)
    limit = CostLimit(made.space, made.optimum(TARGET)[0])
    uniform = min(made.damage(policy) for policy in uniform_grid(made.space, 100).values() if limit.fits(policy))
    trials = Trials(made.space, made, Budget(budget))
    trials.reward = LeastDamage(uniform, limit)
    task = StrategyTask(made.space, trials.budget, seed, BATCH, made.sensitivities, trials.reward)
    trials.run(COMPARED[strategy](task), BATCH)
    least = min((made.damage(e.policy) for e in trials.evaluations), default=uniform)
    return least / made.least_damage(limit.gain)[1]


def main() -> None:
    parser = _common.parser("Search strategies within a cost on networks whose least damage is known.")
    parser.add_argument("--evaluations", type=int, nargs="+", default=[50, 100])
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--networks", nargs="+", default=["20 layers"], choices=list(networks()))
    parser.add_argument("--strategies", nargs="+", choices=list(COMPARED), default=list(COMPARED))
    arguments = parser.parse_args()
    seeds = range(arguments.first_seed, arguments.first_seed + arguments.seeds)
    rows = []
    for network in arguments.networks:
        for budget in arguments.evaluations:
            for strategy in arguments.strategies:
                logs = [math.log(excess(strategy, network, budget, seed)) for seed in seeds]
                found = {
                    "damage over least": math.exp(statistics.mean(logs)),
                    "deviation": statistics.stdev(logs) if len(logs) > 1 else 0.0,
                }
                rows.append({"network": network, "evaluations": budget, "strategy": strategy, **found})
    _common.show(rows, arguments.json)


if __name__ == "__main__":
    main()
