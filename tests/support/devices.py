"""The devices that tests run on: the CPU, CUDA where there is a GPU, and an emulated device where it was built.

The emulated device (tests/csrc/emulated_device, `torch.device("emulated")`) runs the operators' CUDA glue and kernels
on the CPU. Importing this module loads it: before the first backward, which is when torch counts devices.

    from devices import each_device, runs_kernels

    @pytest.mark.parametrize("device", each_device())
    def test_it(device: str) -> None:
        with runs_kernels(device):
            ...
"""

from __future__ import annotations

import contextlib
import os
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import cimq

CPU, EMULATED, CUDA = "cpu", "emulated", "cuda"
ROOT = Path(__file__).resolve().parents[2]


def library_path() -> Path:
    """Where the build puts the emulated device of this torch and Python; CIMQ_EMULATED_DEVICE names another file."""
    given = os.environ.get("CIMQ_EMULATED_DEVICE")
    if given:
        return Path(given)
    version = torch.__version__.split("+")[0]
    build = ROOT / "build" / f"torch-{version}-cp{sys.version_info.major}{sys.version_info.minor}"
    return build / "tests" / "csrc" / "cimq_emulated_device.so"


def _module() -> types.ModuleType:
    """torch.emulated: what torch looks for in the module of a device."""
    ops = torch.ops.cimq_emulated
    module = types.ModuleType(f"torch.{EMULATED}")

    def index_of(device: Any) -> int:
        index = device if isinstance(device, int) or device is None else torch.device(device).index
        return int(ops.current_device()) if index is None else int(index)

    @contextlib.contextmanager
    def device(device: Any) -> Iterator[None]:
        before = ops.current_device()
        ops.set_device(index_of(device))
        try:
            yield
        finally:
            ops.set_device(before)

    def manual_seed_all(seed: int) -> None:
        for index in range(ops.device_count()):
            ops.seed(index, seed)

    module.is_available = lambda: True
    module.is_initialized = lambda: True
    module._is_in_bad_fork = lambda: False
    module._lazy_init = lambda: None
    module.device_count = lambda: int(ops.device_count())
    module.current_device = lambda: int(ops.current_device())
    module.set_device = lambda device: ops.set_device(index_of(device))
    module.synchronize = lambda device=None: ops.synchronize()
    module.device = device
    module.manual_seed = lambda seed: ops.seed(index_of(None), seed)
    module.manual_seed_all = manual_seed_all
    module.get_rng_state = lambda device=EMULATED: ops.random_state(index_of(device))
    module.set_rng_state = lambda state, device=EMULATED: ops.set_random_state(index_of(device), state)
    module.get_amp_supported_dtype = lambda: [torch.float16, torch.bfloat16]
    module.Stream = torch.Stream
    module.Event = torch.Event
    return module


def _load() -> str:
    """Loads the emulated device. Why there is none, or an empty text."""
    if os.environ.get("CIMQ_EMULATED_DEVICE") == "off":
        return "CIMQ_EMULATED_DEVICE=off"
    path = library_path()
    if not path.exists():
        why = f"the emulated device was not built: there is no {path} (make test builds it)"
        if os.environ.get("CIMQ_EMULATED_DEVICE"):
            raise FileNotFoundError(why)
        return why
    torch.ops.load_library(path)
    torch.utils.rename_privateuse1_backend(EMULATED)
    torch._register_device_module(EMULATED, _module())
    torch.utils.generate_methods_for_privateuse1_backend(for_storage=True)
    return ""


WHY_NOT_EMULATED = _load()


def why_not(device: str) -> str:
    """Why a device cannot be used here, or an empty text."""
    kind = device.split(":")[0]
    if kind == EMULATED:
        return WHY_NOT_EMULATED
    if kind == CUDA:
        built = cimq.build_info()["cuda"]
        if not built.startswith("on"):
            return f"cimq was built without CUDA: {built}"
        return "" if torch.cuda.is_available() else "torch finds no CUDA device"
    return ""


def needs(device: str) -> list[pytest.MarkDecorator]:
    """Marks of a test that needs a device: it is skipped, with the reason, where there is none."""
    why = why_not(device)
    marks = [pytest.mark.skipif(bool(why), reason=why)]
    return [*marks, pytest.mark.cuda] if device.startswith(CUDA) else marks


def each_device(*names: str) -> list[Any]:
    """Values for `pytest.mark.parametrize("device", ...)`: the CPU, the emulated device and CUDA, or those named."""
    return [pytest.param(name, marks=needs(name)) for name in names or (CPU, EMULATED, CUDA)]


def launched() -> list[str]:
    """Names of the kernels that the emulated device has run since `forget_launches`, in order."""
    return list(torch.ops.cimq_emulated.launched())


@contextlib.contextmanager
def runs_kernels(device: str, *names: str) -> Iterator[None]:
    """Inside, kernels of cimq must run on `device`, those of `names` among them.

    Shown by the emulated device alone, where an operator that went to the CPU would launch none. What its kernels did
    to memory that is not theirs fails here, too.
    """
    if not device.startswith(EMULATED):
        yield
        return
    torch.ops.cimq_emulated.forget_launches()
    yield
    found = launched()
    assert found, f"no kernel ran on {device}"
    assert set(names) <= set(found), f"of {names} ran {found}"
    torch.ops.cimq_emulated.check_memory()


@contextlib.contextmanager
def no_kernels(device: str) -> Iterator[None]:
    """Inside, no kernel of cimq may run on `device` (shown by the emulated one)."""
    if device.startswith(EMULATED):
        torch.ops.cimq_emulated.forget_launches()
    yield
    if device.startswith(EMULATED):
        assert not launched()


@contextlib.contextmanager
def captured(device: str) -> Iterator[None]:
    """Inside, a graph is captured, so that whatever waits for the device is an error (shown by the emulated one)."""
    if not device.startswith(EMULATED):
        yield
        return
    torch.ops.cimq_emulated.set_capturing(True)
    try:
        yield
    finally:
        torch.ops.cimq_emulated.set_capturing(False)


def opchecks(device: str) -> tuple[str, ...]:
    """What `torch.library.opcheck` is to check: how autograd is registered it can tell of torch's own devices alone."""
    checks = ("test_schema", "test_faketensor", "test_aot_dispatch_dynamic")
    return checks if device.startswith(EMULATED) else ("test_autograd_registration", *checks)
