"""The modules of benchmarks/cuda are found as its programs find them."""

from __future__ import annotations

import sys
from pathlib import Path

BENCHMARKS = Path(__file__).resolve().parents[3] / "benchmarks"
for folder in ("ops", ".", "cuda"):
    path = str((BENCHMARKS / folder).resolve())
    if path not in sys.path:
        sys.path.insert(0, path)
