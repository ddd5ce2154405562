"""Attention in a converted model: the same forward as in the prepared one, around integer products."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from cimq.quantization.conversion.converted import CrossbarLayer, CrossbarLinear
from cimq.quantization.layers.attention import AttentionCore, AttentionForward, QuantMultiheadAttention
from cimq.quantization.layers.matmul import QuantMatmul
from cimq.quantization.layers.products import matmul_product, operand_multiplier, scaled, zero_correction
from cimq.quantization.quantisers.kinds import weight_quantiser
from cimq.quantization.quantisers.lsq import Lsq


class CrossbarMatmul(CrossbarLayer):
    """A converted `QuantMatmul`: both operands are quantised at run time, the second is what the crossbars hold.

    Attributes:
        w_scale: float32 []: scale of the second operand; `multiplier` and `bias` are not used.
    """

    def __init__(self, layer: QuantMatmul) -> None:
        nn.Module.__init__(self)
        layer.act_limits()
        with torch.no_grad():
            zero = self._take_input(layer)
            self.register_buffer("w_scale", layer.weight_quantiser().state()["scale"])
            self.register_buffer("correction", zero)
        self._take_facts(layer)

    @torch.no_grad()
    def forward(self, x: Tensor, w: Tensor, factor: float = 1.0) -> Tensor:
        """x [N, heads, I, n], w [N, heads, m, n]: [N, heads, I, m]."""
        y: Tensor = self._compute(x, {"operand": w, "factor": factor})
        return y

    @torch.no_grad()
    def output(self, x: Tensor, call: dict[str, Any]) -> Tensor:
        """The product from integers; `call` has the second operand and the factor."""
        w_q = self._operand_quantiser().integers(call["operand"])
        Y = matmul_product(self.quantize_input(x), w_q, **self._options())
        self._note(Y)
        zero = self.correction
        correction = None if zero is None else zero_correction(w_q, zero, 3).unsqueeze(-2)
        return scaled(Y, correction, operand_multiplier(self.x_scale, self.w_scale, call["factor"]), None)

    def _operand_quantiser(self) -> Lsq:
        return weight_quantiser(self.w_scale, self.weight_bits, written=False)

    @torch.no_grad()
    def quantised_operand(self, w: Tensor) -> Tensor:
        """The second operand on its grid."""
        return self._operand_quantiser().integers(w).float() * self.w_scale

    @torch.no_grad()
    def float_output(self, x: Tensor, call: dict[str, Any]) -> Tensor:
        """factor * x @ w^T in fp32, nothing quantised."""
        w: Tensor = call["operand"]
        factor: float = call["factor"]
        return (x.float() @ w.float().transpose(-1, -2)) * factor

    def extra_repr(self) -> str:
        """The bits."""
        return self._describe()


class CrossbarMultiheadAttention(AttentionForward):
    """A converted `nn.MultiheadAttention`."""

    def __init__(self, module: QuantMultiheadAttention) -> None:
        super().__init__()
        for key in ("embed_dim", "num_heads", "head_dim", "dropout", "batch_first", "add_zero_attn"):
            setattr(self, key, getattr(module, key))
        self.in_proj_bias = None  # looked at by nn.TransformerEncoderLayer
        for key in ("bias_k", "bias_v"):
            value = getattr(module, key)
            self.register_buffer(key, None if value is None else value.detach().clone())
        products: Any = module.crossbar_products
        in_proj = CrossbarLinear(products["in_proj"], None)
        self.crossbar_products = nn.ModuleDict({"in_proj": in_proj, "core": converted_core(products["core"])})
        self.out_proj = CrossbarLinear(module.out_proj, None)


class CrossbarAttention(AttentionCore):
    """A converted `AttentionCore`."""


def converted_core(core: AttentionCore) -> CrossbarAttention:
    """The same with integer products."""
    qk: Any = core.qk
    av: Any = core.av
    return CrossbarAttention(CrossbarMatmul(qk), CrossbarMatmul(av))
