"""How far a policy moves the outputs of a model: for sensitivities, which need no targets and few samples."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from cimq.policy_search.evaluators.candidate_model import CandidateModel
from cimq.policy_search.space import Pairs
from cimq.torch_tools.batches import split_batch
from cimq.torch_tools.forward import default_forward
from cimq.torch_tools.modes import in_evaluation
from cimq.training.targets import is_class_scores


class OutputDistance:
    """Distance of the outputs on a training batch from those under the most bits.

    Kullback-Leibler divergence in nats for class scores [N, C] that the default loss takes, else the squared error
    relative to the power of the output.

    Args:
        candidate: The model.
        widest: The most bits.
    """

    def __init__(self, candidate: CandidateModel, widest: Pairs) -> None:
        self._candidate = candidate
        self._widest = widest
        self._wanted: list[Tensor] | None = None

    def measure(self, policies: Sequence[Pairs]) -> Iterator[float]:
        """Distances, one after the other."""
        return map(self._measure, policies)

    def _measure(self, policy: Pairs) -> float:
        if self._wanted is None:
            self._wanted = self._outputs(self._widest)
        target = split_batch(next(iter(self._candidate.statistics)))[1]
        total = 0.0
        for wanted, found in zip(self._wanted, self._outputs(policy), strict=True):
            if is_class_scores(wanted, target):
                logs = F.log_softmax(found, 1), F.log_softmax(wanted, 1)
                total += float(F.kl_div(*logs, reduction="batchmean", log_target=True))
            else:
                total += float((found - wanted).square().sum() / wanted.square().sum().clamp_min(1e-30))
        return total

    def _outputs(self, policy: Pairs) -> list[Tensor]:
        forward = self._candidate.forward_fn or default_forward
        with self._candidate.under(policy) as model, in_evaluation(model):
            output = forward(model, next(iter(self._candidate.statistics)))
        return [tensor.double() for tensor in _floats(output)]


def _floats(output: Any) -> list[Tensor]:
    if isinstance(output, Tensor):
        return [output] if output.is_floating_point() else []
    if isinstance(output, Mapping):
        output = list(output.values())
    return [tensor for part in output for tensor in _floats(part)] if isinstance(output, (tuple, list)) else []
