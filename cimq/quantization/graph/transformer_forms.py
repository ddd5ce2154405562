"""The layers and stacks of torch.nn's transformers as plain calls of their parts, for tracing.

PyTorch's own forwards look at their input (its dimensions, whether it is nested) to choose a fused inference path,
which symbolic values cannot answer. What they compute otherwise is this.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn


def _encoder_layer(
    m: Any, src: Any, src_mask: Any = None, src_key_padding_mask: Any = None, is_causal: bool = False
) -> Any:
    options = {"attn_mask": src_mask, "key_padding_mask": src_key_padding_mask, "is_causal": is_causal}

    def attend(x: Any) -> Any:
        return m.dropout1(m.self_attn(x, x, x, need_weights=False, **options)[0])

    def feed(x: Any) -> Any:
        return m.dropout2(m.linear2(m.dropout(m.activation(m.linear1(x)))))

    if m.norm_first:
        x = src + attend(m.norm1(src))
        return x + feed(m.norm2(x))
    x = m.norm1(src + attend(src))
    return m.norm2(x + feed(x))


def _encoder(m: Any, src: Any, mask: Any = None, src_key_padding_mask: Any = None, is_causal: Any = None) -> Any:
    for layer in m.layers:
        src = layer(src, mask, src_key_padding_mask, bool(is_causal))
    return src if m.norm is None else m.norm(src)


def _decoder(
    m: Any,
    tgt: Any,
    memory: Any,
    tgt_mask: Any = None,
    memory_mask: Any = None,
    tgt_key_padding_mask: Any = None,
    memory_key_padding_mask: Any = None,
    tgt_is_causal: Any = None,
    memory_is_causal: bool = False,
) -> Any:
    rest = (tgt_mask, memory_mask, tgt_key_padding_mask, memory_key_padding_mask, bool(tgt_is_causal), memory_is_causal)
    for layer in m.layers:
        tgt = layer(tgt, memory, *rest)
    return tgt if m.norm is None else m.norm(tgt)


FORWARDS: dict[type[nn.Module], Callable[..., Any]] = {
    nn.TransformerEncoderLayer: _encoder_layer,
    nn.TransformerEncoder: _encoder,
    nn.TransformerDecoder: _decoder,
    nn.TransformerDecoderLayer: nn.TransformerDecoderLayer.forward,
}
"""Class (not its subclasses) -> forward: (module, arguments as of its own) -> result."""
