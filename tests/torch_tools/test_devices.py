"""Devices of models: told by name, seeded alone, refused where there are no kernels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

import cimq
from cimq.quantization import adc_diagnostics, reestimate_bn
from cimq.torch_tools.batches import kept_random_state, to_device
from cimq.torch_tools.devices import autocast, devices_of, rng_state, seed_device, synchronize, without_autocast
from cimq.torch_tools.host_values import note_on_host, on_host


def somewhere(*devices: str) -> nn.Module:
    """A model with one layer on each device, without memory there."""
    model = nn.Sequential(*(nn.Linear(2, 2, bias=False) for _ in devices))
    with FakeTensorMode():
        for layer, device in zip(model, devices, strict=True):
            layer.weight = nn.Parameter(torch.empty(2, 2, device=device))
    return model


def test_devices_are_named_with_their_first_tensor() -> None:
    assert devices_of(nn.Linear(2, 2)) == {torch.device("cpu"): "weight"}
    assert devices_of(nn.Identity()) == {}
    cpu, gpu = torch.device("cpu"), torch.device("cuda:1")
    assert devices_of(somewhere("cpu", "cuda:1")) == {cpu: "0.weight", gpu: "1.weight"}


@pytest.mark.parametrize("kind", ["xpu", "mps"])
def test_devices_without_kernels_are_refused_by_name(kind: str) -> None:
    with pytest.raises(ValueError, match=rf"prepare: 0\.weight is on {kind}:0, for which cimq has no kernels"):
        cimq.prepare(somewhere(kind), inplace=True)


def test_cuda_is_refused_where_the_build_has_none() -> None:
    if cimq.build_info()["cuda"].startswith("on"):
        pytest.skip("this build has CUDA kernels")
    with pytest.raises(ValueError, match=r"0\.weight is on cuda:0, and this build of cimq has no CUDA kernels"):
        cimq.prepare(somewhere("cuda"), inplace=True)


def test_a_model_on_several_devices_is_refused() -> None:
    with pytest.raises(ValueError, match=r"on one device, got 0\.weight on cpu and 1\.weight on cuda:0"):
        cimq.prepare(somewhere("cpu", "cuda:0"), inplace=True)


def test_one_that_was_torn_apart_is_refused_by_all_that_run_it(tmp_path: Any) -> None:
    x = torch.rand(4, 2)
    net = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2), nn.Linear(2, 2))
    q = cimq.prepare(net, cimq.Policy.uniform(4, 4), cimq.Hardware.preset("paper").replace(adc={"bits": 6}))
    cimq.calibrate(q, [x])
    q[2].to("meta")
    uses: dict[str, Callable[[], Any]] = {
        "calibrate": lambda: cimq.calibrate(q, [x]),
        "convert": lambda: cimq.convert(q),
        "export": lambda: cimq.export(q, tmp_path / "net.cimq", x),
        "finetune": lambda: cimq.finetune(q, [(x, torch.arange(4) % 2)], epochs=1),
        "evaluate": lambda: cimq.evaluate(q, [(x, torch.arange(4) % 2)]),
        "reestimate_bn": lambda: reestimate_bn(q, [x]),
        "doctor": lambda: cimq.doctor(q, [x]),
        "adc_diagnostics": lambda: adc_diagnostics(q, [x]),
    }
    for name, use in uses.items():
        with pytest.raises(ValueError, match=rf"^{name}: 2\.weight is on the meta device"):
            use()


def test_only_the_models_own_device_is_seeded(monkeypatch: pytest.MonkeyPatch) -> None:
    """`torch.manual_seed` would seed the generators of all devices."""
    seeded: list[int] = []
    monkeypatch.setattr(torch, "manual_seed", seeded.append)
    monkeypatch.setattr(torch.cuda, "manual_seed_all", seeded.append)
    with kept_random_state(nn.Linear(2, 2), seed=4):
        first = torch.rand(3)
    with kept_random_state(nn.Linear(2, 2), seed=4):
        assert torch.equal(torch.rand(3), first)
    assert not seeded


def test_the_cpu_needs_no_module_of_its_own() -> None:
    cpu = torch.device("cpu")
    synchronize(cpu)
    seed_device(cpu, 3)
    assert rng_state(cpu) is None


def test_autocast_is_entered_where_it_is_asked_for() -> None:
    cpu, x = torch.device("cpu"), torch.rand(2, 2)
    with autocast(cpu, None):
        assert (x @ x).dtype == torch.float32
    with autocast(cpu, torch.bfloat16):
        assert (x @ x).dtype == torch.bfloat16
        with without_autocast(cpu):
            assert (x @ x).dtype == torch.float32


def test_nothing_is_copied_to_the_cpu_without_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch would return before the values are there."""
    asked: list[Any] = []

    def to(self: torch.Tensor, device: Any, non_blocking: bool = False) -> torch.Tensor:
        asked.append((device.type, non_blocking))
        return self

    monkeypatch.setattr(torch.Tensor, "to", to)
    to_device([torch.zeros(1)], torch.device("cpu"))
    to_device([torch.zeros(1)], torch.device("cuda"))
    assert asked == [("cpu", False), ("cuda", True)]


def test_values_on_the_cpu_are_the_tensor_itself() -> None:
    x = torch.zeros(3)
    held = on_host(x)
    note_on_host(x, torch.ones(3))  # nothing to note: there is no copy
    x.data += 2
    assert torch.equal(held, x)
    assert torch.equal(on_host(x), x)
