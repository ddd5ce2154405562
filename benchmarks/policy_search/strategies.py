"""Every strategy at the same number of evaluations, on made-up networks whose optimum is known (`_problems`).

All measure through one evaluator and one budget, in which sensitivities and pairs of layers count a quarter of an
evaluation each. A strategy is judged by the true damage of what it measured: by the fastest policy within the target,
as a share of the optimum's bound, and by the front, as the mean speed-up (geometric, over the logarithm of the damage)
from half to twice the target: the hypervolume in these coordinates. Mean and standard deviation over networks; "not
learning" has the same start and the same source of proposals, and is never told what was measured.

    python benchmarks/policy_search/strategies.py --json
"""

from __future__ import annotations

import functools
import json
import math
import os
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import _common
from _problems import Problem

from cimq.cost_model import LayerShape
from cimq.policy_search import STRATEGIES, Budget, Evaluation, Reward, StrategyTask, Trials
from cimq.policy_search.strategies.pairwise import Pairwise
from cimq.policy_search.strategies.reinforce import Reinforce
from cimq.policy_search.strategies.thompson import Thompson

ROOT = Path(__file__).resolve().parents[2]
DATA = Path(os.environ.get("CIMQ_DATA", ROOT.parent / "shared" / "data")) / "paper" / "policies.json"
TARGET = 1.0
BATCH = 8


class ThompsonNotLearning(Thompson):
    """Draws from its prior."""

    def learn(self, damage: Any, evaluation: Any) -> None:
        """Nothing."""


class PairwiseNotLearning(Pairwise):
    """Measures pairs, and draws from what they say."""

    def learn(self, damage: Any, evaluation: Any) -> None:
        """Nothing."""


class ReinforceNotLearning(Reinforce):
    """Samples near its start."""

    def learn(self, agent: Any, actions: Any, rewards: Any) -> None:
        """Nothing."""


CONTROLS = {
    "thompson, not learning": ThompsonNotLearning,
    "pairwise, not learning": PairwiseNotLearning,
    "reinforce, not learning": ReinforceNotLearning,
}
COMPARED: dict[str, Any] = {name: made for name, made in STRATEGIES.items() if name != "auto"} | CONTROLS


def networks() -> dict[str, int | list[LayerShape]]:
    """Made-up shapes by the number of layers, and those of the published table (CIMQ_DATA)."""
    found: dict[str, int | list[LayerShape]] = {f"{layers} layers": layers for layers in (20, 50, 100)}
    if DATA.exists():
        for name, layers in json.loads(DATA.read_text())["layers"].items():
            found[name] = [LayerShape(f"l{i}", **layer) for i, layer in enumerate(layers)]
    return found


@functools.lru_cache(maxsize=256)
def problem(network: str, seed: int, interaction: float, noise: float) -> tuple[Problem, float]:
    """A network and the bound of its optimum."""
    made = Problem(networks()[network], seed, interaction=interaction, noise=noise)
    return made, made.optimum(TARGET)[1]


def mean_speedup(front: Sequence[tuple[float, float]]) -> float:
    """Of the fastest policy within a damage, over damages from half to twice the target, from (damage, speed-up)."""
    low, high = math.log(TARGET / 2), math.log(TARGET * 2)
    area, fastest, at = 0.0, 1.0, low
    for damage, speedup in sorted(front):
        here = min(high, max(low, math.log(max(damage, 1e-9))))
        area += (here - at) * math.log(fastest)
        at, fastest = here, max(fastest, speedup)
    area += (high - at) * math.log(fastest)
    return math.exp(area / (high - low))


def found(strategy: str, made: Problem, seed: int, budget: int, warm: bool) -> tuple[list[Evaluation], int]:
    """What a strategy measured, and how many sensitivities and pairs."""
    trials = Trials(made.space, made, Budget(budget))
    trials.reward = Reward(TARGET)
    few = made.sensitivities if warm else None
    trials.run(COMPARED[strategy](StrategyTask(made.space, trials.budget, seed, BATCH, few, trials.reward)), BATCH)
    return trials.evaluations, trials.budget.sensitivities


def row(network: str, strategy: str, budget: int, arguments: Any) -> dict[str, Any]:
    """One line of the table."""
    speedups, shares, fronts, few, start = [], [], [], 0, time.perf_counter()
    for seed in range(arguments.first_seed, arguments.first_seed + arguments.seeds):
        made, bound = problem(network, seed, arguments.interaction, arguments.noise)
        evaluations, few = found(strategy, made, seed, budget, not arguments.cold)
        points = [(made.damage(e.policy), e.speedup) for e in evaluations]
        speedups.append(max((speedup for damage, speedup in points if damage <= TARGET), default=1.0))
        shares.append(speedups[-1] / bound)
        fronts.append(mean_speedup(points))
    return {
        "network": network,
        "evaluations": budget,
        "strategy": strategy,
        "counted quarters": few,
        "speed-up": statistics.mean(speedups),
        "of optimum": statistics.mean(shares),
        "deviation": statistics.stdev(shares) if len(shares) > 1 else 0.0,
        "front": statistics.mean(fronts),
        "front deviation": statistics.stdev(fronts) if len(fronts) > 1 else 0.0,
        "seconds": (time.perf_counter() - start) / arguments.seeds,
    }


def main() -> None:
    parser = _common.parser("Search strategies at the same number of evaluations on networks with known optimum.")
    parser.add_argument("--evaluations", type=int, nargs="+", default=[50, 100, 300])
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--first-seed", type=int, default=0, help="constants were chosen on 0 to 9")
    parser.add_argument("--networks", nargs="+", default=["20 layers", "50 layers"], help=", ".join(networks()))
    parser.add_argument("--strategies", nargs="+", choices=list(COMPARED), default=list(COMPARED))
    parser.add_argument("--interaction", type=float, default=0.5, help="deviation of the interactions of neighbours")
    parser.add_argument("--noise", type=float, default=0.02, help="deviation of a measured damage, of the target")
    parser.add_argument("--cold", action="store_true", help="without sensitivities")
    arguments = parser.parse_args()
    unknown = [name for name in arguments.networks if name not in networks()]
    if unknown:
        parser.error(f"--networks must be of {', '.join(networks())} (more with CIMQ_DATA), got {', '.join(unknown)}")
    rows = [
        row(network, strategy, budget, arguments)
        for network in arguments.networks
        for budget in arguments.evaluations
        for strategy in arguments.strategies
    ]
    _common.show(rows, arguments.json)


if __name__ == "__main__":
    main()
