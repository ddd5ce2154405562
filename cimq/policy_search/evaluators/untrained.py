"""Accuracy of candidates without training: cached scales, batch statistics measured anew."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from torch import nn

from cimq.policy_search.evaluators.candidate_model import CandidateModel
from cimq.policy_search.space import Pairs
from cimq.quantization import reestimate_bn


class UntrainedAccuracy:
    """Accuracy on the search-validation set.

    Batch statistics are re-estimated for every policy on a few training batches, where the model has any.

    Args:
        candidate: The model.
        samples: Size of its search-validation set.
        accuracy: `accuracy(model, batches)`.
    """

    def __init__(
        self, candidate: CandidateModel, samples: int, accuracy: Callable[[nn.Module, Iterable[Any]], float]
    ) -> None:
        self.samples = samples
        self._candidate = candidate
        self._accuracy = accuracy

    def measure(self, policies: Sequence[Pairs]) -> Iterator[float]:
        """Accuracies, one after the other."""
        return map(self._measure, policies)

    def _measure(self, policy: Pairs) -> float:
        candidate = self._candidate
        with candidate.under(policy) as model:
            if candidate.normalises:
                reestimate_bn(model, candidate.statistics, forward_fn=candidate.forward_fn)
            return self._accuracy(model, candidate.search)
