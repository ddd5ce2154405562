"""Softmax and normalisations."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from cimq.bundle.onnx_import.building import Operation
from cimq.bundle.onnx_import.values import Array, Known
from cimq.bundle.operations.registry import RefusedError


def softmax(op: Operation) -> Known:
    """Along one dimension."""
    x = op.plain(0)
    dim = op.sample_axis(op.attribute("axis", -1), x)
    return op.emit("log_softmax" if op.node.op_type == "LogSoftmax" else "softmax", [x], x.shape, {"dim": dim})


def _parameter(op: Operation, place: int, count: int) -> Array:
    array = op.floats(place)
    if array.size != count or not np.isfinite(array).all():
        raise RefusedError(f"input {place} must be {count} finite numbers, got the shape {[*array.shape]}")
    return np.asarray(array, np.float32)


def _eps(op: Operation) -> float:
    eps = float(op.attribute("epsilon", 1e-5))
    if not (math.isfinite(eps) and eps >= 0):
        raise RefusedError(f"attribute epsilon must be a number that is not negative, got {eps}")
    return eps


def batch_norm(op: Operation) -> Known:
    """A product and a sum per channel: scale / sqrt(variance + epsilon), computed in float64 and rounded once."""
    op.only("training_mode", 0)
    op.attribute("momentum", 0.9)
    op.attribute("spatial", 1)
    x, eps = op.plain(0), _eps(op)
    if not x.shape:
        raise RefusedError("needs [B, C, ...]")
    scale, bias, mean, variance = (
        _parameter(op, place, x.shape[0]).astype(np.float64).reshape(-1) for place in range(1, 5)
    )
    if variance.min() < 0 or (variance + eps).min() <= 0:
        raise RefusedError("its variances must be positive")
    factor = scale / np.sqrt(variance + eps)
    tensors = {"scale": factor.astype(np.float32), "shift": (bias - mean * factor).astype(np.float32)}
    if not all(np.isfinite(value).all() for value in tensors.values()):
        raise RefusedError("its scale and shift are no finite float32")
    return op.emit("affine", [x], x.shape, tensors=tensors)


def layer_norm(op: Operation) -> Known:
    """Over the last dimensions."""
    op.attribute("stash_type", 1)
    x = op.plain(0)
    first = op.sample_axis(op.attribute("axis", -1), x)
    shape = x.shape[first:]
    tensors: dict[str, Any] = {"weight": _parameter(op, 1, math.prod(shape)).reshape(shape)}
    if op.given(2) is not None:
        tensors["bias"] = _parameter(op, 2, math.prod(shape)).reshape(shape)
    return op.emit("layer_norm", [x], x.shape, {"dims": len(shape), "eps": _eps(op)}, tensors)


def group_norm(op: Operation) -> Known:
    """Scales per channel (since opset 21; the checker refuses the one before)."""
    op.attribute("stash_type", 1)
    x, groups = op.plain(0), op.attribute("num_groups")
    channels = x.shape[0] if x.shape else 0
    if groups < 1 or channels < 1 or channels % groups:
        raise RefusedError(f"attribute num_groups must divide the {channels} channels, got {groups}")
    tensors = {role: _parameter(op, place, channels).reshape(-1) for role, place in (("weight", 1), ("bias", 2))}
    return op.emit("group_norm", [x], x.shape, {"groups": groups, "eps": _eps(op)}, tensors)


def instance_norm(op: Operation) -> Known:
    """A group per channel."""
    x = op.plain(0)
    if len(x.shape) < 2:
        raise RefusedError("needs [B, C, ...]")
    channels = x.shape[0]
    tensors = {"weight": _parameter(op, 1, channels).reshape(-1), "bias": _parameter(op, 2, channels).reshape(-1)}
    return op.emit("group_norm", [x], x.shape, {"groups": channels, "eps": _eps(op)}, tensors)
