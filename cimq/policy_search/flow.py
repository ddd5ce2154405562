"""The search itself, apart from models and data: baselines, target, strategy, finalists."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

from cimq.policy_search.records import Evaluation, pareto_front
from cimq.policy_search.reward import Reward, binomial_noise
from cimq.policy_search.space import Pairs
from cimq.policy_search.strategies import Proposal, Strategy
from cimq.policy_search.trials import Trials

_REFERENCE_BITS = 8
_SMALLEST_BASELINE = 4
# A fast uniform policy that training repairs with accuracy to spare lets the search go this much beyond it, at most.
_LARGEST_STRETCH = 1.5

Train = Callable[[Pairs], tuple[float, Any]]


@dataclasses.dataclass(frozen=True)
class Trained:
    """A policy after the short training.

    Attributes:
        policy: (weight bits, activation bits) per layer.
        accuracy: On the confirmation set.
        artefact: What training returned besides (the model).
    """

    policy: Pairs
    accuracy: float
    artefact: Any


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What the flow decided.

    Attributes:
        chosen: The fastest trained policy that satisfies the constraint.
        reference: 8 bits everywhere after the same training.
        trained: All that was trained, in that order.
        baselines: Uniform policies by width that were measured.
        tolerance: Largest drop before training that the search allowed.
        pareto: Front of the evaluations.
    """

    chosen: Trained
    reference: Trained
    trained: list[Trained]
    baselines: dict[int, Evaluation]
    tolerance: float
    pareto: list[Evaluation]


def run_flow(
    trials: Trials,
    train: Train,
    *,
    strategy: Strategy,
    batch: int,
    max_accuracy_drop: float,
    finalists: int,
) -> Outcome:
    """Baselines, target, strategy, finalists.

    Candidates are measured without training, the constraint holds after it. What training repairs is learned from the
    uniform policies: the smallest uniform width that satisfies the constraint after training (the anchor) tells which
    drop before training is still harmless, and the search may go as far as that.

    Args:
        trials: Space, evaluator, budget, journal.
        train: Trains a policy; returns its accuracy on the confirmation set, and the model.
        strategy: Proposes candidates.
        batch: How many it proposes at a time.
        max_accuracy_drop: As a fraction.
        finalists: How many candidates are trained at most, besides the uniform policies.
    """
    space = trials.space
    reference_pairs: Pairs = ((_REFERENCE_BITS, _REFERENCE_BITS),) * len(space.shapes)
    uniform = {_REFERENCE_BITS: reference_pairs}
    for width in range(_SMALLEST_BASELINE, _REFERENCE_BITS):
        pairs = space.uniform(width, width)
        if width in space.weight_widths and width in space.act_widths and pairs != reference_pairs:
            uniform[width] = pairs

    trained: dict[Pairs, Trained] = {}

    def trained_as(pairs: Pairs) -> Trained:
        if pairs not in trained:
            accuracy, artefact = train(pairs)
            trained[pairs] = Trained(pairs, accuracy, artefact)
        return trained[pairs]

    reference = trained_as(reference_pairs)

    def satisfies(candidate: Trained) -> bool:
        return reference.accuracy - candidate.accuracy <= max_accuracy_drop + 1e-12

    anchor = reference
    for width in sorted(uniform)[:-1]:
        anchor = trained_as(uniform[width])
        if satisfies(anchor):
            break
    incumbent = anchor if satisfies(anchor) else reference

    before = trials.accuracy(reference_pairs)
    noise = binomial_noise(before, trials.samples)
    tolerance = _tolerance(
        max_accuracy_drop, before - trials.accuracy(incumbent.policy), reference.accuracy - incumbent.accuracy
    )
    trials.reward = Reward(before, tolerance, noise)
    widths = (_REFERENCE_BITS, *sorted(set(uniform) - {_REFERENCE_BITS}))
    measured = trials.evaluate([Proposal(uniform[width], "baseline") for width in widths])
    baselines = dict(zip(widths, measured, strict=False))
    trials.run(strategy, batch)

    front = pareto_front(trials.evaluations)
    chosen = incumbent
    for candidate in _finalists(trials, front, incumbent.policy, finalists):
        found = trained_as(candidate.policy)
        if satisfies(found):
            chosen = found
            break
    return Outcome(chosen, reference, list(trained.values()), baselines, tolerance, front)


def _tolerance(wanted: float, drop_before: float, drop_after: float) -> float:
    """Drop before training that is expected to satisfy the constraint after it, from the anchor's two drops."""
    if drop_before <= wanted:
        return wanted
    stretch = _LARGEST_STRETCH if drop_after <= wanted / _LARGEST_STRETCH else max(1.0, wanted / drop_after)
    return drop_before * stretch


def _finalists(trials: Trials, front: Sequence[Evaluation], incumbent: Pairs, count: int) -> list[Evaluation]:
    """Front members faster than the incumbent, from the best reward to the most accurate, evenly spaced."""
    faster = [e for e in front if e.time_us < trials.space.time_us(incumbent)]
    if not faster or count < 1:
        return []
    start = max(range(len(faster)), key=lambda i: (faster[i].reward, -i))
    walk = faster[start:]
    if len(walk) <= count:
        return walk
    if count == 1:
        return walk[:1]
    return [walk[round(i * (len(walk) - 1) / (count - 1))] for i in range(count)]
