"""How much faster searched policies are than uniform ones at the same distance from fp32, on real networks.

    python benchmarks/policy_search/front.py --data DIR --checkpoints DIR --network resnet20 --seeds 0 1 2
    python benchmarks/policy_search/front.py ... --network vgg11 --first-last free --strategies thompson random

DIR of --data has ImageFolder layout (train/<class>/*, test/<class>/*), that of --checkpoints the fp32 state_dicts
(resnet20-cifar10jpeg-45k.pt, vgg11-cifar10jpeg-45k.pt) of networks that the last 500 images of every class of train
were held out from. Of those 5,000, one half is what strategies see; the test images are measured at the end.

For each seed one set of weights is trained for all policies. Uniform policies (all pairs of widths that are not beaten
by another in time, wider where that costs nothing) and searched ones are measured with these weights, batch statistics
re-estimated for each. Levels are the uniform W4A4's accuracy on test and 0.5, 1 and 2 points below, on the straight
line between uniform neighbours; each strategy searches for the fastest policy whose divergence from fp32 on the search
images is not above that of the uniform front at that level. One more level is 0.086 points below uniform W8A8, the
loss that the paper's policies were chosen for. On the test images, the gain is the time of the uniform
front (a straight line between neighbours, in the logarithm of the time) at the found policy's divergence, or accuracy,
over the found policy's time.

Every seed has a folder below --out; an interrupted run goes on where it was.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "examples"))
import _common
from _networks import Task, add_network_arguments, seed_folder

from cimq.policy_search import STRATEGIES, Budget, Reward, StrategyTask, Trials
from cimq.policy_search.records import front_of
from cimq.policy_search.space import Pairs, SearchSpace

# Name: widths of the uniform policy, how far below its accuracy. The last is the paper's loss.
LEVELS = {"0": (4, 0.0), "0.5": (4, 0.005), "1": (4, 0.01), "2": (4, 0.02), "w8a8-0.086": (8, 0.00086)}


def arguments() -> argparse.Namespace:
    parser = _common.parser(__doc__ or "")
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    add_network_arguments(parser)
    parser.add_argument("--strategies", nargs="+", default=["thompson"], choices=sorted(STRATEGIES))
    parser.add_argument("--evaluations", type=int, default=100, help="for each level")
    parser.add_argument(
        "--levels",
        nargs="+",
        default=list(LEVELS),
        choices=list(LEVELS),
        help="points below W4A4's accuracy, or W8A8's",
    )
    return parser.parse_args()


class Line:
    """Times of uniform policies against a measure that grows with them, in straight lines of the time's logarithm."""

    def __init__(self, points: Sequence[tuple[float, float]]) -> None:
        """Points (time, how bad), the front of which is kept."""
        kept = [points[i] for i in front_of(list(points))]
        self.bad = [bad for _, bad in reversed(kept)]  # ascending
        self.log_time = [math.log(at) for at, _ in reversed(kept)]

    def time_at(self, bad: float) -> float | None:
        """None outside of what was measured."""
        for i in range(1, len(self.bad)):
            if self.bad[i - 1] <= bad <= self.bad[i]:
                share = (bad - self.bad[i - 1]) / (self.bad[i] - self.bad[i - 1])
                return math.exp(self.log_time[i - 1] + share * (self.log_time[i] - self.log_time[i - 1]))
        return None


