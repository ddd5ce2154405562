"""What it is good for to search by the time of the program that will run: ResNet-18 at 224 x 224 on a machine with more
crossbars than one, damages made up (`_problems`), one search by the closed form and one by `pipeline="pipelined"`, with
the same evaluations. Both policies are compiled: times and speed-ups are of their simulated programs. Geometric means
over seeds.

    python benchmarks/policy_search/programs.py --crossbars 64 1024
"""

from __future__ import annotations

import math
import statistics
import sys
import time
import warnings
from pathlib import Path

from _problems import Problem
from strategies import BATCH, TARGET, _common

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "compiler"))
from _resnet18 import resnet18

from cimq import Hardware
from cimq.cost_model import LayerShape
from cimq.policy_search import STRATEGIES, Budget, Reward, SearchSpace, StrategyTask, Trials
from cimq.policy_search.program_prices import ProgramPrices
from cimq.policy_search.space import Pairs
from cimq.policy_search.uniform_front import uniform_grid


def found(problem: Problem, space: SearchSpace, seed: int, budget: int) -> Pairs:
    """The cheapest policy within the damage that a search measures, uniform ones among them."""
    trials = Trials(space, problem, Budget(budget))
    trials.reward = Reward(TARGET)
    task = StrategyTask(space, trials.budget, seed, BATCH, problem.sensitivities, trials.reward)
    trials.run(STRATEGIES["thompson"](task), BATCH)
    policies = [*(e.policy for e in trials.evaluations), *uniform_grid(space, 100).values()]
    return min((policy for policy in policies if problem.damage(policy) <= TARGET), key=space.cost)


def main() -> None:
    parser = _common.parser(__doc__ or "")
    parser.add_argument("--crossbars", type=int, nargs="+", default=[16, 64, 1024, 4096])
    parser.add_argument("--evaluations", type=int, default=100)
    parser.add_argument("--seeds", type=int, default=5)
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore", "hardware .* but the closed-form latency is that of one")
    network = resnet18([(8, 8)] * 21)
    facts = [node.crossbar for node in network.crossbar_nodes() if node.crossbar is not None]
    shapes = [
        LayerShape(f.layer_name, "Conv2d", f.outputs, f.inputs_per_output, f.invocations, f.repeats) for f in facts
    ]
    text = network.layers_json()
    rows = []
    for crossbars in arguments.crossbars:
        machine = Hardware.preset("paper").replace(resources={"crossbars": crossbars})
        prices = ProgramPrices(text, shapes, machine, "pipelined")
        programs = SearchSpace(shapes, machine, prices=prices)
        times: dict[str, list[float]] = {"uniform": [], "closed form": [], "program": []}
        start = time.perf_counter()
        for seed in range(arguments.seeds):
            problem = Problem(shapes, seed, interaction=0.5, noise=0.02)
            uniform = [p for p in uniform_grid(programs, 100).values() if problem.damage(p) <= TARGET]
            times["uniform"].append(min(map(programs.time_us, uniform)))
            by_sum = found(problem, SearchSpace(shapes, machine), seed, arguments.evaluations)
            times["closed form"].append(programs.time_us(by_sum))
            times["program"].append(programs.time_us(found(problem, programs, seed, arguments.evaluations)))
        means = {name: math.exp(statistics.mean(map(math.log, values))) / 1000 for name, values in times.items()}
        eight = programs.time_us(((8, 8),) * len(shapes)) / 1000
        rows.append({
            "crossbars": crossbars, "8 bits ms": eight, **{f"{name} ms": mean for name, mean in means.items()},
            "program over closed form": means["closed form"] / means["program"],
            "least": min(a / b for a, b in zip(times["closed form"], times["program"], strict=True)),
            "seconds": time.perf_counter() - start,
        })  # fmt: skip
    _common.show(rows, arguments.json)


if __name__ == "__main__":
    main()
