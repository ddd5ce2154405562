"""Makes run folders of the result schema without a search."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cimq.cost_model import LayerShape, latency
from cimq.hardware import Hardware
from cimq.policy import Policy


def write_run(
    folder: Path,
    *,
    names: list[str] | None = None,
    trust: bool = False,
    hardware: Hardware | None = None,
    evaluations: int = 40,
    seed: int = 0,
    **changes: Any,
) -> dict[str, Any]:
    """Writes a consistent run with one layer per name; `changes` override keys of result.json, which is returned."""
    random_ = random.Random(seed)
    names = names if names is not None else ["conv1", "layer1.conv1", "layer2.conv1", "linear"]
    hardware = hardware or Hardware.preset("paper")
    shapes = [
        LayerShape(name, "Linear", 10, 64, 1)
        if i == len(names) - 1 and i
        else LayerShape(name, "Conv2d", 16 << min(3 * i // len(names), 2) * 2, 27 if i == 0 else 144 * (1 + i), 64)
        for i, name in enumerate(names)
    ]

    def cost(policy: Policy) -> Any:
        return latency(shapes, policy, hardware)

    lines, points = [], []
    for index in range(evaluations):
        policy = Policy.from_pairs([(random_.randint(2, 8), random_.randint(2, 8)) for _ in names])
        pairs = [list(pair) for pair in policy.pairs()]
        mean = sum(w + a for w, a in pairs) / len(pairs) / 2
        accuracy = min(
            1.0, max(0.1, 0.95 - 0.02 * (8 - mean) + random_.gauss(0, 0.01) - (0.5 if index % 17 == 3 else 0))
        )
        report = cost(policy)
        lines.append(
            {
                "index": index,
                "policy": pairs,
                "strategy": "reinforce",
                "accuracy": accuracy,
                "time_us": report.time_us,
                "speedup": report.speedup,
                "reward": report.speedup,
                "feasible": accuracy >= 0.9,
                "seconds": 0.1,
                "episode": index // 8,
            }
        )
        points.append((accuracy, report.time_us, report.speedup, index))
    pareto = [
        {"index": i, "accuracy": a, "time_us": t, "speedup": s}
        for a, t, s, i in points
        if not any(a2 >= a and t2 <= t and (a2, t2) != (a, t) for a2, t2, _, _ in points)
    ]
    rows: list[dict[str, Any]] = [{"name": "fp32", "accuracy": 0.971, "time_us": None, "speedup": None, "policy": None}]
    found = Policy.from_pairs([(8, 8)] + [(4, 4 + i % 4) for i in range(len(names) - 1)])
    for name, accuracy, policy in (
        ("uniform 8-bit", 0.97, Policy.uniform(8, 8)),
        ("uniform 4-bit", 0.94, Policy.uniform(4, 4)),
        ("found policy", 0.967, found),
    ):
        report = cost(policy)
        pairs = [list(pair) for pair in policy.bind(names).values()]
        rows.append(
            {"name": name, "accuracy": accuracy, "time_us": report.time_us, "speedup": report.speedup, "policy": pairs}
        )
    layers = [
        {
            "name": shape.name,
            "kind": shape.kind,
            "outputs": shape.outputs,
            "inputs": shape.inputs,
            "invocations": shape.invocations,
            "repeats": shape.repeats,
            "weight_bits": layer.weight_bits,
            "act_bits": layer.act_bits,
            "tiles": layer.tiles,
            "writes": layer.writes,
            "mvms": layer.mvms,
            "time_us": layer.time_us,
        }
        for shape, layer in zip(shapes, cost(found).layers, strict=True)
    ]
    result: dict[str, Any] = {
        "schema": "cimq.result",
        "version": "1.0.0",
        "model": "SmallNet",
        "hardware": hardware.to_dict(),
        "strategy": "reinforce",
        "seed": 0,
        "max_accuracy_drop": 0.02,
        "reference": {"accuracy": 0.92, "time_us": cost(Policy.uniform(8, 8)).time_us},
        "rows": rows,
        "layers": layers,
        "pareto": pareto,
        "evaluations": evaluations,
        "search_seconds": 61.0,
        "versions": {"cimq": "0.1.0", "torch": "2.13.0", "python": "3.11.7"},
        **(_trust(rows, lines) if trust else {}),
        **changes,
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "result.json").write_text(json.dumps(result), encoding="utf-8")
    (folder / "evaluations.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return result


def _trust(rows: list[dict[str, Any]], lines: list[dict[str, Any]]) -> dict[str, Any]:
    """What a search says of how far it can be trusted; damages are added to the evaluations."""
    for number, line in enumerate(lines):
        line.update(
            damage=0.01 * 16 / (sum(map(sum, line["policy"])) / len(line["policy"])) ** 2, rung="shared weights"
        )
        line["strategy"] = "baseline" if number < 8 else "thompson"
    trained = [
        {
            **row,
            "name": "candidate 3" if row["name"] == "found policy" else row["name"],
            "drop": {"drop": 0.97 - row["accuracy"], "standard_error": 0.01, "interval": [-0.02, 0.04], "units": 180,
                     "unit": "sample"},
        }
        for row in rows
        if row["policy"]
    ]  # fmt: skip
    rungs = [
        {"lower": "additive proxy", "higher": "shared weights", "correlation": 0.41, "interval": [-0.1, 0.75],
         "count": 16, "enough": True},
        {"lower": "shared weights", "higher": "short training", "correlation": 0.93, "interval": [0.2, 0.99],
         "count": 5, "enough": False},
    ]  # fmt: skip
    return {
        "trained": trained, "rungs": rungs, "passed_over": ["additive proxy"], "ranking": "shared weights",
        "verdict": "drop 0.30 points: cannot be told from 0", "target_damage": 0.01,
        "pareto_models": [{"policy": trained[-1]["policy"], "file": "pareto/0.pt"}],
    }  # fmt: skip


@pytest.fixture
def make_run() -> Callable[..., dict[str, Any]]:
    """`write_run` itself; test files under importlib cannot import this one."""
    return write_run
