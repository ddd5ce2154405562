"""Products of two activations: Q K^T and A V of an attention block, and `nn.MultiheadAttention` around them.

On crossbars, K^T and V are written at run time: the keys (values) of a head are the cells, the queries (attention
weights) the inputs. An attention block has four entries in a policy, in this order: `in_proj`, `qk`, `av`, `out_proj`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cimq.quantization.layers.borrowed import BorrowedLinear
from cimq.quantization.layers.matmul import QuantMatmul
from cimq.quantization.layers.quant_layer import QuantLayer
from cimq.torch_tools.private_names import StateDictModule, children_of
from cimq.torch_tools.replaced_forwards import has_replaced_forward


class AttentionCore(nn.Module):
    """softmax(q k^T * scale + mask) v: what `F.scaled_dot_product_attention` computes, with two crossbar products.

    Attributes:
        qk: Product of queries and keys.
        av: Product of attention weights and values.
    """

    def __init__(self, qk: nn.Module, av: nn.Module) -> None:
        super().__init__()
        self.qk = qk
        self.av = av

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attn_mask: Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        scale: float | None = None,
        enable_gqa: bool = False,
    ) -> Tensor:
        """As F.scaled_dot_product_attention: query [..., L, E], key [..., S, E], value [..., S, Ev]: [..., L, Ev]."""
        return self.attend(query, key, value, attn_mask, dropout_p, is_causal, scale, enable_gqa)[0]

    def attend(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attn_mask: Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        scale: float | None = None,
        enable_gqa: bool = False,
    ) -> tuple[Tensor, Tensor]:
        """The result and the attention weights [..., L, S]."""
        lead = query.shape[:-2]
        if enable_gqa:
            key = key.repeat_interleave(query.shape[-3] // key.shape[-3], -3)
            value = value.repeat_interleave(query.shape[-3] // value.shape[-3], -3)
        q, k, v = (_four_dimensions(x.expand(*lead, *x.shape[-2:])) for x in (query, key, value))
        factor = 1.0 / math.sqrt(query.shape[-1]) if scale is None else float(scale)
        scores = self.qk(q, k, factor)
        scores = scores.reshape(*lead, *scores.shape[-2:])
        mask = additive_mask(attn_mask, is_causal, scores)
        if mask is None:
            weights = torch.softmax(scores, -1)
        else:
            # A query that may attend to nothing gets zeros, as in PyTorch.
            nothing = (mask == -math.inf).all(-1, keepdim=True)
            weights = torch.softmax(scores + mask, -1).masked_fill(nothing, 0.0)
        weights = F.dropout(weights, dropout_p, dropout_p > 0)
        out = self.av(_four_dimensions(weights), v.transpose(-1, -2))
        return out.reshape(*lead, *out.shape[-2:]), weights


def _four_dimensions(x: Tensor) -> Tensor:
    """[samples, heads, rows, columns]."""
    lead = (math.prod(x.shape[:-2]), 1) if x.dim() <= 3 else (x.shape[0], math.prod(x.shape[1:-2]))
    return x.reshape(*lead, *x.shape[-2:])  # written out: -1 would be ambiguous for an empty batch


def additive_mask(mask: Tensor | None, is_causal: bool, scores: Tensor) -> Tensor | None:
    """What is added to scores [..., L, S]; None for nothing. True in a boolean mask lets attend."""
    if is_causal:
        causal = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).tril()
        if mask is None:
            mask = causal
        else:
            mask = mask & causal if mask.dtype == torch.bool else mask.masked_fill(~causal, -math.inf)
    if mask is None or mask.dtype != torch.bool:
        return mask
    return torch.zeros_like(mask, dtype=scores.dtype).masked_fill(~mask, -math.inf)


class AttentionForward(nn.Module):
    """The forward of multi-head attention, for the prepared and for the converted module.

    `crossbar_products` holds `in_proj` (all three projections as one layer) and `core`; `out_proj` is where it was.
    Where query, key and value are not one tensor, `in_proj` runs on each of them and its part of the result is used.
    """

    embed_dim: int
    num_heads: int
    head_dim: int
    dropout: float
    batch_first: bool
    add_zero_attn: bool
    bias_k: Any
    bias_v: Any
    out_proj: Any
    crossbar_products: nn.ModuleDict

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """As nn.MultiheadAttention."""
        batched = query.dim() == 3
        q, k, v = self._projected(query, key, value, batched)
        if self.bias_k is not None:
            k = torch.cat([k, self.bias_k.expand(k.shape[0], 1, -1)], 1)
            v = torch.cat([v, self.bias_v.expand(v.shape[0], 1, -1)], 1)
        if self.add_zero_attn:
            k, v = F.pad(k, (0, 0, 0, 1)), F.pad(v, (0, 0, 0, 1))
        heads = (self.num_heads, self.head_dim)
        q, k, v = (x.reshape(*x.shape[:-1], *heads).transpose(1, 2) for x in (q, k, v))
        mask = self._mask(attn_mask, key_padding_mask, q, k.shape[-2])
        causal = is_causal and attn_mask is None
        core: Any = self.crossbar_products["core"]
        out, weights = core.attend(q, k, v, mask, self.dropout if self.training else 0.0, causal)
        out = self.out_proj(out.transpose(1, 2).flatten(2))
        if need_weights and average_attn_weights:
            weights = weights.mean(1)
        if not batched:
            return out.squeeze(0), weights.squeeze(0) if need_weights else None
        return out if self.batch_first else out.transpose(0, 1), weights if need_weights else None

    def _projected(self, query: Tensor, key: Tensor, value: Tensor, batched: bool) -> list[Tensor]:
        """Queries, keys and values, [N, tokens, embed_dim] each."""
        parts: list[Tensor] = []
        done: list[tuple[Tensor, Tensor]] = []
        for index, source in enumerate((query, key, value)):
            found = [y for x, y in done if x is source]
            if not found:
                x = source if batched else source.unsqueeze(0)
                if batched and not self.batch_first:
                    x = x.transpose(0, 1)
                found = [self.crossbar_products["in_proj"](x)]
                done.append((source, found[0]))
            parts.append(found[0].narrow(-1, index * self.embed_dim, self.embed_dim))
        return parts

    def _mask(self, mask: Tensor | None, padding: Tensor | None, q: Tensor, keys: int) -> Tensor | None:
        """Both masks as one that is added, [N or 1, heads or 1, L or 1, S]; True in a boolean one leaves out."""
        total: Tensor | None = None
        for given in (mask, padding):
            if given is None:
                continue
            part = given
            if given.dtype == torch.bool:
                part = torch.zeros_like(given, dtype=q.dtype).masked_fill(given, -math.inf)
            if given is padding:
                part = part.reshape(-1, 1, 1, part.shape[-1])
            elif part.dim() == 3:
                part = part.reshape(-1, self.num_heads, *part.shape[-2:])
            part = F.pad(part, (0, keys - part.shape[-1]))  # keys that bias_k and add_zero_attn have added
            total = part if total is None else total + part
        return total


class QuantMultiheadAttention(AttentionForward, StateDictModule, nn.MultiheadAttention):
    """A quantised `nn.MultiheadAttention`: the same parameters, `crossbar_products` beside them."""

    def was_read(self, state_dict: Mapping[str, Any], prefix: str) -> None:
        """Weights without scales are other weights."""
        forget_unknown(self, state_dict, prefix)


def forget_unknown(host: Any, state_dict: Any, prefix: str) -> None:
    """After loading weights without scales: the scales of products inside `host` are no longer known."""
    known = any(key.startswith(f"{prefix}crossbar_products.") for key in state_dict)
    if known or not any(key.startswith(prefix) for key in state_dict):
        return
    for module in host.crossbar_products.modules():
        if isinstance(module, QuantLayer):
            module.forget_scales()


def quantise_attention(module: nn.MultiheadAttention) -> list[QuantLayer]:
    """Turns an attention module into its quantised class; its layers in policy order, not attached yet.

    `module.out_proj` must be a quantised layer already.
    """
    in_proj = BorrowedLinear.of(module.in_proj_weight, module.in_proj_bias)
    core = AttentionCore(QuantMatmul(module.in_proj_weight), QuantMatmul(module.in_proj_weight))
    module.__class__ = QuantMultiheadAttention
    module.add_module("crossbar_products", nn.ModuleDict({"in_proj": in_proj, "core": core}))
    children = children_of(module)
    children["out_proj"] = children.pop("out_proj")  # the order of a policy is that of modules
    layers: Any = [in_proj, core.qk, core.av, module.out_proj]
    return list(layers)


def why_not(module: nn.MultiheadAttention) -> str | None:
    """Why an attention module cannot be quantised, None if it can."""
    if type(module) is not nn.MultiheadAttention:
        return "it is a subclass of nn.MultiheadAttention"
    if has_replaced_forward(module):
        return "its forward was set on the object"
    if not module.kdim == module.vdim == module.embed_dim:
        return "its keys or values have another width than its queries (kdim, vdim)"
    if module.in_proj_weight.dtype != torch.float32:
        return f"its weight is {str(module.in_proj_weight.dtype).removeprefix('torch.')}, not float32"
    if not all(bool(torch.isfinite(weight).all()) for weight in (module.in_proj_weight, module.out_proj.weight)):
        return "its weight holds NaN or infinite values"
    return None
