"""The functions that a user may give a search in place of the defaults."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from cimq.policy_search.paired_drop import Scores
from cimq.torch_tools.batches import ForwardFn, batch_size, split_batch
from cimq.torch_tools.forward import default_forward
from cimq.training import evaluate
from cimq.training.targets import IGNORED, Use, check_first_batch, class_targets


@dataclasses.dataclass(frozen=True)
class UserFunctions:
    """Loss, metric and forward pass; None is the default, see `cimq.search`.

    Attributes:
        loss: `loss(output, target)`.
        metric: `metric(output, target)`.
        forward: `forward(model, batch)`.
    """

    loss: Any = None
    metric: Any = None
    forward: ForwardFn | None = None

    def names(self) -> dict[str, str]:
        """What they are called, "default" where there is none: two functions of one name are not told apart."""
        given = {"loss_fn": self.loss, "metric_fn": self.metric, "forward_fn": self.forward}
        return {key: "default" if function is None else _name_of(function) for key, function in given.items()}

    def check(self, model: nn.Module, batches: Iterable[Any], *, trains: bool) -> None:
        """Finds out on the first batch whether the defaults in use fit model and data."""
        uses: list[Use] = ["metric"] if self.metric is None else []
        uses += ["loss"] if self.loss is None and trains else []
        check_first_batch(model, batches, uses, self.forward, "search: there is no data")

    def accuracy(
        self, model: nn.Module, batches: Iterable[Any], see: Callable[[Any, Any], None] | None = None
    ) -> float:
        """Top-1 accuracy, or the mean of the user's metric.

        Args:
            model: Any model.
            batches: To measure on.
            see: Is called with every batch and its output.
        """
        forward = self.forward or default_forward

        def seen(network: nn.Module, batch: Any) -> Any:
            output = forward(network, batch)
            if see is not None:
                see(batch, output)
            return output

        return float(evaluate(model, batches, self.metric, forward_fn=seen, progress=False))

    def scored(
        self, model: nn.Module, batches: Iterable[Any], see: Callable[[Any, Any], None] | None = None
    ) -> tuple[float, Scores]:
        """The accuracy, and how it comes about: sample by sample, or batch by batch of a metric of the user's.

        Args:
            model: Any model.
            batches: To measure on.
            see: Is called with every batch and its output.
        """
        values: list[Tensor] = []  # read at the end, so as not to wait for the device at every batch
        weights: list[Tensor] = []

        def seen(batch: Any, output: Any) -> None:
            if self.metric is None:
                found = class_targets(output, split_batch(batch)[1], "metric")
                counted = found.classes != IGNORED
                values.append(_per_sample(found.right))
                weights.append(_per_sample(counted))
            else:
                weights.append(torch.tensor([float(batch_size(batch))], dtype=torch.float64, device="cpu"))
            if see is not None:
                see(batch, output)

        def kept(output: Any, target: Any) -> Any:
            mean = self.metric(output, target)
            number = mean.detach() if isinstance(mean, Tensor) else torch.tensor(float(mean), dtype=torch.float64)
            values.append(number.reshape(1).double() * weights[-1].item())
            return mean

        counting = self if self.metric is None else dataclasses.replace(self, metric=kept)
        accuracy = counting.accuracy(model, batches, seen)
        return accuracy, Scores(_listed(values), _listed(weights), "sample" if self.metric is None else "batch")


def _name_of(function: Any) -> str:
    named = function if hasattr(function, "__qualname__") else type(function)
    return f"{named.__module__}.{named.__qualname__}"


def _per_sample(flags: Tensor) -> Tensor:
    """How many of a sample's elements are set, float64 [N]."""
    return flags.reshape(len(flags), -1).sum(1).double()


def _listed(parts: list[Tensor]) -> tuple[float, ...]:
    return tuple(value for part in parts for value in part.tolist())
