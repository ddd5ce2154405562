"""Attention in a converted model: the same forward as in the prepared one, around integer products."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from cimq import ops
from cimq.mapping import weight_range
from cimq.quantization.conversion.converted import CrossbarLayer, CrossbarLinear
from cimq.quantization.layers.attention import AttentionCore, AttentionForward, QuantMultiheadAttention
from cimq.quantization.layers.matmul import QuantMatmul
from cimq.quantization.layers.products import matmul_product


class CrossbarMatmul(CrossbarLayer):
    """A converted `QuantMatmul`: both operands are quantised at run time, the second is what the crossbars hold.

    Attributes:
        w_scale: float32 []: scale of the second operand; `multiplier` and `bias` are not used.
    """

    def __init__(self, layer: QuantMatmul) -> None:
        nn.Module.__init__(self)
        layer.act_limits()
        with torch.no_grad():
            self.register_buffer("x_scale", layer.act_scale.detach().clone())
            self.register_buffer("w_scale", layer._weight_scale().detach().reshape(()).clone())
            zero = layer.act_zero
            self.act_zero = 0 if zero is None else int(zero)
            self.register_buffer("correction", None if zero is None else zero.clone())
        self._take_facts(layer)

    @torch.no_grad()
    def forward(self, x: Tensor, w: Tensor, factor: float = 1.0) -> Tensor:
        """x [N, heads, I, n], w [N, heads, m, n]: [N, heads, I, m]."""
        y: Tensor = self._compute(x, {"operand": w, "factor": factor})
        return y

    @torch.no_grad()
    def output(self, x: Tensor, call: dict[str, Any]) -> Tensor:
        """The product from integers; `call` has the second operand and the factor."""
        w_q = self._integer_operand(call["operand"])
        factor: float = call["factor"]
        options = self._options()
        del options["zero"]
        Y = matmul_product(self._quantised(x), w_q, **options)
        self._note(Y)
        if self.correction is not None:
            Y = Y + (self.correction * w_q.sum(-1, dtype=torch.int32)).unsqueeze(-2).to(Y.dtype)
        return Y.float() * (self.x_scale.double() * self.w_scale.double() * factor).float()

    def _integer_operand(self, w: Tensor) -> Tensor:
        low, high = weight_range(self.weight_bits)
        return ops.quantize(w.float(), self.w_scale, low, high, binary=self.weight_bits == 1)

    @torch.no_grad()
    def quantised_operand(self, w: Tensor) -> Tensor:
        """The second operand on its grid."""
        return self._integer_operand(w).float() * self.w_scale

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


def converted_core(core: AttentionCore) -> AttentionCore:
    """The same with integer products."""
    qk: Any = core.qk
    av: Any = core.av
    return AttentionCore(CrossbarMatmul(qk), CrossbarMatmul(av))
