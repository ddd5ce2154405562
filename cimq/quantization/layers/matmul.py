"""The product of two activations: Q K^T and A V of an attention block.

On crossbars, K^T and V are written at run time: the keys (values) of a head are the cells, the queries (attention
weights) the inputs.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from cimq.mapping import MAX_BITS
from cimq.quantization.layers.products import matmul_product, operand_multiplier
from cimq.quantization.layers.quant_layer import QuantLayer
from cimq.quantization.quantisers.adc_ranges import AdcSample
from cimq.quantization.quantisers.kinds import weight_quantiser
from cimq.quantization.quantisers.lsq import Lsq


class QuantMatmul(QuantLayer):
    """factor * x @ w^T, both quantised: x as an input, w as a weight with one scale for all of it.

    Attributes:
        matrix: (heads, outputs, inputs) of the product last seen in calibration, for the latency model.
    """

    matrix: tuple[int, int, int] | None
    _first_input = 3
    _weight_title = "its second operand"

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

    def weight_quantiser(self) -> Lsq:
        """That of the second operand: one scale for all of it."""
        return weight_quantiser(self._weight_scale(), self.weight_bits, written=False)

    def operands(self) -> tuple[Tensor, Tensor | None]:
        """There are none."""
        raise ValueError(f"layer {self.layer_name!r} has no weight of its own: it is written at run time")

    def ensure_weight_scale(self, bits: int) -> None:
        """Nothing to do: the scales of all widths come from calibration."""

    @torch.no_grad()
    def calibrate_operand(self, values: Tensor) -> None:
        """Scales of all widths for a sample [1, n] of what is written to the crossbars."""
        for bits in range(1, MAX_BITS + 1):
            self._search_weight_scale(bits, values)

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

    def _multiplier_and_shift(
        self, bias: Tensor | None, norm: nn.Module | None, call: dict[str, Any]
    ) -> tuple[Tensor, Tensor | None]:
        return operand_multiplier(self.act_scale, self.weight_quantiser().scale, call["factor"]), None

    def _worth(self, scale: Tensor, call: dict[str, Any]) -> Tensor:
        factor: float = call["factor"]
        return scale * factor

    def _per_output(self, values: Tensor) -> Tensor:
        return values if values.dim() == 0 else values.unsqueeze(-2)
