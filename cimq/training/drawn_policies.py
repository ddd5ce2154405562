"""One set of weights for many policies: the bits of a model change from step to step of training."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from torch import nn

from cimq.policy import Policy
from cimq.quantization.inspection import get_policy, set_policy

Policies = Callable[[int, int], Policy]


@contextlib.contextmanager
def drawn_policies(model: nn.Module, policies: Policies | None) -> Iterator[Callable[[int, int], None]]:
    """Gives what sets the bits of (epoch, step); the model leaves with those that it came with.

    Args:
        model: A prepared model.
        policies: `policies(epoch, step)`; None changes nothing.
    """
    if policies is None:
        yield lambda epoch, step: None
        return
    before = get_policy(model)
    try:
        yield lambda epoch, step: set_policy(model, policies(epoch, step))
    finally:
        set_policy(model, before)
