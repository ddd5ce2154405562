"""Mixed samples, alone and in `finetune`."""

from __future__ import annotations

import copy
from typing import Any

import nets
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

import cimq
from cimq.training import step_loss
from cimq.training.mixing import mix


@given(n=st.integers(1, 6), height=st.integers(1, 7), width=st.integers(1, 7), seed=st.integers(0, 10_000))
def test_every_value_is_of_one_of_two_images_or_between(n: int, height: int, width: int, seed: int) -> None:
    torch.manual_seed(seed)
    x = torch.arange(n, dtype=torch.float32).view(n, 1, 1, 1).expand(n, 2, height, width)
    mixed = mix((x, torch.arange(n)))
    values, others = mixed.batch[0], mixed.other_target
    assert torch.equal(x, torch.arange(n, dtype=torch.float32).view(n, 1, 1, 1).expand_as(x))  # the batch is left alone
    assert sorted(others.tolist()) == list(range(n))
    wanted = mixed.share * torch.arange(n) + (1 - mixed.share) * others
    assert values.mean(dim=(1, 2, 3)) == pytest.approx(wanted.float(), abs=1e-4)  # also of the rectangle's area
    assert values.shape == x.shape
    assert 0 <= mixed.share <= 1


def test_both_ways_occur_for_images_and_blending_alone_for_vectors() -> None:
    torch.manual_seed(0)
    images = torch.zeros(2, 1, 8, 8)
    images[1] = 1
    kinds = set()
    for _ in range(50):
        mixed = mix((images, torch.arange(2)))
        kinds.add(mixed.batch[0].unique().numel() == 1 or bool(((mixed.batch[0] == 0) | (mixed.batch[0] == 1)).all()))
    assert kinds == {True, False}
    x = torch.tensor([[0.0], [1.0]])
    draws = [mix((x, torch.arange(2))) for _ in range(20)]
    assert all(d.batch[0][0] == (1 - d.share) * d.other_target[0] for d in draws)


def problem() -> tuple[nn.Module, nn.Module, list[tuple[Tensor, Tensor]]]:
    teacher = nets.randomise(nets.SmallCnn()).eval()
    images = nets.images(48, 10)
    data = [(part, part.mean((1, 2, 3)).gt(0).long()) for part in images.split(16)]
    q = cimq.prepare(copy.deepcopy(teacher), cimq.Policy.uniform(4, 4))
    cimq.calibrate(q, data)
    return q, teacher, data


def test_teacher_and_model_see_the_same_and_the_loss_is_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    q, teacher, data = problem()
    seen: dict[bool, list[Tensor]] = {True: [], False: []}
    shares: list[float] = []
    losses: list[tuple[Tensor, float]] = []

    def forward(model: nn.Module, batch: Any) -> Any:
        seen[model is teacher].append(batch[0])
        return model(batch[0])

    def recorded(batch: Any) -> Any:
        mixed = mix(batch)
        shares.append(mixed.share)
        return mixed

    def loss(output: Tensor, target: Tensor) -> Tensor:
        value = nn.functional.cross_entropy(output, target)
        losses.append((target, value.item()))
        return value

    monkeypatch.setattr(step_loss, "mix", recorded)
    options: dict[str, Any] = {"forward_fn": forward, "loss_fn": loss, "bn_batches": 0, "distill_weight": 0.5}
    history = cimq.finetune(q, data, epochs=1, lr=1e-9, teacher=teacher, mixing=1.0, temperature=1e4, **options)
    assert len(shares) == len(data) == len(seen[True])
    assert all(torch.equal(a, b) for a, b in zip(seen[True], seen[False], strict=True))
    assert all(not torch.equal(x, a) for (x, _), a in zip(data, seen[True], strict=True))
    hard = [s * losses[2 * i][1] + (1 - s) * losses[2 * i + 1][1] for i, s in enumerate(shares)]
    # At this temperature the soft loss is what centred scores differ by; it is not negative.
    assert history[0].loss >= 0.5 * sum(hard) / len(hard) - 1e-4


def test_share_of_batches_and_repeatability(monkeypatch: pytest.MonkeyPatch) -> None:
    count = 0

    def counted(batch: Any) -> Any:
        nonlocal count
        count += 1
        return mix(batch)

    monkeypatch.setattr(step_loss, "mix", counted)
    found = []
    for _ in range(2):
        q, _, data = problem()
        found.append([epoch.loss for epoch in cimq.finetune(q, data, epochs=6, lr=0.01, mixing=0.5, seed=3)])
    assert found[0] == found[1]
    assert 0 < count < 36
    count = 0
    q, _, data = problem()
    cimq.finetune(q, data, epochs=1, lr=0.01)
    assert count == 0


def test_feature_loss_ends_with_its_epochs() -> None:
    q, teacher, data = problem()
    options: dict[str, Any] = {"teacher": teacher, "distill_features": ["bn1"], "distill_weight": 0.0}
    heavy = cimq.finetune(q, data, epochs=2, lr=1e-9, feature_weight=1e6, feature_epochs=1, **options)
    assert heavy[0].loss > 100 > heavy[1].loss
    always = cimq.finetune(q, data, epochs=2, lr=1e-9, feature_weight=1e6, **options)
    assert always[1].loss > 100


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mixing": 1.5}, r"mixing must lie in 0\.\.1, got 1\.5"),
        ({"mixing": float("nan")}, r"mixing must lie in 0\.\.1, got nan"),
        ({"feature_epochs": 0}, "feature_epochs must be at least 1, got 0"),
    ],
)
def test_refuses_options(options: dict[str, Any], message: str) -> None:
    q, _, data = problem()
    with pytest.raises(ValueError, match=message):
        cimq.finetune(q, data, epochs=1, **options)


@pytest.mark.parametrize(
    "batch",
    [
        {"x": torch.rand(4, 3), "labels": torch.arange(4)},
        (torch.arange(4), torch.arange(4)),
        (torch.rand(4, 2), torch.rand(4, 2), torch.arange(4)),
        (torch.rand(4, 2), None),
        torch.rand(4, 2),
    ],
)
def test_refuses_batches(batch: Any) -> None:
    with pytest.raises(TypeError, match=r"mixing needs batches \(x, target\) of two tensors"):
        mix(batch)
