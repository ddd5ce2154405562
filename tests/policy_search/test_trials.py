"""Trials: what is measured does not depend on how much is measured at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from cimq.policy_search import STRATEGIES, Budget, Evaluation, Proposal, Reward, SearchSpace, StrategyTask, Trials
from cimq.policy_search.evaluators import Measured


def run(space: SearchSpace, evaluator: Any, strategy: str, count: int, few: Any = None) -> list[Evaluation]:
    trials = Trials(space, evaluator, Budget(50))
    trials.reward = Reward(0.012)
    trials.evaluate([Proposal(space.uniform(4, 4), "baseline")])
    trials.run(STRATEGIES[strategy](StrategyTask(space, trials.budget, 2, 8, few, trials.reward)), count)
    return trials.evaluations


def without_seconds(evaluations: list[Evaluation]) -> list[dict[str, Any]]:
    return [{key: value for key, value in e.to_dict().items() if key != "seconds"} for e in evaluations]


@pytest.mark.parametrize("strategy", list(STRATEGIES))
@pytest.mark.parametrize("warm", [False, True])
def test_the_result_does_not_depend_on_how_many_are_proposed_at_a_time(
    space: SearchSpace, surrogate: Callable[..., Any], strategy: str, warm: bool
) -> None:
    runs = [
        without_seconds(run(space, surrogate(), strategy, count, surrogate() if warm else None))
        for count in (8, 1, 3, 100)
    ]
    assert all(found == runs[0] for found in runs[1:])
    if strategy == "uniform":  # two widths of weights, seven of activations, and the baseline is one of them
        assert len(runs[0]) == 14 + 1 == len({str(evaluation["policy"]) for evaluation in runs[0]})
    else:  # sensitivities cost as much as a quarter of theirs
        assert len(runs[0]) == 50 or (warm and 35 <= len(runs[0]) < 50)


@pytest.mark.parametrize("strategy", list(STRATEGIES))
def test_policies_may_be_measured_side_by_side(
    space: SearchSpace, surrogate: Callable[..., Any], strategy: str
) -> None:
    class Parallel:
        def measure(self, policies: Any) -> Iterator[Measured]:
            with ThreadPoolExecutor(4) as pool:
                yield from pool.map(surrogate().measured, policies)

    one_by_one = run(space, surrogate(), strategy, 8, surrogate())
    side_by_side = run(space, Parallel(), strategy, 8, surrogate())
    assert without_seconds(side_by_side) == without_seconds(one_by_one)


def test_known_policies_are_free_and_the_budget_ends_a_list(space: SearchSpace, surrogate: Callable[..., Any]) -> None:
    evaluator = surrogate()
    trials = Trials(space, evaluator, Budget(2))
    first, second, third = (Proposal(space.uniform(bits, bits), "by hand", bits) for bits in (4, 5, 6))
    with pytest.raises(RuntimeError, match="not set yet"):
        trials.evaluate([first])
    trials.reward = Reward(0.012)
    results = trials.evaluate([first, first, second, first, third, second])
    assert [result.policy for result in results] == [p.policy for p in (first, first, second, first)]
    assert results[0] is results[1] is results[3]
    assert [(e.index, e.strategy, e.episode) for e in trials.evaluations] == [(0, "by hand", 4), (1, "by hand", 5)]
    assert (trials.budget.left, evaluator.calls) == (0, 2)
    assert trials.evaluate([second]) == [results[2]]
    assert trials.evaluate([third]) == []


def test_what_was_asked_for_before_is_not_measured_again(space: SearchSpace, surrogate: Callable[..., Any]) -> None:
    evaluator = surrogate()
    trials = Trials(space, evaluator, Budget(5))
    (measured,) = trials.measured([space.widest])
    trials.reward = Reward(0.012)
    (evaluation,) = trials.evaluate([Proposal(space.widest, "baseline")])
    assert (evaluation.accuracy, evaluation.damage) == measured[:2]
    assert (evaluator.calls, trials.budget.evaluations) == (1, 1)
