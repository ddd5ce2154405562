"""The product of two activations: Q K^T and A V of an attention block.

On crossbars, K^T and V are written at run time: the keys (values) of a head are the cells, the queries (attention
weights) the inputs.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from cimq import ops
from cimq.mapping import MAX_BITS, weight_range
from cimq.quantization.layers.products import fake_quantize_act, integers_of_grid, matmul_product
from cimq.quantization.layers.quant_layer import QuantLayer
from cimq.quantization.quantisers.adc_ranges import AdcSample
from cimq.quantization.quantisers.cell_moments import weight_moments
from cimq.quantization.quantisers.lsq_offset import fake_quantize_offset
from cimq.quantization.quantisers.scale_search import mse_scales


class QuantMatmul(QuantLayer):
    """factor * x @ w^T, both quantised: x as an input, w as a weight with one scale for all of it.

    Attributes:
        matrix: (heads, outputs, inputs) of the product last seen in calibration, for the latency model.
    """

    matrix: tuple[int, int, int] | None

    def __init__(self, like: Tensor) -> None:
        super().__init__()
        self.matrix = None
        self._like = (like.device, like.requires_grad)

    def _weight_facts(self) -> tuple[int, torch.device, bool]:
        return 1, self._like[0], self._like[1]

    def _range_outputs(self) -> int | None:
        """None: the matrix, and how many columns it has, is known at run time; a slice has one range."""
        return None

    def forward(self, x: Tensor, w: Tensor, factor: float = 1.0) -> Tensor:
        """x [N, heads, I, n], w [N, heads, m, n]: [N, heads, I, m]."""
        if self._observer is not None:
            self.matrix = (x.shape[1], w.shape[2], w.shape[3])
        return self._product(x, w, None, {"factor": factor, "operand": w})

    def ensure_weight_scale(self, bits: int, *, again: bool = False) -> None:
        """Nothing to do: the scales of all widths come from calibration."""

    @torch.no_grad()
    def set_operand_scales(self, values: Tensor) -> None:
        """Scales of all widths for a sample [1, n] of what is written to the crossbars."""
        for bits in range(1, MAX_BITS + 1):
            moments = weight_moments(self.training_hardware or self.hardware, bits)
            found = mse_scales(values, *weight_range(bits), binary=bits == 1, moments=moments)
            self.weight_scales[bits - 1].copy_(found)
            self._scaled_widths.add(bits)

    def _range_operands(self, sample: AdcSample) -> tuple[Tensor, Tensor, dict[str, Any]]:
        """Those of the first matrix."""
        device = self.act_scales.device
        w = sample.call["operand"][0, 0].to(device)
        return self.quantize_input(sample.x[0, 0].to(device)), self.integer_weight(w), {}

    def _float_product(self, x: Tensor, weight: Tensor, bias: Tensor | None, call: dict[str, Any]) -> Tensor:
        factor: float = call["factor"]
        return (x @ weight.transpose(-1, -2)) * factor

    def _integers(self, x: Tensor, weight: Tensor, call: dict[str, Any], options: dict[str, Any]) -> Tensor:
        return matmul_product(x, weight, **options)

    def _training_product(
        self,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        call: dict[str, Any],
        limits: tuple[int, int],
        norm: nn.Module | None,
    ) -> Tensor:
        x_scale, w_scale = self.act_scale, self._weight_scale().reshape(())
        if self.act_offsets is None:
            x_hat = fake_quantize_act(x, x_scale, *limits)
        else:
            x_hat = fake_quantize_offset(x, x_scale, self.act_offsets[self.act_bits - 1], self.act_bits)
        low, high = weight_range(self.weight_bits)
        grad_scale = (max(1, weight.shape[1:].numel()) * high) ** -0.5
        w_hat = ops.fake_quantize(weight, w_scale, low, high, grad_scale=grad_scale, binary=self.weight_bits == 1)
        if self._machine().lossless:
            return self._float_product(x_hat, w_hat, None, call)
        x_scale, w_scale = x_scale.detach(), w_scale.detach()
        with torch.autocast(x.device.type, enabled=False):
            x_int = integers_of_grid(x_hat.float(), x_scale)
            w_int = integers_of_grid(w_hat.float(), w_scale)
            zero = self.act_zero
            factor: float = call["factor"]
            options = self._training_options(x, weight, call, x_scale * w_scale * abs(factor))
            y = self._integers(x_int if zero is None else x_int - zero, w_int, call, options)
            if zero is not None:
                y = y + zero * w_int.sum(-1).unsqueeze(-2)
            return y * (x_scale * w_scale * factor)

    def _integer_product(
        self, x: Tensor, weight: Tensor, bias: Tensor | None, call: dict[str, Any], norm: nn.Module | None
    ) -> Tensor:
        multiplier = self.multiplier(call["factor"])
        x_q, w_q, zero = self.quantize_input(x), self.integer_weight(weight), self.act_zero
        y = self._integers(x_q, w_q, call, self._mvm_options())
        if zero is not None:
            y = y + (zero * w_q.sum(-1, dtype=torch.int32)).unsqueeze(-2).to(y.dtype)
        return y.float() * multiplier

    @torch.no_grad()
    def multiplier(self, factor: float) -> Tensor:
        """s_x * s_w * factor, computed in float64 and rounded once."""
        return (self.act_scale.double() * self._weight_scale().double().reshape(()) * factor).float()

    @torch.no_grad()
    def integer_weight(self, weight: Tensor | None = None) -> Tensor:
        """The integers that are written to the crossbars, int8."""
        if weight is None:
            raise ValueError(f"layer {self.layer_name!r} has no weight of its own: it is written at run time")
        low, high = weight_range(self.weight_bits)
        scale = self._weight_scale().detach().reshape(())
        try:
            return ops.quantize(weight.float(), scale, low, high, binary=self.weight_bits == 1)
        except ValueError as error:
            raise ValueError(f"layer {self.layer_name!r}, its second operand: {error}") from None
