"""Every strategy at the same number of evaluations, on real networks with weights trained for all policies.

    python benchmarks/policy_search/real_networks.py --data DIR --checkpoints DIR --network resnet20 --seeds 0 1 2

DIR as for front.py, whose shared weights are taken where --out has them. Candidates are measured on --search-images of
the images that were held out; what a strategy found is confirmed on all the others of them. The target is the
divergence of a uniform policy (--target-bits). A strategy is judged by the fastest policy that it measured within the
target; by that policy's divergence on the images that confirm, as a share of the target there (the same uniform
policy's); and by the front, as the mean speed-up over divergences from half to twice the target, on the images that it
saw. "Not learning" has the same start and the same source of proposals, and is never told what was measured.

Measurements are kept in the seed's folder: a policy that two strategies propose is measured once, and counted for each.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "examples"))
import _common
from _networks import Kept, Task, add_network_arguments, seed_folder
from strategies import COMPARED, mean_speedup

from cimq.policy_search import Budget, Reward, StrategyTask, Trials

BATCH = 8
DEFAULT = [
    "thompson", "thompson, not learning", "pairwise", "knapsack", "evolution", "reinforce", "reinforce, not learning",
    "random",
]  # fmt: skip


def arguments() -> argparse.Namespace:
    parser = _common.parser(__doc__ or "")
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    add_network_arguments(parser)
    parser.add_argument("--strategies", nargs="+", choices=list(COMPARED), default=DEFAULT)
    parser.add_argument("--evaluations", type=int, nargs="+", default=[50, 100, 300])
    parser.add_argument("--search-images", type=int, default=500)
    parser.add_argument("--target-bits", type=int, nargs=2, metavar=("W", "A"), default=None,
                        help="default: 8 3 for ResNet-20, 4 4 for VGG-11")  # fmt: skip
    return parser.parse_args()


def one_seed(args: argparse.Namespace, seed: int) -> list[dict[str, Any]]:
    folder = seed_folder(args, seed)
    task = Task(args, seed, folder)
    whole, few, confirm = (
        Kept(task.evaluator_on(name, part), folder / f"{name}-{len(part)}-{part[0]}.json")
        for name, part in (
            ("search", range(args.search_images)),
            ("search", range(args.search_images // 4)),
            ("confirm", range(task.count("confirm"))),
        )
    )
    reference = task.uniform_of(*(args.target_bits or ((8, 3) if args.network == "resnet20" else (4, 4))))
    target, confirmed = (next(evaluator.measure([reference])).damage for evaluator in (whole, confirm))
    rows = []
    for evaluations in args.evaluations:
        for name in args.strategies:
            trials = Trials(task.space, whole, Budget(evaluations))
            trials.reward = Reward(target)
            strategy = COMPARED[name](StrategyTask(task.space, trials.budget, seed, BATCH, few, trials.reward))
            trials.run(strategy, BATCH)
            points = [(e.damage / target, e.speedup) for e in trials.evaluations]
            best = max((e for e in trials.evaluations if e.feasible), key=lambda e: e.speedup, default=None)
            rows.append({
                "evaluations": evaluations, "strategy": name, "seed": seed,
                "speed-up": best.speedup if best else 1.0,
                "confirmed": next(confirm.measure([best.policy])).damage / confirmed if best else None,
                "front": mean_speedup(points),
            })  # fmt: skip
            print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
    rows.append({"evaluations": 1, "strategy": f"uniform {reference[len(reference) // 2]}", "seed": seed,
                 "speed-up": task.space.speedup(reference), "confirmed": 1.0, "front": 1.0})  # fmt: skip
    return rows


def summary(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Mean and standard deviation over seeds."""
    lines = []
    for key in dict.fromkeys((row["evaluations"], row["strategy"]) for row in rows):
        group = [row for row in rows if (row["evaluations"], row["strategy"]) == key]
        line: dict[str, Any] = {"evaluations": key[0], "strategy": key[1]}
        for name in ("speed-up", "confirmed", "front"):
            values = [row[name] for row in group if row[name] is not None]
            line[name] = statistics.mean(values) if values else None
            line[f"{name} deviation"] = statistics.stdev(values) if len(values) > 1 else 0.0
        lines.append(line)
    return lines


def main() -> None:
    args = arguments()
    rows = [row for seed in args.seeds for row in one_seed(args, seed)]
    _common.show(summary(rows), args.json)


if __name__ == "__main__":
    main()
