"""What the found policy is compared with, and what came close."""

from __future__ import annotations

import dataclasses

from cimq.policy import Policy
from cimq.policy_search.flow import Outcome
from cimq.policy_search.judge import Trained
from cimq.policy_search.paired_drop import PairedDrop
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
        time_us: Latency, by the closed form or of the program; None for fp32, which crossbars cannot run.
        speedup: Against 8 bits everywhere; None for fp32.
        drop: What it lost against 8 bits everywhere after the same training, sample by sample; None where it was not
            trained.
    """

    name: str
    policy: Policy | None
    accuracy: float | None
    search_accuracy: float | None
    time_us: float | None
    speedup: float | None
    drop: PairedDrop | None = None


def baselines_of(space: SearchSpace, outcome: Outcome, fp32: float) -> dict[str, Baseline]:
    """By name: fp32 and the uniform policies that were evaluated or trained."""
    trained = {entry.policy: entry for entry in outcome.trained}
    found = {"fp32": Baseline("fp32", None, fp32, None, None, None)}
    for pair, policy in outcome.uniform.items():
        entry = trained.get(policy)
        if entry is not None:
            found[name_of(pair)] = _trained(name_of(pair), space, outcome, entry)
        elif pair in outcome.baselines:
            evaluation = outcome.baselines[pair]
            found[name_of(pair)] = Baseline(
                name_of(pair),
                space.policy(policy),
                None,
                evaluation.accuracy,
                evaluation.time_us,
                evaluation.speedup,
            )
    return found


def finalists_of(space: SearchSpace, outcome: Outcome) -> list[Baseline]:
    """The policies that were trained besides uniform ones, in that order."""
    uniform = set(outcome.uniform.values())
    others = [entry for entry in outcome.trained if entry.policy not in uniform]
    return [_trained(f"finalist {number}", space, outcome, entry) for number, entry in enumerate(others, start=1)]


def trained_of(space: SearchSpace, outcome: Outcome) -> list[Baseline]:
    """All policies that were trained, in that order, uniform ones by their names."""
    names = {policy: name_of(pair) for pair, policy in outcome.uniform.items()}
    return [
        _trained(names.get(entry.policy, f"candidate {number}"), space, outcome, entry)
        for number, entry in enumerate(outcome.trained)
    ]


def _trained(name: str, space: SearchSpace, outcome: Outcome, entry: Trained) -> Baseline:
    evaluations = [*outcome.baselines.values(), *outcome.pareto]
    measured = {evaluation.policy: evaluation.accuracy for evaluation in evaluations}
    return Baseline(
        name,
        space.policy(entry.policy),
        entry.accuracy,
        measured.get(entry.policy),
        space.time_us(entry.policy),
        space.speedup(entry.policy),
        entry.drop_from(outcome.reference),
    )
