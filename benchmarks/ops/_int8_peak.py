"""The machine's int8 peak, measured by `int8_peak.cpp`: the roofline of the crossbar kernels."""

from __future__ import annotations

import ctypes
import os
import subprocess
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent


class Int8Peak:
    """The machine's int8 multiply-adds on registers alone; a call runs some on one thread.

    Other threads are taken to be as fast: measured together they would meet the threads of torch, which spin for a
    while after their work.

    Args:
        threads: threads to count.
    """

    def __init__(self, threads: int) -> None:
        from cimq import _C

        self._threads = threads
        self._isa = _C.isa_chosen().encode()
        self._run = _library().cimq_int8_peak_products
        self._run.argtypes = [ctypes.c_char_p]
        self._run.restype = ctypes.c_double
        self._products = 0.0

    def __call__(self) -> None:
        """Runs a fraction of a millisecond of multiply-adds."""
        self._products = self._run(self._isa)

    def rate(self, seconds: float) -> float:
        """Multiply-adds per second of all threads, from the seconds of a call."""
        return self._threads * self._products / seconds


def _library() -> ctypes.CDLL:
    """`int8_peak.cpp`, compiled with the compiler of the machine ($CXX, else c++): cimq itself has no use for it."""
    with tempfile.TemporaryDirectory() as folder:
        library = Path(folder) / "int8_peak.so"
        compiler = os.environ.get("CXX", "c++")
        options = ["-std=c++20", "-O3", "-shared", "-fPIC", f"-I{HERE.parents[1] / 'csrc'}"]
        subprocess.run([compiler, *options, str(HERE / "int8_peak.cpp"), "-o", str(library)], check=True)
        return ctypes.CDLL(str(library))
