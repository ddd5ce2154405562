"""Strategies, trials and log on the surrogate network."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable
from contextlib import closing, nullcontext
from pathlib import Path
from typing import Any

import pytest

from cimq import Hardware
from cimq.policy_search import (
    STRATEGIES,
    Budget,
    Evaluation,
    Journal,
    Reward,
    SearchSpace,
    StrategyTask,
    Trials,
    pareto_front,
)
from cimq.policy_search.evaluators import Measured
from cimq.policy_search.knapsack import Sensitivity, knapsack_path, measure_sensitivity

TARGET = 0.012
SETTINGS = {"seed": 0, "strategy": "reinforce", "bits": [2, 8]}


def make_trials(space: SearchSpace, evaluator: Any, budget: int, log: Journal | None = None) -> Trials:
    trials = Trials(space, evaluator, Budget(budget), log)
    trials.reward = Reward(TARGET)
    return trials


def run(space: SearchSpace, evaluator: Any, budget: int, strategy: str, log: Journal | None = None) -> Trials:
    """A whole search; the log is closed, also where it is interrupted."""
    with nullcontext() if log is None else closing(log):
        trials = make_trials(space, evaluator, budget, log)
        # Of an object of its own: what is counted are evaluations.
        task = StrategyTask(space, trials.budget, 3, 8, type(evaluator)(), trials.reward)
        trials.run(STRATEGIES[strategy](task), 8)
        return trials


def optimum(space: SearchSpace, evaluator: Any) -> float:
    """Fastest feasible policy of the surrogate, exhaustively."""
    options = [sorted(set(slot.canonical.values())) for slot in space.slots]
    return max(space.speedup(p) for p in itertools.product(*options) if evaluator.damage(p) <= TARGET)


@pytest.mark.parametrize("strategy", sorted(STRATEGIES))
def test_budget_is_respected_and_nothing_is_measured_twice(
    space: SearchSpace, surrogate: Callable[..., Any], strategy: str
) -> None:
    evaluator = surrogate()
    trials = run(space, evaluator, 40, strategy)
    policies = [e.policy for e in trials.evaluations]
    assert 0 < len(policies) <= 40
    assert len(set(policies)) == len(policies)
    assert evaluator.calls == len(policies)
    assert len(policies) + 0.25 * trials.budget.sensitivities <= 41
    assert [e.index for e in trials.evaluations] == list(range(len(policies)))
    for e in trials.evaluations:
        assert e.time_us == space.time_us(e.policy)
        assert e.reward == trials.reward(e.damage, e.speedup)
        assert e.feasible == (e.damage <= TARGET)


def test_learning_strategies_come_close_to_the_optimum_and_beat_the_others(
    surrogate: Callable[..., Any], space: SearchSpace
) -> None:
    small = SearchSpace(space.shapes, "paper", bits=(3, 7))
    best = {}
    for strategy in STRATEGIES:
        trials = run(small, surrogate(), 100, strategy)
        best[strategy] = max(e.speedup for e in trials.evaluations if e.feasible)
    for strategy, share in (
        ("thompson", 0.99), ("pairwise", 0.99), ("reinforce", 0.97), ("evolution", 0.97), ("knapsack", 0.97),
    ):  # fmt: skip
        assert best[strategy] >= share * optimum(small, surrogate())
        assert best[strategy] > best["random"]
        assert best[strategy] > best["uniform"]


@pytest.mark.parametrize("strategy", ["thompson", "pairwise", "evolution", "reinforce", "random"])
def test_the_seed_decides(space: SearchSpace, surrogate: Callable[..., Any], strategy: str) -> None:
    found = []
    for seed in (3, 4):
        trials = make_trials(space, surrogate(), 40)
        trials.run(STRATEGIES[strategy](StrategyTask(space, trials.budget, seed, 8, None, trials.reward)), 8)
        found.append([e.policy for e in trials.evaluations])
    assert len(found[0]) == len(found[1])
    assert found[0] != found[1]


def test_knapsack_bisects_to_the_target_and_looks_on_both_sides(
    space: SearchSpace, surrogate: Callable[..., Any]
) -> None:
    trials = run(space, surrogate(), 60, "knapsack")
    path = knapsack_path(space, measure_sensitivity(space, surrogate(), Budget(60)))
    steps = [path.index(e.policy) for e in trials.evaluations]
    within = [position for position, e in zip(steps, trials.evaluations, strict=True) if e.feasible]
    last = max(within)
    bisected = math.ceil(math.log2(len(path)))
    assert {last - 1, last + 1, last - 2, last + 2} <= set(steps)
    assert last in steps[:bisected]
    assert max(abs(step - last) for step in steps[bisected:]) > 5


def test_evolution_changes_at_most_two_layers_of_what_it_crosses(
    space: SearchSpace, surrogate: Callable[..., Any]
) -> None:
    trials = run(space, surrogate(), 80, "evolution")
    for number, evaluation in enumerate(trials.evaluations):
        if evaluation.strategy != "evolution":
            continue
        known = [e.policy for e in trials.evaluations[:number]]
        new = sum(all(policy[i] != pair for policy in known) for i, pair in enumerate(evaluation.policy))
        assert new <= 2
    assert any(e.strategy == "evolution" for e in trials.evaluations)


class Meeting:
    """Layers 1 and 2 cancel each other's errors, or add to them; no others meet."""

    def __init__(self, strength: float) -> None:
        self.strength = strength
        self.asked: list[Any] = []

    def measure(self, policies: Any) -> list[Measured]:
        self.asked += policies
        return [Measured(0.5, self.damage(policy)) for policy in policies]

    def damage(self, policy: Any) -> float:
        own = [0.1 * (4.0**-w + 4.0**-a) for w, a in policy]
        return sum(own) + self.strength * math.sqrt(own[1] * own[2])


