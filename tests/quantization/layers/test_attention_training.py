"""Attention under what training loops wrap around a model: averages, checkpointing, compilation, mixed precision."""

from __future__ import annotations

import copy
from typing import Any

import nets
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.checkpoint import checkpoint

import cimq
from cimq.quantization import quant_layers

PAPER = cimq.Hardware.preset("paper").replace(rows=16, cell_bits=2)
MACHINES = {
    "ideal": cimq.Hardware.preset("paper"),
    "lossy": PAPER.replace(adc={"bits": 7}),
    "noisy": PAPER.replace(cell={"programming": {"model": "gaussian", "sigma_levels": 0.1}}),
}
LABELS = torch.arange(6) % 5
machines = pytest.mark.parametrize("machine", MACHINES)


class CheckpointedViT(nets.TinyViT):
    """Blocks that are computed once more in the backward pass."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], 1) + self.positions
        for block in self.blocks:
            x = checkpoint(block, x, use_reentrant=False)
        return self.head(self.norm(x)[:, 0])


def prepared(machine: str = "ideal", model: nn.Module | None = None, bits: int = 4) -> tuple[Any, Tensor]:
    x = torch.randn(6, 3, 12, 12, generator=torch.Generator().manual_seed(0))
    q = cimq.prepare(nets.randomise(model or nets.TinyViT()), cimq.Policy.uniform(bits, bits), MACHINES[machine])
    cimq.calibrate(q, [x])
    return q.train(), x


def gradients(
    model: nn.Module, x: Tensor, seed: int = 0, dtype: torch.dtype | None = None, factor: float = 1.0
) -> tuple[float, dict[str, Tensor]]:
    """Loss and gradients (times a factor) of a step whose dropout is seeded, with autocast to a type."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        with torch.autocast("cpu", dtype, enabled=dtype is not None):
            loss = F.cross_entropy(model(x), LABELS)
        (loss * factor).backward()
    return loss.item(), {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


@machines
def test_moving_average_evaluates_and_converts(machine: str) -> None:
    q, x = prepared(machine)
    average = AveragedModel(q, multi_avg_fn=get_ema_multi_avg_fn(0.5))
    optimizer = torch.optim.SGD(cimq.param_groups(q, lr=0.1))
    wanted = None
    for step in range(3):
        optimizer.zero_grad()
        gradients(q, x, step)
        optimizer.step()
        average.update_parameters(q)
        now = {name: p.detach().clone() for name, p in q.named_parameters()}
        wanted = now if wanted is None else {name: (now[name] + wanted[name]) / 2 for name in now}
    for name, parameter in average.module.named_parameters():
        torch.testing.assert_close(parameter, wanted[name])
    assert any(not torch.equal(p, now[name]) for name, p in average.module.named_parameters() if "scales" in name)
    assert quant_layers(average.module)[2][1].act_scales is not quant_layers(q)[2][1].act_scales
    converted = cimq.convert(average.module, sample_input=x)
    with torch.no_grad():
        assert torch.equal(converted(x), average.eval()(x))
        assert not torch.equal(average(x), q.eval()(x))


@machines
def test_checkpointing_has_the_gradients_of_one_pass(machine: str) -> None:
    q, x = prepared(machine)
    other, _ = prepared(machine, CheckpointedViT())
    other.load_state_dict(q.state_dict())
    for step in range(2):
        loss, wanted = gradients(q, x, step)
        again, found = gradients(other.train(), x, step)
        assert again == loss
        assert found.keys() == wanted.keys()
        for name, gradient in found.items():
            torch.testing.assert_close(gradient, wanted[name], msg=lambda text, name=name: f"{name}: {text}")
    for layer, same in zip(quant_layers(q), quant_layers(other), strict=True):
        if layer[1].noise_step is not None:
            assert int(layer[1].noise_step) == int(same[1].noise_step) == 2


@pytest.mark.slow
def test_compiled_training_equals_eager() -> None:
    q, x = prepared(model=nets.TinyViT(depth=1))
    for module in q.modules():
        if isinstance(module, nn.MultiheadAttention):
            module.dropout = 0.0
    other = copy.deepcopy(q)
    loss, wanted = gradients(q, x)
    again, _ = gradients(torch.compile(other, backend="aot_eager", fullgraph=True), x)
    assert again == pytest.approx(loss, rel=1e-5)
    for name, parameter in other.named_parameters():
        torch.testing.assert_close(parameter.grad, wanted[name], rtol=1e-3, atol=1e-5)


@machines
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=["bf16", "fp16"])
def test_autocast_keeps_gradients(dtype: torch.dtype, machine: str) -> None:
    q, x = prepared(machine, bits=8)
    other = copy.deepcopy(q)
    loss, wanted = gradients(q, x)
    factor = 2.0**10  # what a GradScaler does against underflow
    again, _ = gradients(other, x, dtype=dtype, factor=factor)
    # A converter that loses bits makes large steps of small differences.
    assert again == pytest.approx(loss, rel=0.25 if machine == "lossy" else 0.05)
    used = dict(quant_layers(other))
    for name, parameter in other.named_parameters():
        assert parameter.dtype == torch.float32
        assert parameter.grad is not None, name
        gradient = parameter.grad / factor
        assert gradient.dtype == torch.float32
        assert bool(torch.isfinite(gradient).all()), name
        assert bool(gradient.any()) == bool(wanted[name].any()), name
    assert all(float(layer.act_scales.grad[7].abs()) > 0 for layer in used.values())
    assert all(float(layer.weight_scales.grad[7].abs().sum()) > 0 for layer in used.values())
