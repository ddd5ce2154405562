"""Strategies at the same number of evaluations, on made-up damages over real layer shapes.

The damage of a policy is a function: the noise power of every layer, weighted log-normally, and interactions of
neighbours, plus measurement noise. So the optimum is known (coordinate descent from many starts without noise, on the
small network exhaustively), and a found policy can be judged by its true damage. Sensitivities are wrong by a factor of
their own for every layer, and count as a quarter of an evaluation each. "thompson, not learning" draws from the same
prior and is never told what was measured. Layer shapes: the networks of the published table (CIMQ_DATA, default
../shared/data/paper/policies.json), and a small one that needs no file.

    python benchmarks/policy_search/strategies.py --json
"""

from __future__ import annotations

import itertools
import json
import math
import os
import random
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import _common

from cimq.cost_model import LayerShape
from cimq.policy_search import STRATEGIES, Budget, Reward, SearchSpace, StrategyTask, Trials
from cimq.policy_search.evaluators import Measured
from cimq.policy_search.space import Pairs
from cimq.policy_search.strategies.thompson import Thompson

ROOT = Path(__file__).resolve().parents[2]
DATA = Path(os.environ.get("CIMQ_DATA", ROOT.parent / "shared" / "data")) / "paper" / "policies.json"
TARGET = 1.0
NOISE = 0.03
MARGIN = 0.05  # 1.05 targets still count as feasible: the target is only measured with noise

SMALL = [
    LayerShape("stem", "conv2d", 64, 147, 3136),
    LayerShape("a", "conv2d", 64, 576, 784),
    LayerShape("b", "conv2d", 128, 576, 196),
    LayerShape("c", "conv2d", 256, 1152, 49),
    LayerShape("d", "conv2d", 256, 2304, 49),
    LayerShape("fc", "linear", 10, 256, 1),
]


class Surrogate:
    """True and measured damage of policies, and sensitivities as an additive proxy would see them."""

    def __init__(self, layers: int, seed: int) -> None:
        rng = random.Random(seed)
        self.seed = seed
        self.weight = [rng.lognormvariate(0, 1.0) for _ in range(layers)]
        self.act = [rng.lognormvariate(0, 1.0) for _ in range(layers)]
        self.interaction = [rng.uniform(0, 0.6) for _ in range(layers)]
        self.proxy_error = [rng.lognormvariate(0, 0.35) for _ in range(layers)]
        # Scaled so that 4 bits everywhere are just too much.
        self.scale = 1.0
        self.scale = 1.3 * TARGET / self.damage([(4, 4)] * layers)

    def damage(self, pairs: Sequence[tuple[int, int]]) -> float:
        lost, before = 0.0, 0.0
        for index, (w, a) in enumerate(pairs):
            noise = self.weight[index] * 4.0**-w + self.act[index] * 4.0**-a
            lost += noise + self.interaction[index] * math.sqrt(noise * before)
            before = noise
        return lost * self.scale

    def proxy(self, pairs: Sequence[tuple[int, int]]) -> float:
        factors = zip(pairs, self.weight, self.act, self.proxy_error, strict=True)
        return self.scale * sum(error * (w * 4.0 ** -p[0] + a * 4.0 ** -p[1]) for p, w, a, error in factors)

    def measure(self, policies: Sequence[Pairs]) -> Iterator[Measured]:
        for policy in policies:
            noise = random.Random(f"{self.seed} {policy}").gauss(0, NOISE)
            damage = max(0.0, self.damage(policy) + noise)
            yield Measured(0.92 - 0.01 * damage, damage)


class Proxy:
    """The sensitivities as something that measures policies."""

    def __init__(self, surrogate: Surrogate) -> None:
        self.surrogate = surrogate

    def measure(self, policies: Sequence[Pairs]) -> Iterator[Measured]:
        return (Measured(0.0, self.surrogate.proxy(policy)) for policy in policies)


class NotLearning(Thompson):
    """Thompson sampling with an empty update."""

    def learn(self, model: Any, evaluation: Any) -> None:
        """Nothing."""


# Name -> strategy, and whether it gets sensitivities.
COMPARED = {
    "uniform": (STRATEGIES["uniform"], False),
    "random": (STRATEGIES["random"], False),
    "reinforce, cold": (STRATEGIES["reinforce"], False),
    "reinforce": (STRATEGIES["reinforce"], True),
    "thompson, cold": (STRATEGIES["thompson"], False),
    "thompson, not learning": (NotLearning, True),
    "thompson": (STRATEGIES["thompson"], True),
}


