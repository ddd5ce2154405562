"""Deployment bundles: one folder that holds everything from the policy to the program (docs/bundle.md).

    bundle = cimq.export(model, "net.cimq", sample_input=x)   # prepared or converted model -> folder
    bundle = cimq.load_bundle("net.cimq")                     # verified; executed in C++
    y = bundle.run(x)
    program = cimq.compile("net.cimq")                        # program.jsonl, tiles and latency
    cimq.emit_c("net.cimq", "net_c")                          # C that runs on analog-cim-sim; docs/emit_c.md
    net = cimq.load_onnx("net.onnx")                          # a quantised model of another tool; docs/onnx.md

What is where: `network` is the network as layers.json describes it, `fx_reader` makes one from a converted model,
operation by operation (`operations` has a row for each), `onnx_model` and `onnx_check` write and check model.onnx,
`onnx_import` makes a network of an ONNX file, `contents` and `folder` write files, manifests, hashes and zips,
`exporter`, `loader`, `programs`, `onnx_loader` and `c_emission` have the functions above.
"""

from __future__ import annotations

from cimq.bundle.c_emission import emit_c
from cimq.bundle.exporter import export
from cimq.bundle.loader import Bundle, CheckEntry, CheckReport, load_bundle
from cimq.bundle.onnx_loader import load_onnx
from cimq.bundle.programs import CompiledLayer, CompiledProgram, Tile, compile

__all__ = [
    "Bundle",
    "CheckEntry",
    "CheckReport",
    "CompiledLayer",
    "CompiledProgram",
    "Tile",
    "compile",
    "emit_c",
    "export",
    "load_bundle",
    "load_onnx",
]
