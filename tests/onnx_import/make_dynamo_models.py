"""Writes data/dynamo_*.onnx: networks that torch.onnx exports by torch.export (dynamo=True, the default of torch 2.13).

pip install onnxscript==0.7.2 onnx-ir==1.1.0    # beside cimq's environment; the files are kept, so that tests need none
python tests/onnx_import/make_dynamo_models.py
"""

from __future__ import annotations

import sys
from pathlib import Path

import onnx
import torch
from onnxruntime import quantization as ort
from torch import nn

sys.path.insert(0, str(Path(__file__).parent))
from foreign_models import DATA, Calibration, FakeQuantised, Transformer, images, seeded


def export(model: nn.Module, path: Path, *, batch: int | None = None) -> Path:
    """With a batch of that size, or of any."""
    shapes = {"x": {0: torch.export.Dim("batch", min=2, max=64)}} if batch is None else None
    x = torch.from_numpy(images(batch or 2))
    torch.onnx.export(
        seeded(model), (x,), str(path), dynamo=True, input_names=["x"], dynamic_shapes=shapes, external_data=False
    )
    without_paths(path)
    return path


def without_paths(path: Path) -> None:
    """Leaves out what the exporter notes of the script: its folder and the lines of every operation."""
    model = onnx.load(path)
    graph = model.graph
    for part in (model, graph, *graph.node, *graph.value_info, *graph.input, *graph.output, *graph.initializer):
        del part.metadata_props[:]
        part.doc_string = ""
    onnx.save(model, path)


if __name__ == "__main__":
    export(FakeQuantised(-128, 127, signed=True), DATA / "dynamo_fake_quantised.onnx", batch=1)
    source = export(Transformer(), DATA / "transformer.onnx")
    ort.quantize_static(
        str(source),
        str(DATA / "dynamo_transformer.onnx"),
        Calibration(),
        quant_format=ort.QuantFormat.QDQ,
        activation_type=ort.QuantType.QUInt8,
        weight_type=ort.QuantType.QInt8,
    )
    without_paths(DATA / "dynamo_transformer.onnx")
    source.unlink()
