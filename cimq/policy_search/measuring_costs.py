"""Times a few steps of a search before it starts, on copies: nothing that counts changes."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import nn

from cimq.policy import Policy
from cimq.policy_search.any_bits import drawn_policy
from cimq.policy_search.costs import Costs
from cimq.policy_search.data import HeldBatches, Splits
from cimq.policy_search.evaluators.candidate_model import CandidateModel
from cimq.policy_search.evaluators.short_training import NORM_BATCHES
from cimq.policy_search.evaluators.without_training import WithoutTraining
from cimq.policy_search.functions import UserFunctions
from cimq.policy_search.settings import SearchSettings
from cimq.policy_search.space import SearchSpace
from cimq.torch_tools.batches import batch_size, device_of, kept_random_state
from cimq.torch_tools.devices import synchronize
from cimq.torch_tools.threads import computing_threads
from cimq.training import finetune
from cimq.training.progress import length_of

_STEPS = 3
_SLOW = 10.0  # seconds: what takes longer is timed once, though the first time is slower than others


def measure_costs(
    prepared: nn.Module,
    teacher: nn.Module,
    splits: Splits,
    statistics: HeldBatches,
    space: SearchSpace,
    functions: UserFunctions,
    settings: SearchSettings,
    *,
    threads: int,
    side_by_side: int,
) -> Costs:
    """Seconds of steps on this machine.

    Args:
        prepared: Prepared and calibrated; is not changed.
        teacher: The fp32 model.
        splits: The three sets.
        statistics: Batches for batch statistics.
        space: What bits are drawn from.
        functions: Of the user.
        settings: Of the search.
        threads: Of a candidate.
        side_by_side: Candidates that are measured at a time.
    """
    batches, loading = _taken(prepared, splits.train, settings.seed)
    steps, device = len(batches), device_of(prepared)

    def train(count: int) -> None:
        finetune(
            network, batches[:count], epochs=1, lr=settings.finetune_lr, seed=settings.seed, bn_batches=0,
            teacher=teacher if functions.loss is None else None, loss_fn=functions.loss, forward_fn=functions.forward,
            policies=lambda _, step: Policy.from_pairs(drawn_policy(space, settings.seed, 0, step + 1)), progress=False,
        )  # fmt: skip

    step = training_step = 0.0
    if settings.finetune_epochs > 0 or settings.shared_epochs != 0:
        network = copy.deepcopy(prepared)
        step = _seconds(lambda: train(1), lambda: train(steps), steps, device)
        with computing_threads(threads):
            training_step = _seconds(lambda: train(1), lambda: train(steps), steps, device)
    some = _first(splits.search)
    candidate = CandidateModel(
        copy.deepcopy(prepared), some, HeldBatches(_first(statistics)), functions.forward, settings.seed
    )
    evaluator = WithoutTraining(candidate, teacher, functions)
    policy = space.canonical(
        space.uniform(*(widths[len(widths) // 2] for widths in (space.weight_widths, space.act_widths)))
    )

    def measure() -> None:
        list(evaluator.measure([policy]))

    normalised = 1 if candidate.normalises else 0
    passed = sum(map(batch_size, some)) + normalised * sum(map(batch_size, candidate.statistics))
    with computing_threads(threads):
        forward = _seconds(measure, measure, 1, device)
    epoch = length_of(splits.train)
    return Costs(
        step=step + loading,
        training_step=training_step + loading,
        sample=forward / passed,
        epoch_batches=epoch,
        measured_samples=splits.samples[0] + normalised * statistics.samples,
        confirmed_samples=splits.samples[1],
        finetune_epochs=settings.finetune_epochs,
        side_by_side=side_by_side,
        finetune_batches=settings.finetune_batches,
        norm_batches=NORM_BATCHES if settings.finetune_epochs > 0 else settings.bn_batches,
        batch_samples=normalised * batch_size(batches[0]),
        rung_policies=settings.rung_policies,
        pareto=settings.pareto,
        within_cost=settings.min_speedup is not None,
    )


def _taken(model: nn.Module, loader: Iterable[Any], seed: int) -> tuple[Sequence[Any], float]:
    """A few training batches, and the seconds that loading one adds to a step."""
    with kept_random_state(model, seed, [loader]):
        batches = []
        start = time.perf_counter()
        for batch in loader:
            batches.append(batch)
            if len(batches) == 1:
                start = time.perf_counter()  # the first one starts the workers of a loader, if it has any
            if len(batches) > _STEPS or time.perf_counter() - start > _SLOW:
                break
        seconds = (time.perf_counter() - start) / max(1, len(batches) - 1)
    # Workers of a loader read while a step is computed.
    return batches[:_STEPS], 0.0 if getattr(loader, "num_workers", 0) else seconds


def _first(batches: Iterable[Any]) -> list[Any]:
    for batch in batches:
        return [batch]
    return []


def _seconds(warm: Callable[[], Any], measured: Callable[[], Any], count: int, device: torch.device) -> float:
    """Seconds of one of the `count` steps of a function, after a first one; until the device is done with them."""
    synchronize(device)
    start = time.perf_counter()
    warm()
    synchronize(device)
    first = time.perf_counter() - start
    if first > _SLOW:
        return first
    start = time.perf_counter()
    measured()
    synchronize(device)
    return (time.perf_counter() - start) / count
