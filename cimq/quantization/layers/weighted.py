"""Quantised layers: `QuantConv2d`, `QuantConv1d` and `QuantLinear`, in the place of those of `torch.nn`."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn
from torch.overrides import TorchFunctionMode

from cimq import ops
from cimq.quantization.exact.exact_mode import keep_apart
from cimq.quantization.exact.operations import conv1d_args, conv2d_args
from cimq.quantization.layers.own_forward import used_operands
from cimq.quantization.layers.products import can_multiply_integers, conv2d_product, linear_product
from cimq.quantization.layers.quant_layer import QuantLayer
from cimq.quantization.quantisers.adc_ranges import AdcSample
from cimq.quantization.quantisers.lsq import Lsq
from cimq.quantization.quantisers.quantiser import Quantiser
from cimq.torch_tools.private_names import padding_of


class _QuantConv(QuantLayer):
    """What quantised convolutions of one and of two dimensions share; beside it stands nn.Conv1d or nn.Conv2d."""

    _torch_product: Any  # of PyTorch, which this layer computes
    _geometry: Any  # stride, padding, dilation -> the same for two dimensions, with four paddings
    kernel_size: Any
    stride: Any
    padding: Any
    dilation: Any
    groups: int
    padding_mode: Any

    def forward(self, input: Tensor) -> Tensor:
        """As nn.Conv2d ([N, C, H, W] or [C, H, W]) or nn.Conv1d ([N, C, L] or [C, L])."""
        if self._intercepts:
            with _Intercept(self, self._torch_product):
                result: Tensor = super().forward(input)
                return result
        if self.padding_mode != "zeros":
            x = F.pad(input, padding_of(self), mode=self.padding_mode)
            return self._call(x, self.weight, self.bias, self.stride, 0, self.dilation, self.groups)
        return self._call(input, self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups)

    def operands(self) -> tuple[Tensor, Tensor | None]:
        """Weight and bias of the product."""
        return used_operands(self, super().forward) if self._intercepts else super().operands()

    def _call(
        self,
        input: Tensor,
        weight: Tensor,
        bias: Tensor | None = None,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        groups: int = 1,
    ) -> Tensor:
        stride, sides, dilation = self._geometry(self.kernel_size, stride, padding, dilation)
        call = {"stride": stride, "padding": sides, "dilation": dilation, "groups": groups}
        if not isinstance(input, fx.Proxy) and input.dim() == self.weight.dim() - 1:
            return self._product(input.unsqueeze(0), weight, bias, call).squeeze(0)
        return self._product(input, weight, bias, call)


class QuantConv2d(_QuantConv, nn.Conv2d):
    """A quantised `nn.Conv2d`; see `QuantLayer` for what it adds.

    Attributes:
        channels_last: In training, products of integers come in channels-last order, whatever that of the input.
    """

    channels_last = False
    _torch_product = staticmethod(F.conv2d)
    _geometry = staticmethod(conv2d_args)

    def _float_product(self, x: Tensor, weight: Tensor, bias: Tensor | None, call: dict[str, Any]) -> Tensor:
        left, right, top, bottom = sides = call["padding"]
        if left == right and top == bottom:
            return F.conv2d(x, weight, bias, call["stride"], (top, left), call["dilation"], call["groups"])
        return F.conv2d(F.pad(x, sides), weight, bias, call["stride"], 0, call["dilation"], call["groups"])

    def _lossless_product(
        self, x: Tensor, inputs: Quantiser, w_hat: Tensor, weights: Lsq, bias: Tensor | None, call: dict[str, Any]
    ) -> Tensor:
        dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else x.dtype
        limits = (inputs.low, inputs.high)
        if inputs.zero is not None or not can_multiply_integers(x, w_hat, bias, call["padding"], limits, dtype):
            return super()._lossless_product(x, inputs, w_hat, weights, bias, call)
        w_scale = weights.scale.detach().expand(w_hat.shape[0])
        grad_scale = inputs.grad_scale(x)
        order = torch.channels_last if self.channels_last else None
        y: Tensor = ops.fake_quantized_conv2d(
            x, inputs.scale, *limits, w_hat, w_scale, bias, **call, grad_scale=grad_scale, dtype=dtype,
            memory_format=order,
        )  # fmt: skip
        return y

    def _integers(self, x: Tensor, weight: Tensor, call: dict[str, Any], options: dict[str, Any]) -> Tensor:
        return conv2d_product(x, weight, **call, **options)

    def _per_output(self, values: Tensor) -> Tensor:
        return values.reshape(-1, 1, 1)


class QuantConv1d(_QuantConv, nn.Conv1d):
    """A quantised `nn.Conv1d`: on the crossbars a convolution with one row."""

    _torch_product = staticmethod(F.conv1d)
    _geometry = staticmethod(conv1d_args)

    def _float_product(self, x: Tensor, weight: Tensor, bias: Tensor | None, call: dict[str, Any]) -> Tensor:
        left, right = sides = call["padding"][:2]
        stride, dilation, groups = call["stride"][1], call["dilation"][1], call["groups"]
        if left == right:
            return F.conv1d(x, weight, bias, stride, left, dilation, groups)
        return F.conv1d(F.pad(x, sides), weight, bias, stride, 0, dilation, groups)

    def _integers(self, x: Tensor, weight: Tensor, call: dict[str, Any], options: dict[str, Any]) -> Tensor:
        return conv2d_product(x.unsqueeze(-2), weight.unsqueeze(-2), **call, **options).squeeze(-2)

    def _range_operands(self, sample: AdcSample) -> tuple[Tensor, Tensor, dict[str, Any]]:
        x_q, w_q, call = super()._range_operands(sample)
        return x_q.unsqueeze(-2), w_q.unsqueeze(-2), call

    def _per_output(self, values: Tensor) -> Tensor:
        return values.reshape(-1, 1)


class QuantLinear(QuantLayer, nn.Linear):
    """A quantised `nn.Linear`; see `QuantLayer` for what it adds."""

    def forward(self, input: Tensor) -> Tensor:
        """As nn.Linear: [..., in_features]."""
        if self._intercepts:
            with _Intercept(self, F.linear):
                result: Tensor = super().forward(input)
                return result
        return self._call(input, self.weight, self.bias)

    def operands(self) -> tuple[Tensor, Tensor | None]:
        """Weight and bias of the product."""
        return used_operands(self, super().forward) if self._intercepts else super().operands()

    def _call(self, input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        if not isinstance(input, fx.Proxy) and input.dim() == 1:
            return self._product(input.unsqueeze(0), weight, bias, {}).squeeze(0)
        if not isinstance(input, fx.Proxy) and input.dim() > 2:
            keep_apart(self)  # its channels are then not these outputs
        return self._product(input, weight, bias, {})

    def _float_product(self, x: Tensor, weight: Tensor, bias: Tensor | None, call: dict[str, Any]) -> Tensor:
        return F.linear(x, weight, bias)

    def _integers(self, x: Tensor, weight: Tensor, call: dict[str, Any], options: dict[str, Any]) -> Tensor:
        return linear_product(x, weight, **options)

    def _per_output(self, values: Tensor) -> Tensor:
        return values


class _Intercept(TorchFunctionMode):
    """Runs a subclass's own forward with its product (a call of `target` on its weight) quantised."""

    def __init__(self, layer: _QuantConv | QuantLinear, target: Any) -> None:
        super().__init__()
        self.layer = layer
        self.target = target

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is self.target:
            return self.layer._call(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))


_derived: dict[type, type] = {}


def quant_class(cls: type[nn.Module]) -> type[nn.Module]:
    """The quantised class of nn.Conv2d, nn.Conv1d, nn.Linear or a subclass: an instance of both."""
    base = next(quantised for plain, quantised in _CLASSES.items() if issubclass(cls, plain))
    if cls in _CLASSES:
        return base
    if cls not in _derived:
        # The class has no importable name: whoever unpickles makes it again from the one that it was.
        members = {"__module__": cls.__module__, "_made_by": (new_instance, (cls,))}
        _derived[cls] = type(f"Quant{cls.__name__}", (base, cls), members)
    return _derived[cls]


_CLASSES: dict[type[nn.Module], type[nn.Module]] = {
    nn.Conv2d: QuantConv2d,
    nn.Conv1d: QuantConv1d,
    nn.Linear: QuantLinear,
}


def new_instance(cls: type[nn.Module]) -> nn.Module:
    """An empty instance of the quantised class of `cls`, for unpickling."""
    derived = quant_class(cls)
    return derived.__new__(derived)
