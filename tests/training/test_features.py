"""Distillation of features: outputs of modules inside, beside those of the teacher."""

from __future__ import annotations

import copy
from pathlib import Path

import nets
import pytest
import torch
from torch import Tensor, nn

import cimq
from cimq.training.features import FeaturePairs

BLOCKS = ["bn1", "bn2"]


def problem(bits: int = 2) -> tuple[nn.Module, nn.Module, list[tuple[Tensor, Tensor]]]:
    teacher = nets.randomise(nets.SmallCnn()).eval()
    images = nets.images(48, 10)
    data = [(part, part.mean((1, 2, 3)).gt(0).long()) for part in images.split(16)]
    q = cimq.prepare(copy.deepcopy(teacher), cimq.Policy.uniform(bits, bits))
    cimq.calibrate(q, data)
    return q, teacher, data


def distance(student: nn.Module, teacher: nn.Module, x: Tensor) -> float:
    pairs = FeaturePairs(BLOCKS)
    with pairs.watching(student, teacher), torch.no_grad():
        student.eval()(x), teacher(x)
        return float(pairs.loss())


def test_loss_is_the_mean_relative_distance() -> None:
    x = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    student = nets.randomise(nn.Sequential(nn.Linear(3, 3), nn.ReLU()))
    teacher = copy.deepcopy(student)
    with torch.no_grad():
        teacher[0].weight.mul_(2)
        teacher[0].bias.mul_(2)
    pairs = FeaturePairs(["0", "1"])
    with pairs.watching(student, teacher):
        student(x), teacher(x)
        assert pairs.loss().item() == pytest.approx(0.25, rel=1e-5)  # |a - 2a|^2 / |2a|^2, twice
        pairs.loss().backward()
    assert teacher[0].weight.grad is None
    assert student[0].weight.grad is not None
    assert not any(module._forward_hooks for model in (student, teacher) for module in model.modules())


def test_features_come_nearer_than_without() -> None:
    reached = []
    for features in ([], BLOCKS):
        q, teacher, data = problem()
        cimq.finetune(q, data, epochs=8, lr=0.02, teacher=teacher, distill_features=features, feature_weight=10.0)
        reached.append(distance(q, teacher, data[0][0]))
    assert reached[1] < 0.8 * reached[0]


def test_resumes_to_identical_training(tmp_path: Path) -> None:
    options = {"epochs": 2, "lr": 0.02, "distill_features": BLOCKS}
    whole, teacher, data = problem()
    cimq.finetune(whole, data, teacher=teacher, **options, checkpoint=tmp_path / "whole.pt")
    part, teacher, data = problem()

    class Stops(list):  # type: ignore[type-arg]
        passes = 0

        def __iter__(self):  # type: ignore[no-untyped-def]
            self.passes += 1
            if self.passes == 2:
                raise KeyboardInterrupt
            return super().__iter__()

    with pytest.raises(KeyboardInterrupt):
        cimq.finetune(part, Stops(data), teacher=teacher, **options, checkpoint=tmp_path / "part.pt")
    assert not any(module._forward_hooks for module in teacher.modules())
    cimq.finetune(part, data, teacher=teacher, **options, checkpoint=tmp_path / "part.pt", resume=True)
    assert all(torch.equal(a, b) for a, b in zip(whole.state_dict().values(), part.state_dict().values(), strict=True))


class TwoOutputs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(4, 2)
        self.pair = nn.Identity()
        self.unused = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        first: Tensor = self.pair((self.inner(x), x))[0]
        return first


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"distill_features": "inner"}, TypeError, "must be a list of module names, got 'inner'"),
        ({"distill_features": ["iner"]}, ValueError, "names 'iner', which the model does not have"),
        ({"distill_features": ["pair"]}, ValueError, "'pair' of the model gives tuple"),
        ({"distill_features": ["unused"]}, ValueError, "'unused' of distill_features did not run"),
        ({"distill_features": ["inner"], "teacher": None}, ValueError, "distill_features needs teacher"),
        ({"distill_features": ["inner"], "feature_weight": -1.0}, ValueError, "feature_weight must be at least 0"),
    ],
)
def test_refuses(options: dict[str, object], error: type[Exception], message: str) -> None:
    teacher = TwoOutputs().eval()
    x = torch.rand(8, 4)
    q = cimq.prepare(TwoOutputs(), cimq.Policy.uniform(4, 4), example_inputs=x)
    data = [(x, torch.arange(8) % 2)]
    cimq.calibrate(q, data)
    with pytest.raises(error, match=message):
        cimq.finetune(q, data, **{"epochs": 1, "teacher": teacher, **options})  # type: ignore[arg-type]


def test_refuses_other_shapes_and_data_parallel() -> None:
    q, _, data = problem()
    other = nets.randomise(nets.SmallCnn())
    other.bn1 = nn.AdaptiveAvgPool2d(5)
    with pytest.raises(ValueError, match=r"outputs of 'bn1' must have one shape in model and teacher"):
        cimq.finetune(q, data, epochs=1, teacher=other, distill_features=["bn1"])
    with pytest.raises(ValueError, match="cannot see into DataParallel"):
        cimq.finetune(nn.DataParallel(q), data, epochs=1, teacher=other, distill_features=["bn1"])
