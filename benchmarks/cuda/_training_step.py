"""Time of a training step of ResNet-18 with quantisation, beside the fp32 step of the same network."""

from __future__ import annotations

import copy
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from _resnet18_model import resnet18
from torch import Tensor, nn

import cimq

WARM_UP, ROUNDS = 5, 15
BITS = (4, 4)


def quantised(model: nn.Module, images: Tensor) -> nn.Module:
    """4 bits in every layer but the first and the last, on the machine that loses nothing."""
    network = cimq.prepare(model)
    names = [name for name, _ in cimq.quantization.quant_layers(network)]
    cimq.set_policy(network, cimq.Policy.uniform(*BITS).bind(names, first_last_bits=8))
    cimq.calibrate(network, [images])
    return network.train()


def step_of(network: nn.Module, images: Tensor, labels: Tensor, *, compiled: bool) -> Callable[[], Tensor]:
    """Forward, backward and SGD with momentum; returns the loss, which is not waited for."""
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9)
    forward = torch.compile(network) if compiled else network

    def step() -> Tensor:
        optimizer.zero_grad()
        with torch.enable_grad():
            loss = F.cross_entropy(forward(images), labels)
            loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        return loss.detach()

    return step


def milliseconds(step: Callable[[], Tensor], device: torch.device) -> float:
    """One step, from an idle device to an idle device."""
    _wait(device)
    start = time.perf_counter()
    step()
    _wait(device)
    return 1e3 * (time.perf_counter() - start)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def measured(device: torch.device, *, compiled: bool, small: bool = False) -> dict[str, Any]:
    """The quantised step (compiled or not) and the eager fp32 step, in turn; median of the ratios of the rounds."""
    batch, side = (2, 32) if small else (64, 224)
    rounds = 3 if small else ROUNDS
    torch.manual_seed(0)
    model = resnet18().to(device)
    images, labels = torch.randn(batch, 3, side, side).to(device), torch.randint(1000, (batch,)).to(device)
    plain = step_of(copy.deepcopy(model).train(), images, labels, compiled=False)
    network = quantised(model, images)
    ours = step_of(network, images, labels, compiled=compiled)
    for step in (plain, ours):
        for _ in range(1 if small else WARM_UP):
            loss = step()
        if not torch.isfinite(loss.cpu()):
            return {"faults": [f"the loss of a step is {loss.item()}"]}
    still = [key for key, value in network.named_parameters() if value.grad is None or not value.grad.abs().max() > 0]
    if still:
        return {"faults": [f"no gradient of {', '.join(still)}"]}
    pairs = [(milliseconds(plain, device), milliseconds(ours, device)) for _ in range(rounds)]
    return {
        "faults": [],
        "shape": f"batch {batch}, {side}x{side}, W{BITS[0]}A{BITS[1]}",
        "fp32_ms": statistics.median(one for one, _ in pairs),
        "quantised_ms": statistics.median(other for _, other in pairs),
        "ratio": statistics.median(other / one for one, other in pairs),
        "tf32": f"convolutions {torch.backends.cudnn.allow_tf32}, products {torch.backends.cuda.matmul.allow_tf32}",
    }
