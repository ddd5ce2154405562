"""Layers of a converted model: integer products with one float32 multiplier and bias per output."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cimq.hardware import Hardware
from cimq.quantization.conversion.installation import show_attributes
from cimq.quantization.layers.products import (
    conv2d_product,
    crossbar_options,
    fold,
    linear_product,
    scaled,
    zero_correction,
)
from cimq.quantization.layers.quant_layer import QuantLayer
from cimq.quantization.layers.weighted import QuantConv1d, QuantConv2d, QuantLinear
from cimq.quantization.quantisers.adc_ranges import needs_ranges
from cimq.quantization.quantisers.kinds import input_quantiser
from cimq.quantization.quantisers.quantiser import Quantiser
from cimq.torch_tools.host_values import ReadOnHost, on_host

Tap = Callable[["CrossbarLayer", Tensor], None]
# Called instead of the quantised product: (layer, input, other arguments, function of the fp32 output) -> output.
ConvertedObserver = Callable[["CrossbarLayer", Tensor, dict[str, Any], Callable[[], Tensor]], Tensor]
# Sees every crossbar product: (layer, input, weight, machine, other arguments of the operator, result).
ConvertedProbe = Callable[["CrossbarLayer", Tensor, Tensor, Hardware, dict[str, Any], Tensor], None]


class Geometry(NamedTuple):
    """What a convolution computes with, whatever its attributes were when it was called.

    Attributes:
        stride: Vertical, horizontal.
        padding: Left, right, top, bottom.
        dilation: Vertical, horizontal.
        groups: Parts of the channels.
    """

    stride: tuple[int, int]
    padding: tuple[int, int, int, int]
    dilation: tuple[int, int]
    groups: int


class CrossbarLayer(ReadOnHost):
    """What converted layers have in common: y = float32(Y) * multiplier[o] + bias[o], each operation rounded once.

    Y is the crossbar product of `weight_q` and the integers clamp(rint(x / x_scale)). Inference only. Plain attributes
    of the layer that it was (channels, kernel_size, stride, ..., and those of its own class) are there too.

    Attributes:
        weight_q: int8, in the layout of the layer it came from.
        x_scale: float32 [].
        w_scale: float32 [O]: scale of the weight; the integers of the result do not need it.
        multiplier: float32 [O]: s_x * s_w[o], times gamma / sqrt(var + eps) of a folded batch normalisation.
        bias: float32 [O], always there.
        adc_lo: Lowest current per weight slice (and output, with `adc.granularity` column), or None; see
            `ops.crossbar_mvm`.
        adc_lsb: Converter step likewise, or None.
        act_zero: Zero point z of the input: x = x_scale * (q + z), q unsigned; 0 without an offset.
        correction: int32 [O], z * sum of the weights of an output, added to Y; None without an offset.
        weight_bits: 1 to 8.
        act_bits: 1 to 8.
        act_signed: Input integers are two's complement.
        network_hardware: The machine of the network.
        layer_machine: What the layer has otherwise.
        hardware: Both together: what it computes with.
        layer_name: Name in the prepared model: the key in a policy.
        layer_index: Position in the policy order.
        chip_seed: Seed of the cell variation.
    """

    weight_q: Tensor
    x_scale: Tensor
    w_scale: Tensor
    multiplier: Tensor
    bias: Tensor
    adc_lo: Tensor | None
    adc_lsb: Tensor | None
    correction: Tensor | None

    def __init__(self, layer: QuantLayer, norm: nn.Module | None) -> None:
        super().__init__()
        layer.act_limits()  # refuses a layer that was not calibrated
        with torch.no_grad():
            weight, layer_bias = layer.operands()
            multiplier, bias = fold(layer.act_scale, layer.weight_scale, layer_bias, norm)
            self.register_buffer("weight_q", layer.integer_weight(weight))
            zero = self._take_input(layer)
            self.register_buffer("w_scale", layer.weight_scale.detach().clone())
            self.register_buffer("multiplier", multiplier)
            self.register_buffer("bias", bias)
            self.register_buffer("correction", None if zero is None else zero_correction(self.weight_q, zero))
        self._take_facts(layer)

    def _take_input(self, layer: QuantLayer) -> Tensor | None:
        """The quantiser of the input; its zero point."""
        state = layer.input_quantiser().state()
        zero = state.get("zero")
        self.register_buffer("x_scale", state["scale"])
        self.act_zero = 0 if zero is None else int(zero)
        return zero

    def _take_facts(self, layer: QuantLayer) -> None:
        options = layer._mvm_options()
        for name in ("adc_lo", "adc_lsb"):
            ranges: Tensor | None = options[name]
            self.register_buffer(name, None if ranges is None else ranges.to(self.x_scale.device))
        self.weight_bits = layer.weight_bits
        self.act_bits = layer.act_bits
        self.act_signed = bool(layer.act_signed)
        self.network_hardware = layer.network_hardware
        self.layer_machine = layer.layer_machine
        self.hardware = layer.hardware
        self.layer_name = layer.layer_name
        self.layer_index = layer.layer_index
        self.chip_seed = layer.chip_seed
        self._tap: Tap | None = None
        self._observer: ConvertedObserver | None = None
        self._probe: ConvertedProbe | None = None
        show_attributes(self, layer)

    @property
    def weight(self) -> Tensor:
        """The weight that the integers stand for, float32: for models that look at a layer's weight, or at its type."""
        return self.weight_q.float() * self.w_scale.reshape((-1,) + (1,) * (self.weight_q.dim() - 1))

    def input_quantiser(self) -> Quantiser:
        """The quantiser of the input."""
        offset = None if self.correction is None else torch.tensor(float(self.act_zero), device=self.x_scale.device)
        return input_quantiser(self.x_scale, self.act_bits, self.act_signed, offset)

    def quantize_input(self, x: Tensor) -> Tensor:
        """The integers that the crossbar gets, uint8 or int8.

        Raises:
            ValueError: For values that are not finite; names the layer.
        """
        try:
            return self.input_quantiser().integers(x)
        except ValueError as error:
            raise ValueError(f"layer {self.layer_name!r}: {error}") from None

    def _compute(self, x: Tensor, call: dict[str, Any]) -> Tensor:
        """The output for a batch; `call` has what a product of two activations gets beside its input."""
        if self._observer is not None:
            return self._observer(self, x, call, partial(self.float_output, x, call))
        return self.output(x, call)

    @torch.no_grad()
    def output(self, x: Tensor, call: dict[str, Any]) -> Tensor:
        """The output for a batch, from integers."""
        Y = self._product(self.quantize_input(x))
        self._note(Y)
        correction = None if self.correction is None else self._per_output(self.correction)
        return self._scaled(Y, correction)

    @torch.no_grad()
    def float_output(self, x: Tensor, call: dict[str, Any]) -> Tensor:
        """The output for a batch whose input is not quantised: the weight is, converters and cells are ideal."""
        y = self._float_product(x.float() / self.x_scale, self.weight_q.float())
        return self._scaled(y, None)

    def _scaled(self, Y: Tensor, correction: Tensor | None) -> Tensor:
        return scaled(Y, correction, self._per_output(self.multiplier), self._per_output(self.bias))

    def _product(self, x_q: Tensor) -> Tensor:
        raise NotImplementedError

    def _float_product(self, x: Tensor, weight: Tensor) -> Tensor:
        raise NotImplementedError

    def _per_output(self, values: Tensor) -> Tensor:
        raise NotImplementedError

    def _options(self) -> dict[str, Any]:
        lo, lsb = (self.adc_lo, self.adc_lsb) if needs_ranges(self.hardware) else (None, None)
        if lo is not None and lsb is not None:
            lo, lsb = on_host(lo), on_host(lsb)  # where calls read them without waiting for the device
        return crossbar_options(self, self.hardware, self.chip_seed, lo, lsb)

    def _note(self, Y: Tensor) -> None:
        if self._tap is not None:
            self._tap(self, Y.to(torch.int32) if self.hardware.lossless else Y.clone())

    def _describe(self) -> str:
        sign = "signed" if self.act_signed else f"unsigned, zero at {-self.act_zero}" if self.act_zero else "unsigned"
        chosen = "".join(f", {key}={value}" for key, value in self.layer_machine.given().items())
        return f"weight_bits={self.weight_bits}, act_bits={self.act_bits} ({sign}){chosen}"


