"""Settings of PyTorch that results depend on, and how another process gets the same."""

from __future__ import annotations

import contextlib
import warnings
from typing import NamedTuple

import torch


class TorchSettings(NamedTuple):
    """What is set for a whole process (`flush_denormal`: for a thread, and those that it starts).

    Attributes:
        default_dtype: Of floats.
        deterministic: Whether algorithms must be deterministic.
        warn_only: Whether others give a warning only.
        flush_denormal: Whether the CPU takes denormal numbers as 0.
        matmul_precision: Of float32 products; None where it was set backend by backend, which has no one name.
        cudnn_deterministic: Whether cuDNN must be deterministic.
        cudnn_benchmark: Whether cuDNN tries algorithms.
        cudnn_tf32: Whether its convolutions of float32 round their operands to 10 bits.
    """

    default_dtype: torch.dtype
    deterministic: bool
    warn_only: bool
    flush_denormal: bool
    matmul_precision: str | None
    cudnn_deterministic: bool
    cudnn_benchmark: bool
    cudnn_tf32: bool | None

    @classmethod
    def here(cls) -> TorchSettings:
        """Those of this thread and process."""
        precision = None
        # Some versions warn of the call, as of an older way to say it; what is read here is only handed on.
        with contextlib.suppress(RuntimeError), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            precision = torch.get_float32_matmul_precision()
        tf32 = None
        with contextlib.suppress(RuntimeError), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tf32 = torch.backends.cudnn.allow_tf32
        least = torch.full((1,), torch.finfo(torch.float64).tiny, dtype=torch.float64)
        return cls(
            torch.get_default_dtype(),
            torch.are_deterministic_algorithms_enabled(),
            torch.is_deterministic_algorithms_warn_only_enabled(),
            float(least / 2) == 0.0,
            precision,
            torch.backends.cudnn.deterministic,
            torch.backends.cudnn.benchmark,
            tf32,
        )

    def apply(self) -> None:
        """Sets them here."""
        torch.set_default_dtype(self.default_dtype)
        torch.use_deterministic_algorithms(self.deterministic, warn_only=self.warn_only)
        torch.set_flush_denormal(self.flush_denormal)
        if self.matmul_precision is not None:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                torch.set_float32_matmul_precision(self.matmul_precision)
        torch.backends.cudnn.deterministic = self.cudnn_deterministic
        torch.backends.cudnn.benchmark = self.cudnn_benchmark
        if self.cudnn_tf32 is not None:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                torch.backends.cudnn.allow_tf32 = self.cudnn_tf32
