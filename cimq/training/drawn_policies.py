"""One set of weights for many policies: the bits of a model change from step to step of training."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from torch import nn

from cimq.policy import Policy
from cimq.quantization.inspection import get_policy, set_policy
from cimq.quantization.layers.numbering import quant_layers

Policies = Callable[[int, int], Policy]


@contextlib.contextmanager
def drawn_policies(model: nn.Module, policies: Policies | None) -> Iterator[Callable[[int, int], None]]:
    """Gives what sets the bits of (epoch, step); the model leaves with those that it came with.

    Args:
        model: A prepared model.
        policies: `policies(epoch, step)`; None changes nothing.

    Raises:
        ValueError: Of what it gives: for a policy that chooses other ADC bits or another mapping for a layer whose
            converter steps are learned; names the layer.
    """
    if policies is None:
        yield lambda epoch, step: None
        return
    before = get_policy(model)
    try:
        yield lambda epoch, step: _set(model, policies(epoch, step))
    finally:
        set_policy(model, before)
        for _, layer in quant_layers(model):
            # Found with weights that have been trained since, and in no state_dict: whoever goes on from one finds them
            # anew, and so does this process.
            layer.forget_other_ranges()


def _set(model: nn.Module, policy: Policy) -> None:
    layers = quant_layers(model)
    bound = policy.bind([name for name, _ in layers])
    for (name, layer), machine in zip(layers, bound.machines(), strict=True):
        if layer.adc_lsb is not None and machine != layer.layer_machine:
            raise ValueError(
                f"finetune: policies gives layer {name!r} {machine}, and it was {layer.layer_machine} before: its "
                "converter steps are learned, and every choice has steps of its own, which the optimiser does not "
                "know; train with adc.range calibrated, or one choice at a time"
            )
    set_policy(model, bound)