@pytest.mark.parametrize("strength", [-1.5, 1.5])
def test_pairwise_measures_how_layers_meet(space: SearchSpace, strength: float) -> None:
    rewards = {}
    for strategy, pairs in (("pairwise", 10), ("thompson", 0)):  # every two of the five layers that are free
        few = Meeting(strength)
        budget = Budget(100)
        reward = Reward(few.damage(space.uniform(4, 4)))
        first = STRATEGIES[strategy](StrategyTask(space, budget, 0, 8, few, reward)).propose(1)[0].policy
        lowered = [sum(p != q for p, q in zip(policy, space.widest, strict=True)) for policy in few.asked]
        assert lowered.count(2) == pairs
        assert budget.sensitivities == len(few.asked)
        rewards[strategy] = reward(few.damage(first), space.speedup(first))
    assert rewards["pairwise"] > rewards["thompson"] + 0.05


def test_cold_reinforce_improves_on_its_start(surrogate: Callable[..., Any], space: SearchSpace) -> None:
    trials = make_trials(space, surrogate(), 400)
    trials.run(STRATEGIES["reinforce"](StrategyTask(space, trials.budget, 1, 8, None, trials.reward)), 8)
    rewards = [e.reward for e in trials.evaluations]
    assert sum(rewards[-50:]) / 50 > sum(rewards[:50]) / 50 + 0.2


def test_a_space_without_choice_ends(surrogate: Callable[..., Any]) -> None:
    from cimq.cost_model import LayerShape

    space = SearchSpace([LayerShape("only", "linear", 10, 10, 1)])
    for strategy in STRATEGIES:
        trials = run(space, surrogate(), 20, strategy)
        assert [e.policy for e in trials.evaluations] == [((8, 8),)]


def test_knapsack_path_holds_the_exact_optimum_of_an_additive_model(space: SearchSpace) -> None:
    weights = [{w: 4.0**-w * (1 + i) for w in slot.weight_choices} for i, slot in enumerate(space.slots)]
    acts = [{a: 4.0**-a * (2 + i % 3) for a in slot.act_choices} for i, slot in enumerate(space.slots)]
    sensitivity = Sensitivity(weights, acts)

    def total(policy: Any) -> float:
        return sum(sensitivity.of(i, policy[slot.layers[0]]) for i, slot in enumerate(space.slots))

    path = knapsack_path(space, sensitivity)
    assert len(path) > 10
    assert [space.time_us(p) for p in path] == sorted((space.time_us(p) for p in path), reverse=True)
    assert [total(p) for p in path] == sorted(total(p) for p in path)
    assert path[0] == space.widest
    options = [sorted(set(slot.canonical.values())) for slot in space.slots]
    reduced = [o[::3] or o for o in options]
    for policy in path:
        rivals = [p for p in itertools.product(*reduced) if total(p) < total(policy)]
        assert all(space.time_us(p) >= space.time_us(policy) for p in rivals)


# ---- log and resume ----


