"""Networks with attention, in the ways that models write it."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

TOKENS = 5
WIDTH = 8


class Encoder(nn.Module):
    """PyTorch's own layers; values [B, TOKENS, WIDTH], as of the others but Vit."""

    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(WIDTH, 2, 12, dropout=0.1, batch_first=True, activation="gelu")
        self.encoder = nn.TransformerEncoder(layer, 2, nn.LayerNorm(WIDTH), enable_nested_tensor=False)
        self.head = nn.Linear(WIDTH, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.encoder(x).mean(1))


class Fused(nn.Module):
    """Queries, keys and values of one layer, permuted and taken apart along the first dimension, as in timm."""

    def __init__(self, heads: int = 2, causal: bool = True) -> None:
        super().__init__()
        self.heads = heads
        self.causal = causal
        self.qkv = nn.Linear(WIDTH, 3 * WIDTH)
        self.out = nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        batch, tokens, width = x.shape
        qkv = self.qkv(x).reshape(batch, tokens, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        q, k, v = qkv.unbind(0)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=self.causal)
        return x + self.out(y.transpose(1, 2).reshape(batch, tokens, width))


class Masked(nn.Module):
    """Without heads; a mask that is a buffer, in which a query sees nothing, and a scale."""

    mask: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v = (nn.Linear(WIDTH, 6) for _ in range(3))
        mask = torch.ones(TOKENS, TOKENS, dtype=torch.bool).tril()
        mask[2] = False
        self.register_buffer("mask", mask)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.q(x), self.k(x), self.v(x)
        return F.scaled_dot_product_attention(q, k, v, attn_mask=self.mask, scale=0.4)


class Cross(nn.Module):
    """Two queries look at all tokens; the result with the attention weights."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(WIDTH, 4, batch_first=True, add_zero_attn=True)

    def forward(self, x: Tensor) -> Tensor:
        y, weights = self.attention(x[:, :2], x, x)
        return torch.cat([y, weights], -1)


class Vit(nn.Module):
    """Images [B, 3, 12, 12]: patches by a convolution, a class token, positions, a block, a head."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, WIDTH, 4, stride=4)
        self.token = nn.Parameter(torch.zeros(1, 1, WIDTH))
        self.positions = nn.Parameter(torch.zeros(1, 10, WIDTH))
        self.norm1, self.norm2, self.norm = (nn.LayerNorm(WIDTH) for _ in range(3))
        self.attention = nn.MultiheadAttention(WIDTH, 4, batch_first=True, bias=False)
        self.mlp = nn.Sequential(nn.Linear(WIDTH, 16), nn.GELU(), nn.Linear(16, WIDTH))
        self.head = nn.Linear(WIDTH, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], 1) + self.positions
        y = self.norm1(x)
        x = x + self.attention(y, y, y, need_weights=False)[0]
        return self.head(self.norm(x + self.mlp(self.norm2(x)))[:, 0])


class Decoder(nn.Module):
    """Two queries look at one another, the second at both, and then at all tokens."""

    mask: Tensor

    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerDecoderLayer(WIDTH, 2, 12, batch_first=True)
        self.decoder = nn.TransformerDecoder(layer, 1)
        self.register_buffer("mask", nn.Transformer.generate_square_subsequent_mask(2))

    def forward(self, x: Tensor) -> Tensor:
        return self.decoder(x[:, :2], x, tgt_mask=self.mask)


class Heads(nn.Module):
    """Heads that share keys and values, or that have two dimensions."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.heads = {"grouped": 2, "one for all": 1, "two dimensions": 4}[kind]
        self.q = nn.Linear(WIDTH, WIDTH)
        self.kv = nn.Linear(WIDTH, 2 * 2 * self.heads)

    def forward(self, x: Tensor) -> Tensor:
        q = self.q(x).unflatten(-1, (4, 2)).transpose(1, 2)
        k, v = self.kv(x).chunk(2, -1)
        k, v = (part.unflatten(-1, (self.heads, 2)).transpose(1, 2) for part in (k, v))
        if self.kind == "two dimensions":
            q, k, v = (part.unflatten(1, (2, 2)) for part in (q, k, v))
        return F.scaled_dot_product_attention(q, k, v, enable_gqa=self.kind == "grouped")
