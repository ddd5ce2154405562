"""ONNX models of other tools, with QuantizeLinear and DequantizeLinear, as networks of bundles (docs/onnx.md).

What is where: `model_file` reads a file with suspicion, `values` is what stands behind a name, `building` the network
that is made and a node as its handler sees it, `quantise` QuantizeLinear to DequantizeLinear, `layers` what goes to
crossbars, `elementwise`, `normalization`, `pooling` and `shapes` the rest, `folding` what is computed from constants
alone, `table` all operators by name, `reader` the walk over the graph.
"""

from __future__ import annotations

from cimq.bundle.onnx_import.reader import read_onnx

__all__ = ["read_onnx"]
