"""Quantised layers whose weight belongs to another module: products of function calls, projections of an attention."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from typing import Any

from torch import Tensor, nn

from cimq.quantization.layers.quant_layer import QuantLayer
from cimq.quantization.layers.weighted import QuantConv2d, QuantLinear

_LENT = ("weight", "bias", "matrix")


class _Borrowed(QuantLayer):
    """A layer whose weight and bias belong to another module, whose state_dict they stay in."""

    def written(self, destination: MutableMapping[str, Any], prefix: str) -> None:
        """Leaves out what is in the state of the other module."""
        super().written(destination, prefix)
        for key in _LENT:
            destination.pop(prefix + key, None)

    def missed(self, missing: list[str], state_dict: Mapping[str, Any], prefix: str) -> list[str]:
        """All but what is in the state of the other module."""
        return [key for key in super().missed(missing, state_dict, prefix) if key.removeprefix(prefix) not in _LENT]


class BorrowedLinear(_Borrowed, QuantLinear):
    """The product of a call F.linear(x, weight, bias), or of the projections of an attention."""

    @classmethod
    def of(cls, weight: nn.Parameter, bias: nn.Parameter | None) -> BorrowedLinear:
        """A layer with these parameters, not attached yet."""
        layer = cls.__new__(cls)
        nn.Module.__init__(layer)
        layer.out_features, layer.in_features = weight.shape
        layer.weight = weight
        layer.register_parameter("bias", bias)
        return layer


class BorrowedTransposed(BorrowedLinear):
    """The product of a call torch.addmm(bias, x, matrix): `matrix` [in, out] is the transposed weight.

    So are the layers of GPT-2 written (transformers.pytorch_utils.Conv1D).
    """

    matrix: nn.Parameter

    @property
    def weight(self) -> Tensor:  # type: ignore[override]
        """As that of a linear layer, [out, in]."""
        return self.matrix.t().contiguous()

    @classmethod
    def of(cls, weight: nn.Parameter, bias: nn.Parameter | None) -> BorrowedTransposed:
        """A layer with these parameters, not attached yet; `weight` is [in, out]."""
        layer = cls.__new__(cls)
        nn.Module.__init__(layer)
        layer.in_features, layer.out_features = weight.shape
        layer.matrix = weight
        layer.register_parameter("bias", bias)
        return layer


class BorrowedConv2d(_Borrowed, QuantConv2d):
    """The product of a call F.conv2d(x, weight, bias, ...)."""

    @classmethod
    def of(
        cls,
        weight: nn.Parameter,
        bias: nn.Parameter | None,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        groups: int = 1,
    ) -> BorrowedConv2d:
        """A layer with these parameters and this geometry, not attached yet."""
        layer = cls.__new__(cls)
        nn.Module.__init__(layer)
        size = (int(weight.shape[2]), int(weight.shape[3]))
        shape = nn.Conv2d(
            weight.shape[1] * groups, weight.shape[0], size, stride, padding, dilation, groups, device="meta"
        )
        for key in ("in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation", "groups"):
            setattr(layer, key, getattr(shape, key))
        layer.padding_mode, layer.transposed, layer.output_padding = "zeros", False, (0, 0)
        layer.weight = weight
        layer.register_parameter("bias", bias)
        return layer
