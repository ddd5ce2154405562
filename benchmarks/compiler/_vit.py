"""Vision transformers of torchvision's shapes at 224 x 224, as the compiler sees what `cimq.export` makes of them."""

from __future__ import annotations

from _builder import Bits, Builder

from cimq.bundle.network import Network

WIDTH = 768
HEADS = 12
DEPTH = 12
MLP = 3072


def _attention(builder: Builder, name: str, source: str) -> str:
    tokens = builder.shapes[source][0]
    all_three = builder.linear(f"{name}.in_proj", source, 3 * WIDTH)
    parts = []
    for index, part in enumerate("qkv"):
        span = {"start": [0, index * WIDTH], "stop": [tokens, (index + 1) * WIDTH], "step": [1, 1]}
        rows = builder.operation(f"{name}.{part}", "slice", (all_three,), (tokens, WIDTH), **span)
        split = builder.operation(f"{name}.{part}.split", "reshape", (rows,), (tokens, HEADS, WIDTH // HEADS))
        shape = (HEADS, tokens, WIDTH // HEADS)
        parts.append(builder.operation(f"{name}.{part}.heads", "transpose", (split,), shape, perm=[1, 0, 2]))
    q, k, v = parts
    weights = builder.operation(f"{name}.softmax", "softmax", (builder.product(f"{name}.qk", q, k),), dim=2)
    turned = builder.operation(f"{name}.v_t", "transpose", (v,), (HEADS, WIDTH // HEADS, tokens), perm=[0, 2, 1])
    out = builder.product(f"{name}.av", weights, turned)
    joined = builder.operation(f"{name}.rows", "transpose", (out,), (tokens, HEADS, WIDTH // HEADS), perm=[1, 0, 2])
    return builder.linear(
        f"{name}.out_proj", builder.operation(f"{name}.joined", "reshape", (joined,), (tokens, WIDTH)), WIDTH
    )


def vit_b(bits: Bits | tuple[int, int], patch: int = 32) -> Network:
    """ViT-B with patches of `patch` x `patch`, with the bits of its 74 layers, or one pair for all."""
    builder = Builder(bits, (3, 224, 224))
    patches = builder.conv("conv_proj", "x", WIDTH, patch, patch, 0)
    count = builder.shapes[patches][1] ** 2
    flat = builder.operation("flat", "reshape", (patches,), (WIDTH, count))
    rows = builder.operation("rows", "transpose", (flat,), (count, WIDTH), perm=[1, 0])
    last = builder.operation(
        "tokens", "cat", (builder.constant("class_token", (1, WIDTH)), rows), (count + 1, WIDTH), dim=0
    )
    last = builder.operation("placed", "add", (last, builder.constant("positions", (count + 1, WIDTH))))
    for block in range(DEPTH):
        name = f"block{block}"
        norm = builder.operation(f"{name}.ln1", "layer_norm", (last,), dims=1, eps=1e-6)
        last = builder.operation(f"{name}.sum1", "add", (_attention(builder, name, norm), last))
        norm = builder.operation(f"{name}.ln2", "layer_norm", (last,), dims=1, eps=1e-6)
        hidden = builder.operation(f"{name}.gelu", "gelu", (builder.linear(f"{name}.mlp0", norm, MLP),))
        last = builder.operation(f"{name}.sum2", "add", (last, builder.linear(f"{name}.mlp3", hidden, WIDTH)))
    norm = builder.operation("ln", "layer_norm", (last,), dims=1, eps=1e-6)
    span = {"start": [0, 0], "stop": [1, WIDTH], "step": [1, 1]}
    first = builder.operation("first", "slice", (norm,), (1, WIDTH), **span)
    builder.linear("head", builder.operation("class", "reshape", (first,), (WIDTH,)), 1000)
    return builder.network()
