"""What the found policy is compared with, and what came close."""

from __future__ import annotations

import dataclasses

from cimq.policy import Policy
from cimq.policy_search.flow import Outcome
from cimq.policy_search.space import SearchSpace
from cimq.policy_search.uniform_front import name_of


@dataclasses.dataclass(frozen=True)
class Baseline:
    """A network that the found policy is compared with.

    Attributes:
        name: "fp32", "uniform 8-bit", ...
        policy: Its bits; None for fp32.
        accuracy: After the same training as the found policy, on the confirmation set; None if it was not trained.
        search_accuracy: Before training, on the search-validation set; None if it was not measured.
        time_us: Closed-form latency; None for fp32, which crossbars cannot run.
        speedup: Against 8 bits everywhere; None for fp32.
    """

    name: str
    policy: Policy | None
    accuracy: float | None
    search_accuracy: float | None
    time_us: float | None
    speedup: float | None


def baselines_of(space: SearchSpace, outcome: Outcome, fp32: float) -> dict[str, Baseline]:
    """By name: fp32 and the uniform policies that were measured."""
    trained = {entry.policy: entry.accuracy for entry in outcome.trained}
    found = {"fp32": Baseline("fp32", None, fp32, None, None, None)}
    for pair, evaluation in outcome.baselines.items():
        name = name_of(pair)
        found[name] = Baseline(
            name,
            space.policy(evaluation.policy),
            trained.get(evaluation.policy),
            evaluation.accuracy,
            evaluation.time_us,
            evaluation.speedup,
        )
    return found


def finalists_of(space: SearchSpace, outcome: Outcome) -> list[Baseline]:
    """The policies that were trained at the end, in that order."""
    uniform = {evaluation.policy for evaluation in outcome.baselines.values()}
    measured = {evaluation.policy: evaluation.accuracy for evaluation in outcome.pareto}
    return [
        Baseline(
            f"finalist {number}",
            space.policy(entry.policy),
            entry.accuracy,
            measured.get(entry.policy),
            space.time_us(entry.policy),
            space.speedup(entry.policy),
        )
        for number, entry in enumerate((e for e in outcome.trained if e.policy not in uniform), start=1)
    ]
