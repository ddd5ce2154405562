"""finetune(policies=): bits that change from step to step."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import cimq
from cimq.quantization import get_policy

BATCHES = [(torch.randn(16, 6, generator=torch.Generator().manual_seed(i)), torch.arange(16) % 3) for i in range(3)]


def prepared() -> nn.Module:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(6, 12), nn.ReLU(), nn.Linear(12, 3))
    q = cimq.prepare(net, cimq.Policy.uniform(8, 8), example_inputs=BATCHES[0][0])
    cimq.calibrate(q, BATCHES)
    return q


def train(q: nn.Module, policies: Any, epochs: int = 2, **options: Any) -> None:
    cimq.finetune(q, BATCHES, epochs=epochs, lr=0.05, policies=policies, progress=False, **options)


def alternating(epoch: int, step: int) -> cimq.Policy:
    bits = 2 + (3 * epoch + step) % 4
    return cimq.Policy.uniform(bits, bits)


def test_every_step_has_its_bits_and_the_model_keeps_its_own() -> None:
    q = prepared()
    asked: list[tuple[int, int]] = []
    seen: list[list[tuple[int, int]]] = []

    def policies(epoch: int, step: int) -> cimq.Policy:
        asked.append((epoch, step))
        return alternating(epoch, step)

    hook = q.register_forward_pre_hook(lambda module, _: seen.append(get_policy(module).pairs()))
    train(q, policies, bn_batches=0)
    hook.remove()
    assert asked == [(epoch, step) for epoch in (1, 2) for step in range(3)]
    assert seen == [alternating(epoch, step).bind(["0", "2"]).pairs() for epoch, step in asked]
    assert get_policy(q).pairs() == [(8, 8), (8, 8)]


def test_scales_of_all_drawn_widths_are_trained() -> None:
    q = prepared()
    for bits in (2, 3, 4, 5):
        cimq.set_policy(q, cimq.Policy.uniform(bits, bits))  # whose weight scales are searched now
    cimq.set_policy(q, cimq.Policy.uniform(8, 8))
    before = q[0].act_scales.detach().clone()
    train(q, alternating)
    changed = (q[0].act_scales.detach() != before).tolist()
    assert changed == [False, True, True, True, True, False, False, False]


def test_an_interrupted_training_goes_on_as_if_it_had_not_been(tmp_path: Path) -> None:
    whole, cut = prepared(), prepared()
    train(whole, alternating, epochs=3)

    def interrupted(epoch: int, step: int) -> cimq.Policy:
        if (epoch, step) == (2, 1):
            raise KeyboardInterrupt
        return alternating(epoch, step)

    with pytest.raises(KeyboardInterrupt):
        train(cut, interrupted, epochs=3, checkpoint=tmp_path / "state.pt")
    assert get_policy(cut).pairs() == [(8, 8), (8, 8)]
    again = prepared()
    train(again, alternating, epochs=3, checkpoint=tmp_path / "state.pt", resume=True)
    assert all(torch.equal(value, again.state_dict()[key]) for key, value in whole.state_dict().items())