def one_seed(args: argparse.Namespace, seed: int) -> dict[str, Any]:
    task = Task(args, seed, seed_folder(args, seed))
    space = task.space
    uniform = task.uniform()
    on_search = task.measured("search", uniform)
    on_test = task.measured("test", uniform)
    times = [space.time_us(policy) for policy in uniform]
    # At equal levels of accuracy on test: the divergence, on the search images, that strategies may reach.
    by_accuracy = Line([(t, 1 - m.accuracy) for t, m in zip(times, on_test, strict=True)])
    by_damage = Line([(t, m.damage) for t, m in zip(times, on_test, strict=True)])
    on_search_line = front_line(times, [m.damage for m in on_search])
    rows = []
    for (first_last, space), level in itertools.product(task.spaces.items(), args.levels):
        bits, below = LEVELS[level]
        at = by_accuracy.time_at(1 - (task.measured("test", [task.uniform_of(bits, bits)])[0].accuracy - below))
        if at is None:
            continue
        target = between(on_search_line, math.log(at))
        for name in args.strategies:
            found, evaluations, seconds = searched(task, space, name, target, args.evaluations, seed)
            measured = task.measured("test", [found])[0]
            found_us = space.time_us(found)
            gains = [line.time_at(bad) for line, bad in (
                (by_damage, measured.damage), (by_accuracy, 1 - measured.accuracy))]  # fmt: skip
            rows.append({
                "strategy": name, "first_last": first_last, "level": level, "target": target,
                "speedup": space.speedup(found), "uniform_speedup": space.speedup(found) * space.time_us(found) / at,
                "damage": measured.damage, "accuracy": measured.accuracy, "evaluations": evaluations,
                "gain_by_damage": gains[0] and gains[0] / found_us,
                "gain_by_accuracy": gains[1] and gains[1] / found_us, "seconds": seconds,
                "policy": [list(pair) for pair in found],
            })  # fmt: skip
            print(json.dumps({"seed": seed, **rows[-1]}), file=sys.stderr, flush=True)
    points = [
        {"policy": [list(pair) for pair in p], "speedup": space.speedup(p), "damage": m.damage, "accuracy": m.accuracy}
        for p, m in zip(uniform, on_test, strict=True)
    ]
    return {"seed": seed, "uniform": points, "found": rows, "fp32": task.fp32_accuracy(), "shared_s": task.shared_s}


def front_line(times: Sequence[float], damages: Sequence[float]) -> list[tuple[float, float]]:
    """(logarithm of the time, damage) of the policies that no other beats in both, fastest first."""
    kept = front_of(list(zip(times, damages, strict=True)))
    return [(math.log(times[i]), damages[i]) for i in kept]


def between(line: Sequence[tuple[float, float]], x: float) -> float:
    """On the straight line between neighbours; the nearest end outside."""
    for (x0, y0), (x1, y1) in itertools.pairwise(line):
        if x0 <= x <= x1:
            return y0 + (y1 - y0) * (x - x0) / (x1 - x0)
    return line[0][1] if x < line[0][0] else line[-1][1]


def searched(
    task: Task, space: SearchSpace, name: str, target: float, evaluations: int, seed: int
) -> tuple[Pairs, int, float]:
    """The fastest policy within the target that a strategy finds, what it evaluated, and the seconds."""
    start = time.perf_counter()
    evaluator, few = task.evaluators()
    trials = Trials(space, evaluator, Budget(evaluations))
    trials.reward = Reward(target)
    trials.run(STRATEGIES[name](StrategyTask(space, trials.budget, seed, 8, few, trials.reward)), 8)
    if not trials.evaluations:
        raise SystemExit(f"--evaluations {evaluations} are spent on the sensitivities of {len(space.slots)} layers")
    within = [e for e in trials.evaluations if e.feasible] or trials.evaluations
    best = min(within, key=lambda e: e.time_us if e.feasible else e.damage)
    return best.policy, len(trials.evaluations), time.perf_counter() - start


def table(results: Sequence[dict[str, Any]], strategies: Sequence[str]) -> str:
    lines = ["| strategy | first, last | points below W4A4 | speed-up | gain at equal divergence | at equal accuracy |"]
    lines += ["| --- | --- | --- | --- | --- | --- |"]
    found = [row for result in results for row in result["found"]]
    for name, first_last, level in itertools.product(strategies, ("8", "free"), LEVELS):
        rows = [r for r in found if (r["strategy"], r["first_last"], r["level"]) == (name, first_last, level)]
        if rows:
            cells = [spread([r[key] for r in rows]) for key in ("speedup", "gain_by_damage", "gain_by_accuracy")]
            lines.append(f"| {name} | {first_last} | {level} | {' | '.join(cells)} |")
    return "\n".join(lines)


def spread(values: Sequence[float | None]) -> str:
    known = [value for value in values if value is not None]
    if not known:
        return "outside"
    return f"{statistics.mean(known):.3f}x ({min(known):.3f} to {max(known):.3f})" + (
        "" if None not in values else " *"
    )


def main() -> None:
    args = arguments()
    results = [one_seed(args, seed) for seed in args.seeds]
    if args.json:
        print(json.dumps({"environment": _common.environment(), "results": results}, indent=1))
        return
    print(table(results, args.strategies))


if __name__ == "__main__":
    main()
