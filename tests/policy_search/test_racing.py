"""Racing: what a part of the samples can tell is not measured on all, and is right; the budget counts shares."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import closing
from typing import Any

import numpy as np
import pytest

from cimq.policy_search import (
    STRATEGIES,
    Budget,
    Evaluation,
    Journal,
    Proposal,
    Reward,
    SearchSpace,
    StrategyTask,
    Trials,
)
from cimq.policy_search.evaluators import Evaluator, Measured, Units
from cimq.policy_search.evaluators.racing import Racing, corrected
from cimq.policy_search.space import Pairs

SAMPLES, PART = 4000, 1000


class Samples:
    """Damages that scatter over samples: some are hard for every policy, and each policy has its own as well."""

    def __init__(self, surrogate: Any, samples: int) -> None:
        self._surrogate = surrogate
        self._samples = samples
        self._hard = np.random.default_rng(0).gamma(0.5, 2.0, SAMPLES)
        self.calls = 0

    def values(self, policy: Pairs) -> Any:
        own = np.random.default_rng(abs(hash(policy)) % 2**32).gamma(0.7, 1 / 0.7, SAMPLES)
        return (self._surrogate.damage(policy) * self._hard * own)[: self._samples]

    def measure(self, policies: Sequence[Pairs]) -> Iterator[Measured]:
        for policy in policies:
            self.calls += 1
            values = self.values(policy)
            if self._samples == SAMPLES:
                yield Measured(0.9, float(values.mean()))
            else:
                yield Measured(0.9, float(values.mean()), 0.25, Units(tuple(values), (1.0,) * len(values)))


@pytest.fixture
def sets(surrogate: Any) -> tuple[Samples, Samples]:
    return Samples(surrogate(), PART), Samples(surrogate(), SAMPLES)


def mixed(space: SearchSpace, count: int) -> list[Pairs]:
    numbers = random.Random(0)
    return [space.assigned([numbers.choice(slot.pairs) for slot in space.slots]) for _ in range(count)]


def test_a_race_ends_on_the_right_side_of_the_target_and_saves(
    space: SearchSpace, sets: tuple[Samples, Samples]
) -> None:
    part, whole = sets
    policies = list(dict.fromkeys(mixed(space, 400)))
    true = {policy: found.damage for policy, found in zip(policies, whole.measure(policies), strict=True)}
    ordered = sorted(policies, key=true.__getitem__)
    reference = ordered[len(ordered) // 2]
    racing = Racing(part, whole)
    racing.aim(true[reference], reference, true[reference])
    whole.calls = part.calls = 0
    found = list(racing.measure(policies))
    early = [(policy, m) for policy, m in zip(policies, found, strict=True) if m.share < 1]
    wrong = sum((m.damage > true[reference]) != (true[policy] > true[reference]) for policy, m in early)
    assert wrong <= 0.01 * len(early)
    assert len(early) > 0.5 * len(policies)
    assert whole.calls == len(policies) - len(early)
    assert sum(m.share for m in found) < 0.8 * len(policies)
    for policy, m in zip(policies, found, strict=True):
        if m.share > 1:
            assert (m.share, m.damage) == (1.25, true[policy])
    # The correction by the reference brings the part nearer to the whole.
    plain = [abs(part.values(policy).mean() / true[policy] - 1) for policy, _ in early]
    assert np.mean([abs(m.damage / true[policy] - 1) for policy, m in early]) < 0.9 * np.mean(plain)


def test_the_standard_error_is_that_of_the_estimate() -> None:
    numbers = np.random.default_rng(1)
    off = []
    for _ in range(300):
        hard = numbers.gamma(0.5, 2.0, SAMPLES)
        candidate, reference = (hard * numbers.gamma(2.0, 0.5, SAMPLES) for _ in range(2))
        units = [Units(tuple(values[:PART]), (1.0,) * PART) for values in (candidate, reference)]
        estimate, error = corrected(units[0], units[1], float(reference.mean()))
        off.append((estimate - candidate.mean()) / error)
    assert abs(np.mean(off)) < 0.2
    assert 0.85 < np.std(off) < 1.2
    with pytest.raises(ValueError, match="same samples"):
        corrected(units[0], Units((1.0,), (1.0,)), 1.0)
    assert corrected(Units((1.0, 2.0), (1.0, 1.0)), Units((1.0, 2.0), (1.0, 1.0)), 1.5)[1] == float("inf")


def test_before_there_is_a_target_everything_is_measured_on_all(
    space: SearchSpace, sets: tuple[Samples, Samples]
) -> None:
    part, whole = sets
    found = list(Racing(part, whole).measure([space.widest, space.uniform(4, 4)]))
    assert [m.share for m in found] == [1.0, 1.0]
    assert part.calls == 0


def run(
    space: SearchSpace, surrogate: Any, count: int, journal: Journal | None = None, strategy: str = "random"
) -> Trials:
    part, whole = Samples(surrogate, PART), Samples(surrogate, SAMPLES)
    racing: Evaluator = Racing(part, whole)
    trials = Trials(space, racing, Budget(40), journal)
    trials.reward = Reward(0.012)
    (near,) = trials.evaluate([Proposal(space.canonical(space.uniform(4, 4)), "baseline")])
    assert isinstance(racing, Racing)
    racing.aim(0.012, near.policy, near.damage)
    trials.budget.spend(0.25)
    trials.run(STRATEGIES[strategy](StrategyTask(space, trials.budget, 2, 8, None, trials.reward)), count)
    return trials


def plain(evaluations: Sequence[Evaluation]) -> list[dict[str, Any]]:
    return [{key: value for key, value in e.to_dict().items() if key != "seconds"} for e in evaluations]


def test_the_budget_counts_shares_however_many_are_measured_at_a_time(space: SearchSpace, surrogate: Any) -> None:
    runs = [run(space, surrogate(), count) for count in (8, 1, 100)]
    assert plain(runs[0].evaluations) == plain(runs[1].evaluations) == plain(runs[2].evaluations)
    spent = sum(e.share for e in runs[0].evaluations) + 0.25
    assert 38.5 <= spent <= 40
    assert len(runs[0].evaluations) > 60


@pytest.mark.parametrize("limit", [5, 6, 7, 13])
def test_races_that_all_go_on_do_not_exceed_the_limit(space: SearchSpace, surrogate: Any, limit: int) -> None:
    policies = list(dict.fromkeys(mixed(space, 40)))
    racing = Racing(Samples(surrogate(), 4), Samples(surrogate(), SAMPLES))  # of so few nothing can be told
    trials = Trials(space, racing, Budget(limit))
    trials.reward = Reward(0.012)
    racing.aim(0.012, policies[0], 0.01)
    trials.budget.spend(0.25)
    found = trials.evaluate([Proposal(policy, "by hand") for policy in policies])
    spent = sum(e.share for e in found) + 0.25
    assert {e.share for e in found} == {1.25}
    assert limit - 1.25 < spent <= limit
    trials.run(STRATEGIES["random"](StrategyTask(space, trials.budget, 0, 8, None, trials.reward)), 8)
    assert len(trials.evaluations) == len(found)


def test_the_knapsack_goes_on_where_parts_suffice(space: SearchSpace, surrogate: Any) -> None:
    trials = run(space, surrogate(), 8, strategy="knapsack")
    assert len(trials.evaluations) > 40


def test_a_race_that_is_resumed_goes_on_in_the_same_way(space: SearchSpace, surrogate: Any, tmp_path: Any) -> None:
    with closing(Journal(tmp_path, {"seed": 2})) as journal:
        whole = run(space, surrogate(), 8, journal)
    lines = (tmp_path / "evaluations.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "evaluations.jsonl").write_text("".join(lines[:20]))
    with closing(Journal(tmp_path, {"seed": 2}, resume=True)) as journal:
        resumed = run(space, surrogate(), 8, journal)
    assert plain(resumed.evaluations) == plain(whole.evaluations)
    assert resumed.budget.left == whole.budget.left
