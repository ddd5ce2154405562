"""A call of a crossbar operator: the order of its arguments, their defaults, and which of them have gradients.

The operators take flat arguments. `CrossbarCall` spells them out once; the public functions, the fake kernels, the
specification and the diagnostics pass a call. A new option is a field here, in the place that the schemas give it,
and a keyword of the public functions if users are to set it. A test holds this file and the schemas together.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor


@dataclasses.dataclass(frozen=True, eq=False)
class CrossbarCall:
    """Arguments of `crossbar_mvm` and `crossbar_conv2d`, as the operators take them; see there for what they mean.

    Attributes:
        x_q: Activations.
        w_q: Weights.
        hardware: Canonical JSON of the machine.
        weight_bits: 1 to 8.
        act_bits: 1 to 8.
        act_signed: Activations are two's complement.
        stride: Of a convolution, as are the next three.
        padding: (left, right, top, bottom).
        dilation: (vertical, horizontal).
        groups: Groups of channels.
        chips: Number of chips; None for one without the leading dimension.
        seed: Seed of all variation.
        layer: Number of the layer.
        adc_lo: Lowest currents of the converters.
        adc_lsb: Steps of the converters.
        backend: Which implementation.
        first_access: Number of the first access, for read noise.
        adc_grad: "identity" or "clip".
    """

    x_q: Tensor
    w_q: Tensor
    hardware: str
    weight_bits: int
    act_bits: int
    act_signed: bool = False
    stride: Sequence[int] = (1, 1)
    padding: Sequence[int] = (0, 0, 0, 0)
    dilation: Sequence[int] = (1, 1)
    groups: int = 1
    chips: int | None = None
    seed: int = 0
    layer: int = 0
    adc_lo: Tensor | None = None
    adc_lsb: Tensor | None = None
    backend: str = "auto"
    first_access: int = 0
    adc_grad: str = "identity"

    @property
    def is_convolution(self) -> bool:
        """Whether the weights are a kernel."""
        return self.w_q.dim() == 4


GEOMETRY = ("stride", "padding", "dilation", "groups")


class WantedGradients(NamedTuple):
    """Whether each of the arguments that have a gradient is to get it, in the order of the backward operators."""

    x_q: bool = True
    w_q: bool = True
    adc_lsb: bool = True


@dataclasses.dataclass(frozen=True)
class CrossbarOperator:
    """An operator of a crossbar product.

    Attributes:
        name: After `torch.ops.cimq.`.
        fields: The fields of a call that it takes, in its order.
        is_backward: Takes the gradient of the result first, and last which gradients are wanted.
    """

    name: str
    fields: tuple[str, ...]
    is_backward: bool = False

    @property
    def arguments(self) -> tuple[str, ...]:
        """Names of all arguments."""
        return ("grad", *self.fields, "wanted") if self.is_backward else self.fields

    def __call__(self, call: CrossbarCall) -> Any:
        """Runs it; not for a backward operator, which autograd calls."""
        return getattr(torch.ops.cimq, self.name)(*[getattr(call, field) for field in self.fields])

    def bound(self, values: Sequence[Any], named: Mapping[str, Any]) -> dict[str, Any]:
        """Arguments by name, as the dispatcher gives them: those that are left out have their defaults."""
        return {**dict(zip(self.arguments, values, strict=False)), **named}


def _operator(name: str, without: Sequence[str] = (), is_backward: bool = False) -> CrossbarOperator:
    fields = (field.name for field in dataclasses.fields(CrossbarCall))
    return CrossbarOperator(name, tuple(field for field in fields if field not in without), is_backward)


MVM = _operator("crossbar_mvm", without=GEOMETRY)
CONV2D = _operator("crossbar_conv2d")
MVM_BACKWARD = _operator("crossbar_mvm_backward", without=(*GEOMETRY, "backend"), is_backward=True)
CONV2D_BACKWARD = _operator("crossbar_conv2d_backward", without=("backend",), is_backward=True)
MVM_CONVERSIONS = _operator("crossbar_mvm_conversions", without=(*GEOMETRY, "backend", "adc_grad"))
CONV2D_CONVERSIONS = _operator("crossbar_conv2d_conversions", without=("backend", "adc_grad"))
