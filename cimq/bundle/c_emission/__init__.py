"""A bundle as C against the interface of analog-cim-sim (docs/emit_c.md).

What is where: `sources/` has the C that every network shares, `simulator` says how the machine is described to the
simulator, `calls` writes the call of a node, `values` and `weights` say where values and tensors lie, `source_text`
writes literals, `network_source` puts network.c together, `emitter` reads the bundle and writes the folder.
"""

from __future__ import annotations

from cimq.bundle.c_emission.emitter import emit_c

__all__ = ["emit_c"]
