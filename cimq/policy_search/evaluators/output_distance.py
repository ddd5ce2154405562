"""How far outputs are from wanted ones."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from cimq.policy_search.evaluators.evaluator import Units
from cimq.torch_tools.batches import batch_size, split_batch
from cimq.training.targets import is_class_scores


class OutputDistance:
    """Mean over samples of the distance of outputs from those that were wanted, taken in batch by batch.

    Kullback-Leibler divergence in nats for class scores [N, C] that the default loss takes, else the squared error
    relative to the power of the wanted output.

    Args:
        wanted: Outputs of the same batches; may be made as they are asked for.
    """

    def __init__(self, wanted: Iterable[Any]) -> None:
        self._wanted = iter(wanted)
        # Of a batch: distances (float64 [N], or [1] for all of it) and how many samples each counts for. They are read
        # at the end, so as not to wait for the device at every batch.
        self._seen: list[tuple[Tensor, float]] = []

    def see(self, batch: Any, output: Any) -> None:
        """Takes in the output of the next batch."""
        target, size = split_batch(batch)[1], batch_size(batch)
        samples: Tensor | float = 0.0
        others: Tensor | None = None
        each: Tensor | None = None
        for found, wanted in zip(_floats(output), _floats(next(self._wanted)), strict=True):
            if is_class_scores(wanted, target):
                logs = F.log_softmax(found, 1), F.log_softmax(wanted, 1)
                divergences = F.kl_div(*logs, reduction="none", log_target=True).sum(1)
                each = divergences if each is None else each + divergences
                samples = samples + divergences.sum()
            else:
                distance = size * ((found - wanted).square().sum() / wanted.square().sum().clamp_min(1e-30))
                others = distance if others is None else others + distance
        if each is not None and len(each) == size and others is None:
            self._seen.append((each, 1.0))
        else:
            both = torch.as_tensor(samples if others is None else samples + others, dtype=torch.float64)
            self._seen.append((both.reshape(1), float(size)))

    @property
    def mean(self) -> float:
        """Of what was taken in so far, not below 0 (where rounding leads); of outputs that are no numbers NaN."""
        values, weights = self.units
        mean = math.fsum(values) / max(1.0, math.fsum(weights))
        return 0.0 if mean < 0 else mean  # `max(0.0, NaN)` is 0: no damage at all

    @property
    def units(self) -> Units:
        """Sample by sample for class scores, else batch by batch."""
        self._seen = [(values.cpu(), weight) for values, weight in self._seen]
        values = tuple(value for part, _ in self._seen for value in part.tolist())
        return Units(values, tuple(weight for part, weight in self._seen for _ in range(len(part))))


def _floats(output: Any) -> list[Tensor]:
    if isinstance(output, Tensor):
        return [output.double()] if output.is_floating_point() else []
    if isinstance(output, Mapping):
        output = list(output.values())
    return [tensor for part in output for tensor in _floats(part)] if isinstance(output, (tuple, list)) else []
