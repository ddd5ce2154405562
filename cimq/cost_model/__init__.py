"""What a network costs on a crossbar machine, from shapes, bits and a hardware description.

`shapes` (imports nothing) <- `closed_form` <- `policy_table`, `component_energy`; `machine_parts` has what the machine
itself takes; `sources` has `cimq.latency` and `cimq.energy`, which also take models, bundles and ONNX files and
therefore stand above `cimq.quantization` and `cimq.bundle`, where the others stand below them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cimq.cost_model.closed_form import LatencyReport, LayerLatency, cost_table
from cimq.cost_model.machine_parts import MachineParts, busy_power, machine_area
from cimq.cost_model.shapes import LayerShape

if TYPE_CHECKING:
    from cimq.cost_model.sources import latency as latency

__all__ = [
    "LatencyReport",
    "LayerLatency",
    "LayerShape",
    "MachineParts",
    "busy_power",
    "cost_table",
    "latency",
    "machine_area",
]


def __getattr__(name: str) -> Any:
    if name == "latency":  # on demand, as `cimq` itself does: its module imports cimq.bundle
        from cimq.cost_model.sources import latency

        return latency
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
