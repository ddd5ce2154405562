"""Layers as the matrices that crossbars hold. Imports nothing of cimq."""

from __future__ import annotations

import dataclasses
import numbers

# Of a product of two values, one of which crossbars hold.
MATMUL = "matmul"
_KINDS = {"crossbar_conv2d": "conv2d", "crossbar_matmul": MATMUL}
_SIZES = ("outputs", "inputs", "invocations", "repeats")


@dataclasses.dataclass(frozen=True)
class LayerShape:
    """A quantisable layer as the matrix that its crossbars hold.

    Attributes:
        name: Layer name in the model.
        kind: What it is, e.g. "conv2d" or "linear"; shown in reports.
        outputs: Outputs m of the matrix (of one group).
        inputs: Inputs n of the matrix, C_in*k_h*k_w for a convolution (of one group).
        invocations: Input vectors per inference: OH*OW, tokens, or 1.
        repeats: Matrices of this shape: groups, attention heads.

    Raises:
        ValueError: If a size is no positive integer; names the layer and the key.
    """

    name: str
    kind: str
    outputs: int
    inputs: int
    invocations: int
    repeats: int = 1

    def __post_init__(self) -> None:
        for key in _SIZES:
            value = getattr(self, key)
            if isinstance(value, bool) or not isinstance(value, numbers.Integral):
                raise ValueError(f"layer {self.name!r}: {key} must be a positive integer, got {value!r}")
            if not 1 <= int(value) < 2**63:
                raise ValueError(f"layer {self.name!r}: {key} must be an integer from 1 to 2^63 - 1, got {value}")
            object.__setattr__(self, key, int(value))


def kind_of(op: str) -> str:
    """The kind of a crossbar layer in a bundle, by its operation in layers.json: as in the model it is of."""
    return _KINDS.get(op, "linear")
