"""How far outputs are from wanted ones."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch.nn.functional as F
from torch import Tensor

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
        self._total = 0.0
        self._samples = 0

    def see(self, batch: Any, output: Any) -> None:
        """Takes in the output of the next batch."""
        target, size = split_batch(batch)[1], batch_size(batch)
        for found, wanted in zip(_floats(output), _floats(next(self._wanted)), strict=True):
            if is_class_scores(wanted, target):
                logs = F.log_softmax(found, 1), F.log_softmax(wanted, 1)
                distance = F.kl_div(*logs, reduction="batchmean", log_target=True)
            else:
                distance = (found - wanted).square().sum() / wanted.square().sum().clamp_min(1e-30)
            self._total += size * float(distance)
        self._samples += size

    @property
    def mean(self) -> float:
        """Of what was taken in so far, not below 0 (where rounding leads)."""
        return max(0.0, self._total / max(1, self._samples))


def _floats(output: Any) -> list[Tensor]:
    if isinstance(output, Tensor):
        return [output.double()] if output.is_floating_point() else []
    if isinstance(output, Mapping):
        output = list(output.values())
    return [tensor for part in output for tensor in _floats(part)] if isinstance(output, (tuple, list)) else []
