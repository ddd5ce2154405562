"""Cases of fake_quantize and quantize, and what they must give in plain PyTorch."""

from __future__ import annotations

import math
from typing import Any

import torch
from hypothesis import strategies as st
from torch import Tensor


def shaped(scale: Tensor, x: Tensor, axis: int | None) -> Tensor:
    if axis is None:
        return scale.reshape([])
    shape = [1] * x.dim()
    shape[axis] = -1
    return scale.reshape(shape)


def reference_forward(x: Tensor, scale: Tensor, qmin: int, qmax: int, axis: int | None, binary: bool) -> Tensor:
    s = shaped(scale, x, axis)
    if binary:
        return torch.where(x >= 0, s, -s)
    return torch.round(x / s).clamp(qmin, qmax) * s


def reference_backward(
    grad: Tensor, x: Tensor, scale: Tensor, qmin: int, qmax: int, axis: int | None, binary: bool, factor: float | None
) -> tuple[Tensor, Tensor]:
    s = shaped(scale, x, axis)
    u = x / s
    inside = (u >= qmin) & (u <= qmax)
    if binary:
        per_value = torch.where(x >= 0, 1.0, -1.0).to(x.dtype)
    else:
        outside = torch.where(u < qmin, float(qmin), float(qmax)).to(x.dtype)
        per_value = torch.where(inside, torch.round(u) - u, outside)
    term = (grad * per_value).double()
    if axis is None:
        total, count = term.sum(), x.numel()
    else:
        total = term.movedim(axis, 0).reshape(x.shape[axis], -1).sum(1)
        count = x.numel() // x.shape[axis]
    factor = 1 / math.sqrt(count * qmax) if factor is None else factor
    return grad * inside, (total * factor).to(scale.dtype).reshape(scale.shape)


@st.composite
def quantizer_cases(draw: st.DrawFn) -> dict[str, object]:
    shape = draw(st.lists(st.integers(1, 7), min_size=1, max_size=4))
    bits = draw(st.integers(1, 8))
    signed = draw(st.booleans())
    binary = signed and bits == 1
    if binary:
        qmin, qmax = -1, 1
    elif signed:
        qmin, qmax = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    else:
        qmin, qmax = 0, 2**bits - 1
    return {
        "shape": shape,
        "qmin": qmin,
        "qmax": max(qmax, 1),
        "binary": binary,
        "axis": draw(st.one_of(st.none(), st.integers(-len(shape), len(shape) - 1))),
        "dtype": draw(st.sampled_from([torch.float32, torch.float64])),
        "seed": draw(st.integers(0, 2**31)),
        "factor": draw(st.one_of(st.none(), st.just(1.0))),
        "permuted": draw(st.booleans()),
    }


def values(case: dict[str, Any], spread: float = 3) -> tuple[Tensor, Tensor, Tensor]:
    """x, scale and grad of a case on the CPU, with values on ties and on the bounds, where the conventions show."""
    generator = torch.Generator().manual_seed(case["seed"])
    x = torch.randn(case["shape"], generator=generator, dtype=case["dtype"]) * spread
    if case["permuted"]:
        x = x.transpose(0, -1).contiguous().transpose(0, -1)
    axis = case["axis"]
    channels = [] if axis is None else [x.shape[axis]]
    scale = torch.rand(channels, generator=generator, dtype=case["dtype"]) + 0.05
    flat = x.reshape(-1)
    if axis is None and len(flat):
        flat[0] = scale * (case["qmax"] + 0.5)
        flat[-1] = scale * case["qmin"]
        x = flat.reshape(x.shape)
    return x, scale, torch.randn(x.shape, generator=generator, dtype=case["dtype"])
