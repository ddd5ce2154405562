"""One prepared, calibrated model that is set to one candidate after the other."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from cimq.policy import Policy
from cimq.policy_search.data import HeldBatches
from cimq.policy_search.space import Pairs
from cimq.quantization import quant_layers, set_policy
from cimq.torch_tools.batches import ForwardFn, kept_random_state

# What a measurement changes in a model: batch statistics, and the count of chips that were drawn to re-estimate them.
_CHANGED_BUFFERS = ("running_mean", "running_var", "num_batches_tracked", "noise_step")


class CandidateModel:
    """Sets policies without training: scales are there for all widths.

    Attributes:
        search: The search-validation set.
        statistics: Training batches for the batch statistics.
        forward_fn: As in `cimq.calibrate`.
        normalises: Whether the model has batch statistics.
        seed: Of whatever is random in the model or the data.

    Args:
        model: Prepared and calibrated; changed by what is done with it under a policy.
        search: The search-validation set.
        statistics: Training batches.
        forward_fn: As in `cimq.calibrate`.
        seed: Of whatever is random in the model or the data.
    """

    def __init__(
        self,
        model: nn.Module,
        search: Iterable[Any],
        statistics: HeldBatches,
        forward_fn: ForwardFn | None = None,
        seed: int = 0,
    ) -> None:
        self.search = search
        self.statistics = statistics
        self.forward_fn = forward_fn
        self._model = model
        self._names = [name for name, _ in quant_layers(model)]
        self.seed = seed
        self._changed = {
            key: value.clone()
            for key, value in model.state_dict().items()
            if key.rsplit(".", 1)[-1] in _CHANGED_BUFFERS
        }
        self.normalises = any(key.endswith("running_mean") for key in self._changed)

    @contextmanager
    def under(self, policy: Pairs) -> Iterator[nn.Module]:
        """The model under a policy, as it came otherwise: what earlier candidates did to it is forgotten.

        Random numbers start from the seed inside; the user's random state is kept.
        """
        state = self._model.state_dict()
        for key, value in self._changed.items():
            state[key].copy_(value)
        with kept_random_state(self._model, self.seed, [self.search, self.statistics]), torch.no_grad():
            set_policy(self._model, Policy(dict(zip(self._names, policy, strict=True))))
            yield self._model
