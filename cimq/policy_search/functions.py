"""The functions that a user may give a search in place of the defaults."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from typing import Any

from torch import nn

from cimq.torch_tools.batches import ForwardFn
from cimq.torch_tools.forward import default_forward
from cimq.training import evaluate
from cimq.training.targets import Use, check_first_batch


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
