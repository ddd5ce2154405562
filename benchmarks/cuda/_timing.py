"""Time of calls on a device, and what the device reaches in plain copies and products in the same run."""

from __future__ import annotations

import shutil
import statistics
import subprocess
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

WARM_UP = 3
FEWEST, MOST = 7, 100
SECONDS_EACH = 0.5  # of device time for one number
FLUSHED = 512 << 20  # bytes; more than any second-level cache, and long enough that the next call is queued meanwhile


@dataclass(frozen=True)
class Timing:
    """Seconds of one call."""

    median: float
    least: float
    calls: int

    def __post_init__(self) -> None:
        if not self.median > 0:
            raise ValueError(f"a call took {self.median} s: the clock does not tell")


Timer = Callable[[Callable[[], object]], Timing]


def summary(seconds: list[float]) -> Timing:
    return Timing(statistics.median(seconds), min(seconds), len(seconds))


def calls_for(once: float) -> int:
    return max(FEWEST, min(MOST, round(SECONDS_EACH / max(once, 1e-9))))


class CudaTimer:
    """Events around single calls. Before each a large buffer is written, so that no operand is in a cache and the call
    is queued by the time the device comes to it: what is measured is the device, unless the call itself waits for it.
    """

    def __init__(self, device: torch.device) -> None:
        self._flush = torch.empty(FLUSHED, dtype=torch.uint8, device=device)

    def _once(self, function: Callable[[], object]) -> tuple[Any, Any]:
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        self._flush.zero_()
        start.record()
        function()
        end.record()
        return start, end

    def __call__(self, function: Callable[[], object]) -> Timing:
        for _ in range(WARM_UP):
            function()
        start, end = self._once(function)
        torch.cuda.synchronize()
        seconds = []
        for _ in range(calls_for(start.elapsed_time(end) / 1e3)):
            start, end = self._once(function)
            end.synchronize()
            seconds.append(start.elapsed_time(end) / 1e3)
        return summary(seconds)


class HostTimer:
    """Wall-clock time, for devices without events: to try this program where there is no GPU."""

    def __call__(self, function: Callable[[], object]) -> Timing:
        function()
        seconds = []
        for _ in range(FEWEST):
            start = time.perf_counter()
            function()
            seconds.append(time.perf_counter() - start)
        return summary(seconds)


def timer_for(device: torch.device) -> Timer:
    return CudaTimer(device) if device.type == "cuda" else HostTimer()


@dataclass(frozen=True)
class Peaks:
    """Rates per second that the device reached: bytes read and written by a copy; operations of plain products."""

    bytes: float
    int8: float
    float32: float
    float64: float

    def rates(self) -> dict[str, float]:
        """Operations per second by kind. Products and sums of floats are not contracted in cimq, while the library's
        are: half of its rate is what they can reach."""
        return {"int8": self.int8, "float32": self.float32 / 2, "float64": self.float64 / 2}


def product_operands(rows: int, inner: int, columns: int, dtype: torch.dtype, device: torch.device) -> list[Tensor]:
    """Random matrices, the second one in both orders of memory: libraries prefer one or the other."""
    generator = torch.Generator().manual_seed(0)

    def matrix(*shape: int) -> Tensor:
        if dtype is torch.int8:
            return torch.randint(-127, 128, shape, generator=generator, dtype=torch.int8).to(device)
        return torch.randn(shape, generator=generator).to(dtype).to(device)

    b = matrix(inner, columns)
    return [matrix(rows, inner), b, b.t().contiguous().t()]


def best_product(timer: Timer, rows: int, inner: int, columns: int, dtype: torch.dtype, device: torch.device) -> Timing:
    """A plain product of the library (int8 into int32), with the better order of its second matrix.

    Libraries may not have one of them; an error of both is raised.
    """
    a, *orders = product_operands(rows, inner, columns, dtype, device)
    multiply = torch._int_mm if dtype is torch.int8 else torch.mm
    found, errors = [], []
    for b in orders:
        try:
            found.append(timer(lambda b=b: multiply(a, b)))  # type: ignore[misc]
        except RuntimeError as error:
            errors.append(error)
    if not found:
        raise errors[0]
    return min(found, key=lambda timing: timing.median)


def measured_peaks(timer: Timer, device: torch.device, *, small: bool = False) -> Peaks:
    """The roofline of this device, in this run."""
    copied = (1 << 20) if small else (1 << 30)
    sizes = {torch.int8: 8192, torch.float32: 8192, torch.float64: 4096}
    source = torch.ones(copied, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    rates = [2 * copied / timer(lambda: target.copy_(source)).median]
    # The library may compute float32 with shorter mantissas: not here.
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = False
    try:
        for dtype, full in sizes.items():
            size = 128 if small else full
            rates.append(2 * size**3 / best_product(timer, size, size, size, dtype, device).median)
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before
    return Peaks(*rates)


def peaks_dict(peaks: Peaks) -> dict[str, float]:
    return asdict(peaks)


def read_driver(query: str) -> str:
    """What the driver says of the first device, or why that is not known. Nothing is set."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return "not known: no nvidia-smi"
    command = [tool, f"--query-gpu={query}", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    except subprocess.TimeoutExpired:
        return "not known: nvidia-smi did not answer"
    lines = done.stdout.strip().splitlines()
    return lines[0] if done.returncode == 0 and lines else "not known: nvidia-smi failed"


CLOCKS = "clocks.sm,clocks.mem,clocks.max.sm,temperature.gpu,power.draw"


def clocks() -> str:
    """Clocks, temperature and power as they are now."""
    return read_driver(CLOCKS)
