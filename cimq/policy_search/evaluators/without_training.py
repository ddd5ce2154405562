"""Candidates measured without training of their own: cached scales, batch statistics measured anew."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from torch import nn

from cimq.policy_search.budget import SENSITIVITY_SHARE
from cimq.policy_search.evaluators.candidate_model import CandidateModel
from cimq.policy_search.evaluators.evaluator import Measured
from cimq.policy_search.evaluators.output_distance import OutputDistance
from cimq.policy_search.functions import UserFunctions
from cimq.policy_search.space import Pairs
from cimq.quantization import reestimate_bn
from cimq.torch_tools.batches import batch_size, first_samples, kept_random_state


class WithoutTraining:
    """Accuracy and damage on the search-validation set, or the first part of it.

    Batch statistics are re-estimated for every policy on a few training batches, where the model has any.

    Args:
        candidate: The model.
        fp32: What its outputs should be those of.
        functions: Metric and forward pass.
        samples: Use so many samples, the share that sensitivities are measured on (more, where a batch cannot be cut:
            see `first_samples`); None: all.
    """

    def __init__(
        self, candidate: CandidateModel, fp32: nn.Module, functions: UserFunctions, samples: int | None = None
    ) -> None:
        self._candidate = candidate
        self._fp32 = fp32
        self._functions = functions
        self._batches = candidate.search if samples is None else _first(candidate.search, samples)
        self._part = samples is not None
        self._wanted: list[Any] | None = None

    def measure(self, policies: Sequence[Pairs]) -> Iterator[Measured]:
        """One after the other."""
        return map(self._measure, policies)

    def _measure(self, policy: Pairs) -> Measured:
        candidate = self._candidate
        distance = OutputDistance(self._outputs_of_fp32())
        with candidate.under(policy) as model:
            if candidate.normalises:
                reestimate_bn(model, candidate.statistics, forward_fn=candidate.forward_fn)
            accuracy = self._functions.accuracy(model, self._batches, distance.see)
        if self._part:
            return Measured(accuracy, distance.mean, SENSITIVITY_SHARE, distance.units)
        return Measured(accuracy, distance.mean)

    def _outputs_of_fp32(self) -> list[Any]:
        if self._wanted is None:
            wanted: list[Any] = []
            with kept_random_state(self._fp32, self._candidate.seed, [self._batches]):
                self._functions.accuracy(self._fp32, self._batches, lambda _, output: wanted.append(output))
            self._wanted = wanted
        return self._wanted


def _first(batches: Iterable[Any], samples: int) -> list[Any]:
    kept: list[Any] = []
    count = 0
    for batch in batches:
        if count >= samples:
            break
        kept.append(first_samples(batch, samples - count))
        count += batch_size(kept[-1])
    return kept
