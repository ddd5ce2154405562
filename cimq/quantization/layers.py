"""Quantised layers: `QuantConv2d` and `QuantLinear`, which take the place of `nn.Conv2d` and `nn.Linear`."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor, fx, nn
from torch.overrides import TorchFunctionMode

from cimq.quantization.exact import conv2d_args
from cimq.quantization.products import conv2d_product, linear_product
from cimq.quantization.quant_layer import QuantLayer


class QuantConv2d(QuantLayer, nn.Conv2d):
    """A quantised `nn.Conv2d`; see `QuantLayer` for what it adds."""

    def forward(self, input: Tensor) -> Tensor:
        """As nn.Conv2d: [N, C, H, W] or [C, H, W]."""
        if self._intercepts:
            with _Intercept(self, F.conv2d):
                result: Tensor = super().forward(input)
                return result
        if self.padding_mode != "zeros":
            x = F.pad(input, self._reversed_padding_repeated_twice, mode=self.padding_mode)
            return self._call(x, self.weight, self.bias, self.stride, 0, self.dilation, self.groups)
        return self._call(input, self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups)

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
        stride, sides, dilation = conv2d_args(self.kernel_size, stride, padding, dilation)
        call = {"stride": stride, "padding": sides, "dilation": dilation, "groups": groups}
        if not isinstance(input, fx.Proxy) and input.dim() == 3:
            return self._product(input.unsqueeze(0), weight, bias, call).squeeze(0)
        return self._product(input, weight, bias, call)

    def _float_product(self, x: Tensor, weight: Tensor, bias: Tensor | None, call: dict[str, Any]) -> Tensor:
        left, right, top, bottom = sides = call["padding"]
        if left == right and top == bottom:
            return F.conv2d(x, weight, bias, call["stride"], (top, left), call["dilation"], call["groups"])
        return F.conv2d(F.pad(x, sides), weight, bias, call["stride"], 0, call["dilation"], call["groups"])

    def _integers(self, x: Tensor, weight: Tensor, call: dict[str, Any], options: dict[str, Any]) -> Tensor:
        return conv2d_product(x, weight, **call, **options)

    def _per_output(self, values: Tensor, y: Tensor) -> Tensor:
        return values.reshape(-1, 1, 1)


class QuantLinear(QuantLayer, nn.Linear):
    """A quantised `nn.Linear`; see `QuantLayer` for what it adds."""

    def forward(self, input: Tensor) -> Tensor:
        """As nn.Linear: [..., in_features]."""
        if self._intercepts:
            with _Intercept(self, F.linear):
                result: Tensor = super().forward(input)
                return result
        return self._call(input, self.weight, self.bias)

    def _call(self, input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        if not isinstance(input, fx.Proxy) and input.dim() == 1:
            return self._product(input.unsqueeze(0), weight, bias, {}).squeeze(0)
        return self._product(input, weight, bias, {})

    def _float_product(self, x: Tensor, weight: Tensor, bias: Tensor | None, call: dict[str, Any]) -> Tensor:
        return F.linear(x, weight, bias)

    def _integers(self, x: Tensor, weight: Tensor, call: dict[str, Any], options: dict[str, Any]) -> Tensor:
        return linear_product(x, weight, **options)

    def _per_output(self, values: Tensor, y: Tensor) -> Tensor:
        return values


class _Intercept(TorchFunctionMode):
    """Runs a subclass's own forward with its product (a call of `target` on its weight) quantised."""

    def __init__(self, layer: QuantConv2d | QuantLinear, target: Any) -> None:
        super().__init__()
        self.layer = layer
        self.target = target

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is self.target:
            return self.layer._call(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))


_derived: dict[type, type] = {}


def quant_class(cls: type[nn.Module]) -> type[nn.Module]:
    """The quantised class of nn.Conv2d, nn.Linear or a subclass: an instance of both."""
    base = QuantConv2d if issubclass(cls, nn.Conv2d) else QuantLinear
    if cls in (nn.Conv2d, nn.Linear):
        return base
    if cls not in _derived:
        _derived[cls] = type(f"Quant{cls.__name__}", (base, cls), {"__module__": cls.__module__})
    return _derived[cls]


def new_instance(cls: type[nn.Module]) -> nn.Module:
    """An empty instance of the quantised class of `cls`, for unpickling."""
    derived = quant_class(cls)
    return derived.__new__(derived)
