"""Accuracy of candidates on a prepared model, without training: cached scales, batch statistics measured anew."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cimq.policy import Policy
from cimq.policy_search.data import HeldBatches
from cimq.policy_search.space import Pairs
from cimq.quantization import quant_layers, reestimate_bn, set_policy
from cimq.torch_tools.batches import ForwardFn, kept_random_state, split_batch
from cimq.torch_tools.forward import default_forward
from cimq.training.targets import is_class_scores

Measure = Callable[[nn.Module, Iterable[Any]], float]


class ModelEvaluator:
    """Measures policies on one prepared, calibrated model.

    For each: `set_policy`, batch statistics re-estimated on a few training batches (where the model has batch
    normalisation; those of the previous candidate are forgotten), accuracy on the search-validation set.

    Args:
        model: Prepared and calibrated; changed while it is measured, see `restore`.
        search: The search-validation set.
        samples: Its size.
        statistics: Training batches for the batch statistics.
        measure: `measure(model, loader)` gives the accuracy.
        forward_fn: As in `cimq.calibrate`.
        seed: Of whatever is random in the model or the data.
    """

    def __init__(
        self,
        model: nn.Module,
        search: Iterable[Any],
        samples: int,
        statistics: HeldBatches,
        measure: Measure,
        forward_fn: ForwardFn | None = None,
        seed: int = 0,
    ) -> None:
        self.samples = samples
        self._model = model
        self._names = [name for name, _ in quant_layers(model)]
        self._search = search
        self._statistics = statistics
        self._measure = measure
        self._forward_fn = forward_fn
        self._seed = seed
        self._changed = {
            key: value.clone()
            for key, value in model.state_dict().items()
            if key.rsplit(".", 1)[-1] in _CHANGED_BUFFERS
        }
        self._normalises = any(key.endswith("running_mean") for key in self._changed)
        self._widest: list[Tensor] | None = None

    def accuracy(self, pairs: Pairs) -> float:
        """Accuracy of a policy, a function of the policy (and the seed) alone, whatever was measured before."""
        self.restore()
        with kept_random_state(self._model, self._seed, [self._search, self._statistics]), torch.no_grad():
            set_policy(self._model, self._policy(pairs))
            if self._normalises:
                reestimate_bn(self._model, self._statistics, forward_fn=self._forward_fn)
            return self._measure(self._model, self._search)

    def damage(self, pairs: Pairs, widest: Pairs) -> float:
        """Distance of the outputs on a training batch from those under `widest`.

        Kullback-Leibler divergence in nats for class scores [N, C] that the default loss takes, else the squared error
        relative to the power of the output.
        """
        self.restore()
        if self._widest is None:
            self._widest = self._outputs(widest)
        batch = next(iter(self._statistics))
        target = split_batch(batch)[1]
        total = 0.0
        for wanted, found in zip(self._widest, self._outputs(pairs), strict=True):
            if is_class_scores(wanted, target):
                logs = F.log_softmax(found, 1), F.log_softmax(wanted, 1)
                total += float(F.kl_div(*logs, reduction="batchmean", log_target=True))
            else:
                total += float((found - wanted).square().sum() / wanted.square().sum().clamp_min(1e-30))
        return total

    def restore(self) -> None:
        """Gives the model the batch statistics that it came with, and what else a measurement changes."""
        state = self._model.state_dict()
        for key, value in self._changed.items():
            state[key].copy_(value)

    def _policy(self, pairs: Pairs) -> Policy:
        return Policy(dict(zip(self._names, pairs, strict=True)))

    def _outputs(self, pairs: Pairs) -> list[Tensor]:
        forward = self._forward_fn or default_forward
        training = self._model.training
        set_policy(self._model, self._policy(pairs))
        self._model.eval()
        try:
            with kept_random_state(self._model, self._seed, [self._search, self._statistics]), torch.no_grad():
                output = forward(self._model, next(iter(self._statistics)))
        finally:
            self._model.train(training)
        return [tensor.double() for tensor in _floats(output)]


# What a measurement changes in a model: batch statistics, and the count of chips that were drawn to re-estimate them.
_CHANGED_BUFFERS = ("running_mean", "running_var", "num_batches_tracked", "noise_step")


def _floats(output: Any) -> list[Tensor]:
    if isinstance(output, Tensor):
        return [output] if output.is_floating_point() else []
    if isinstance(output, Mapping):
        output = list(output.values())
    return [tensor for part in output for tensor in _floats(part)] if isinstance(output, (tuple, list)) else []