class CrossbarConv2d(CrossbarLayer):
    """A converted convolution, with the attributes of the layer that it was.

    Attributes:
        geometry: What it computes with.
    """

    in_channels: int
    out_channels: int
    kernel_size: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...] | str
    dilation: tuple[int, ...]
    groups: int

    def __init__(self, layer: QuantConv2d | QuantConv1d, norm: nn.Module | None, geometry: Geometry) -> None:
        super().__init__(layer, norm)
        self.geometry = geometry

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] or [C, H, W]."""
        if x.dim() == 3:
            y: Tensor = self(x.unsqueeze(0)).squeeze(0)
            return y
        return self._compute(x, {})

    def _product(self, x_q: Tensor) -> Tensor:
        return conv2d_product(x_q, self.weight_q, zero=self.act_zero, **self.geometry._asdict(), **self._options())

    def _float_product(self, x: Tensor, weight: Tensor) -> Tensor:
        stride, padding, dilation, groups = self.geometry
        return F.conv2d(F.pad(x, padding), weight, None, stride, 0, dilation, groups)

    def _per_output(self, values: Tensor) -> Tensor:
        return values.reshape(-1, 1, 1)

    def extra_repr(self) -> str:
        """Shape, geometry and bits."""
        return (
            f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}, "
            f"padding={self.padding}, dilation={self.dilation}, groups={self.groups}, {self._describe()}"
        )


class CrossbarConv1d(CrossbarConv2d):
    """A converted 1-D convolution: the 2-D one of an image with one row; `weight_q` is [O, C/groups, 1, k]."""

    def __init__(self, layer: QuantConv1d, norm: nn.Module | None, geometry: Geometry) -> None:
        super().__init__(layer, norm, geometry)
        self.weight_q = self.weight_q.unsqueeze(-2)

    @property
    def weight(self) -> Tensor:
        """As that of other layers, [O, C/groups, k]."""
        return super().weight.squeeze(-2)

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        """[N, C, L] or [C, L]."""
        return super().forward(x.unsqueeze(-2)).squeeze(-2)


class CrossbarLinear(CrossbarLayer):
    """A converted linear layer."""

    in_features: int
    out_features: int

    def __init__(self, layer: QuantLinear, norm: nn.Module | None) -> None:
        super().__init__(layer, norm)
        self._folds_norm = norm is not None

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        """[..., in_features]; [N, in_features] with a batch normalisation folded in.

        Raises:
            ValueError: For another shape in that case: the channels of the normalisation would not be the outputs.
        """
        if self._folds_norm and x.dim() != 2:
            raise ValueError(
                f"layer {self.layer_name!r} has a batch normalisation folded into it, for inputs [N, "
                f"{self.in_features}], and got {[*x.shape]}; calibrate with inputs of this shape before convert"
            )
        if x.dim() == 1:
            y: Tensor = self(x.unsqueeze(0)).squeeze(0)
            return y
        return self._compute(x, {})

    def _product(self, x_q: Tensor) -> Tensor:
        return linear_product(x_q, self.weight_q, **self._options())

    def _float_product(self, x: Tensor, weight: Tensor) -> Tensor:
        return F.linear(x, weight)

    def _per_output(self, values: Tensor) -> Tensor:
        return values

    def extra_repr(self) -> str:
        """Shape and bits."""
        return f"{self.in_features}, {self.out_features}, {self._describe()}"
