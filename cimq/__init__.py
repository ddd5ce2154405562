"""Mixed-precision quantisation, training and compilation for RRAM compute-in-memory crossbars."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from cimq import _load
from cimq.version import __version__

_load.load()

# Public name -> module that defines it. Imported on first use, so that `import cimq` stays quick.
_PUBLIC = {
    "Hardware": "cimq.hardware",
    "presets": "cimq.hardware",
    "Policy": "cimq.policy",
    "latency": "cimq.cost_model.sources",
    "energy": "cimq.cost_model.sources",
    "CimqWarning": "cimq.errors",
    "prepare": "cimq.quantization",
    "calibrate": "cimq.quantization",
    "set_policy": "cimq.quantization",
    "reestimate_bn": "cimq.quantization",
    "param_groups": "cimq.quantization",
    "convert": "cimq.quantization",
    "finetune": "cimq.training",
    "evaluate": "cimq.training",
    "evaluate_chips": "cimq.training",
    "chip_statistics": "cimq.training",
    "doctor": "cimq.diagnosis",
    "search": "cimq.policy_search",
    "SearchResult": "cimq.policy_search",
    "export": "cimq.bundle",
    "compile": "cimq.bundle",
    "emit_c": "cimq.bundle",
    "load_bundle": "cimq.bundle",
    "load_onnx": "cimq.bundle",
    "build_info": "cimq.build_report",
}

_MODULES = (
    "ops",
    "bundle",
    "cell",
    "cost_model",
    "diagnosis",
    "hardware",
    "policy",
    "policy_search",
    "quantization",
    "report",
    "training",
)

__all__ = ["__version__", *_MODULES, *_PUBLIC]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return import_module(f"cimq.{name}")
    if name not in _PUBLIC:
        raise AttributeError(f"module 'cimq' has no attribute {name!r}")
    value = getattr(import_module(_PUBLIC[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