def networks() -> dict[str, list[LayerShape]]:
    found = {"small": SMALL}
    if DATA.exists():
        for name, layers in json.loads(DATA.read_text())["layers"].items():
            found[name] = [LayerShape(f"l{i}", **layer) for i, layer in enumerate(layers)]
    return found


def optimum(space: SearchSpace, surrogate: Surrogate) -> float:
    """Speed-up of the fastest policy whose true damage is within the target (a lower bound unless exhaustive)."""
    options = [sorted(set(slot.canonical.values())) for slot in space.slots]
    if math.prod(map(len, options)) <= 20_000:
        return max(space.speedup(p) for p in itertools.product(*options) if surrogate.damage(p) <= TARGET)
    rng = random.Random(0)
    best = 0.0
    for start in range(12):
        pairs = [max(option) for option in options] if start == 0 else list(space.canonical(space.uniform(5, 5)))
        for sweep in range(30):
            cost = 10.0 ** rng.uniform(-2, 2) if sweep < 20 else None
            for layer in rng.sample(range(len(options)), len(options)):
                pairs[layer] = _best_option(space, surrogate, pairs, layer, options[layer], cost)
            if surrogate.damage(pairs) <= TARGET:
                best = max(best, space.speedup(pairs))
    return best


def _best_option(
    space: SearchSpace, surrogate: Surrogate, pairs: list[tuple[int, int]], layer: int, options: Any, cost: float | None
) -> tuple[int, int]:
    def value(option: tuple[int, int]) -> float:
        trial = [*pairs[:layer], option, *pairs[layer + 1 :]]
        beyond = max(0.0, surrogate.damage(trial) - TARGET) / TARGET
        return math.log(space.speedup(trial)) - (1000.0 if cost is None else cost) * beyond

    return max(options, key=value)


def pick(trials: Trials, surrogate: Surrogate) -> tuple[float, bool]:
    """As the search does: from the best reward to the more accurate, the first that fresh data confirms."""
    best = max(trials.evaluations, key=lambda e: e.reward)
    walk = sorted((e for e in trials.evaluations if e.time_us >= best.time_us), key=lambda e: e.time_us)
    for number, evaluation in enumerate(walk):
        true = surrogate.damage(evaluation.policy)
        fresh = random.Random(f"fresh {surrogate.seed} {number}").gauss(true, NOISE)
        if fresh <= TARGET:
            return evaluation.speedup, true <= TARGET + MARGIN
    return 1.0, True


def run(name: str, shapes: list[LayerShape], strategy: str, budget: int, seeds: int) -> dict[str, Any]:
    speedups, feasible, shares, seconds, sensitivities = [], 0, [], 0.0, 0
    space = SearchSpace(shapes, "paper")
    for seed in range(seeds):
        surrogate = Surrogate(len(shapes), seed)
        trials = Trials(space, surrogate, Budget(budget))
        trials.reward = Reward(TARGET)
        made, warm = COMPARED[strategy]
        task = StrategyTask(space, trials.budget, seed, 8, Proxy(surrogate) if warm else None, trials.reward)
        start = time.perf_counter()
        trials.run(made(task), 8)
        seconds += time.perf_counter() - start
        sensitivities = trials.budget.sensitivities
        speedup, holds = pick(trials, surrogate)
        feasible += holds
        speedups.append(speedup)
        shares.append(speedup / optimum(space, surrogate))
    return {
        "network": name,
        "strategy": strategy,
        "evaluations": budget,
        "sensitivities": sensitivities,
        "speedup": statistics.mean(speedups),
        "worst": min(speedups),
        "of optimum": statistics.mean(shares),
        "feasible": f"{feasible}/{seeds}",
        "seconds": seconds / seeds,
    }


def main() -> None:
    parser = _common.parser("Search strategies at the same number of evaluations on a surrogate with known optimum.")
    parser.add_argument("--evaluations", type=int, nargs="+", default=[100, 300])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--networks", nargs="+", default=["small", "resnet18", "vgg16"], help="of the table, or small")
    arguments = parser.parse_args()
    known = networks()
    missing = [name for name in arguments.networks if name not in known]
    if missing:
        print(f"left out, not in {DATA}: {', '.join(missing)} (set CIMQ_DATA)", file=sys.stderr)
    rows = [
        run(name, known[name], strategy, budget, arguments.seeds)
        for name in arguments.networks
        if name in known
        for budget in arguments.evaluations
        for strategy in COMPARED
    ]
    _common.show(rows, arguments.json)


if __name__ == "__main__":
    main()
