"""Models on a device under settings of torch that users have, and that ask more of what cimq does."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from devices import each_device
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

import cimq

from device_network import LOSSY, NOISY, batches, on, sequential  # isort: skip

ATEN = torch.ops.aten
LEARNED = LOSSY.replace(adc={"bits": 5, "range": "learned"})


@pytest.fixture(params=each_device())
def device(request: pytest.FixtureRequest) -> torch.device:
    return torch.device(str(request.param))


class RefusingAsCuda(TorchDispatchMode):
    """Refuses on every device but the CPU what CUDA does not have as a deterministic algorithm, as far as a model's
    calibration could need it (torch.use_deterministic_algorithms): the emulated device itself refuses nothing.
    """

    REFUSED = (ATEN.cumsum, ATEN.kthvalue, ATEN.histc, ATEN.median, ATEN.nanmedian, ATEN.put, ATEN.put_, ATEN.cumprod)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.overloadpacket in self.REFUSED and args[0].device.type != "cpu" and args[0].is_floating_point():
            raise RuntimeError(f"{func} does not have a deterministic implementation")
        return func(*args, **kwargs or {})


@pytest.fixture
def deterministic(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    torch.use_deterministic_algorithms(True)
    with RefusingAsCuda():
        yield
    torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize("hardware", [LOSSY, NOISY], ids=["lossy", "noisy"])
def test_calibration_needs_deterministic_algorithms_alone(
    device: torch.device, hardware: cimq.Hardware, deterministic: None
) -> None:
    models = []
    for where in (device, torch.device("cpu")):
        q = cimq.prepare(on(where, sequential()), cimq.Policy.uniform(4, 4), hardware)
        cimq.calibrate(q, batches())
        models.append(q)
    if device.type == "cuda":
        return  # nothing raised; cuDNN's sums may put a value on another step (test_device_models.py compares scales)
    for name, value in models[1].state_dict().items():
        torch.testing.assert_close(models[0].state_dict()[name].cpu(), value, rtol=1e-6, atol=1e-7)


def test_what_stands_for_cuda_refuses(device: torch.device, deterministic: None) -> None:
    """The control of the test above."""
    values = torch.ones(3, device=device)
    if device.type == "cpu":
        assert values.cumsum(0)[2] == 3
        return
    with pytest.raises(RuntimeError, match="does not have a deterministic implementation"):
        values.cumsum(0)


@pytest.fixture
def swapping() -> Iterator[None]:
    """Tensors of modules are swapped where they are moved or read."""
    before = torch.__future__.get_swap_module_params_on_conversion()
    torch.__future__.set_swap_module_params_on_conversion(True)
    yield
    torch.__future__.set_swap_module_params_on_conversion(before)


@pytest.mark.parametrize("hardware", [LOSSY, NOISY, LEARNED], ids=["lossy", "noisy", "learned"])
@pytest.mark.parametrize("converted", [False, True])
def test_models_whose_tensors_are_swapped_are_moved_and_read(
    device: torch.device, hardware: cimq.Hardware, converted: bool, swapping: None
) -> None:
    def calibrated(count: int) -> nn.Module:
        q = cimq.prepare(sequential(), cimq.Policy.uniform(4, 4), hardware)
        cimq.calibrate(q, batches(count))
        return cimq.convert(q) if converted else q.eval()

    x = batches()[0][0]
    model, other = calibrated(1), calibrated(4)
    with torch.no_grad():
        before, after = model(x), other(x)
        assert not torch.equal(before, after)
        model.to(device)
        assert torch.equal(model(x.to(device)).cpu(), before)  # ranges have copies on the host now
        model.load_state_dict(copy.deepcopy(other.state_dict()))
        assert torch.equal(model(x.to(device)).cpu(), after)
        assert torch.equal(model.to("cpu")(x), after)
        assert torch.equal(model.to(device)(x.to(device)).cpu(), after)