def records(folder: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (folder / "evaluations.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k != "seconds"} for line in lines]


@pytest.mark.parametrize("strategy", sorted(STRATEGIES))
@pytest.mark.parametrize("interrupt_at", [5, 23])
def test_an_interrupted_search_continues_as_if_it_had_not_been(
    tmp_path: Path, space: SearchSpace, surrogate: Callable[..., Any], strategy: str, interrupt_at: int
) -> None:
    if strategy == "uniform" and interrupt_at == 23:  # on larger arrays few are different
        space = SearchSpace(space.shapes, Hardware(rows=64, cols=16, cell_bits=2))
    for name in ("whole", "again"):
        run(space, surrogate(), 40, strategy, Journal(tmp_path / name, SETTINGS))
    assert records(tmp_path / "whole") == records(tmp_path / "again")

    log = Journal(tmp_path / "cut", SETTINGS)
    with pytest.raises(KeyboardInterrupt):
        run(space, surrogate(interrupt_at), 40, strategy, log)
    done = len(records(tmp_path / "cut"))
    assert done == interrupt_at
    with (tmp_path / "cut" / "evaluations.jsonl").open("a") as file:
        file.write('{"index": 7, "poli')  # the power went out
    evaluator = surrogate()
    run(space, evaluator, 40, strategy, Journal(tmp_path / "cut", SETTINGS, resume=True))
    assert records(tmp_path / "cut") == records(tmp_path / "whole")
    assert evaluator.calls == len(records(tmp_path / "whole")) - done


def test_other_settings_are_refused_by_name(tmp_path: Path) -> None:
    with closing(Journal(tmp_path, SETTINGS)) as log:
        log.record(evaluation(0))
    with pytest.raises(ValueError, match=r"pass resume=True or another folder"):
        Journal(tmp_path, SETTINGS)
    with pytest.raises(ValueError, match=r"other settings: bits was \[2, 8\], is \[3, 8\]; seed was 0, is 1"):
        Journal(tmp_path, {**SETTINGS, "seed": 1, "bits": [3, 8]}, resume=True)
    with closing(Journal(tmp_path, SETTINGS, resume=True)) as log:
        assert len(log.recorded) == 1


def test_damage_in_the_middle_is_named(tmp_path: Path) -> None:
    with closing(Journal(tmp_path, SETTINGS)) as log:
        for index in range(3):
            log.record(evaluation(index))
    path = tmp_path / "evaluations.jsonl"
    lines = path.read_text().splitlines()
    for text, words in (
        ("not json", "line 2 is damaged"),
        ("[]", "line 2 is damaged"),
        (lines[2], "index must be 1, got 2"),
        (lines[1].replace('"accuracy": 0.9', '"accuracy": "x"'), "accuracy must be a number"),
        (lines[1].replace('"speedup"', '"speed"'), "must have the keys"),
    ):
        path.write_text("\n".join([lines[0], text, lines[2]]) + "\n")
        with pytest.raises(ValueError, match=words):
            Journal(tmp_path, SETTINGS, resume=True)
    path.write_text(lines[0] + "\n")
    (tmp_path / "search.json").unlink()
    with pytest.raises(ValueError, match="is missing"):
        Journal(tmp_path, SETTINGS, resume=True)


def test_a_log_of_another_path_is_refused(tmp_path: Path, space: SearchSpace, surrogate: Callable[..., Any]) -> None:
    run(space, surrogate(), 10, "random", Journal(tmp_path, SETTINGS))
    with pytest.raises(ValueError, match="evaluation 0 is of another policy"):
        run(space, surrogate(), 10, "uniform", Journal(tmp_path, SETTINGS, resume=True))


def test_an_accuracy_that_is_no_number_is_refused(space: SearchSpace, surrogate: Callable[..., Any]) -> None:
    evaluator = surrogate()
    for measured, name in ((Measured(math.nan, 0.0), "accuracy"), (Measured(0.5, math.nan), "damage")):
        evaluator.measure = lambda policies, found=measured: [found] * len(policies)
        with pytest.raises(ValueError, match=f"the {name} of .* is no number"):
            make_trials(space, evaluator, 5).measured([space.widest])
    with pytest.raises(ValueError, match="evaluations must be an integer of at least 1"):
        Budget(0)


def evaluation(index: int, damage: float = 0.1, time_us: float = 1.0) -> Evaluation:
    return Evaluation(index, ((8, 8),), "random", 0.9, damage, time_us, 1.0, time_us, 0.0, True, 0.1)


def test_pareto_front() -> None:
    points = [(0.1, 5.0), (0.2, 3.0), (0.3, 4.0), (0.2, 3.0), (0.05, 9.0), (0.1, 6.0)]
    front = pareto_front(evaluation(i, *point) for i, point in enumerate(points))
    assert [e.index for e in front] == [1, 0, 4]
