"""Operators: LSQ fake quantisation, crossbar products, and the float32 layers that executor and PyTorch share.

Each function wraps `torch.ops.cimq.<name>` (a registered operator with schema, fake kernel and autograd) and holds its
documentation. The numbers are defined in docs/numbers.md.
"""

from __future__ import annotations

from cimq.ops import _fake as _fake  # registers the fake kernels
from cimq.ops.quantize import fake_quantize, quantize

__all__ = ["fake_quantize", "quantize"]
