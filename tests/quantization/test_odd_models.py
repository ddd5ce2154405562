"""Models as people have them: several inputs, dicts, averages of weights, checkpointing, compilation."""

from __future__ import annotations

import copy

import nets
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

import cimq
from cimq.quantization import CrossbarConv2d, layer_shapes, quant_layers


class TwoInputs(nn.Module):
    """Two inputs, a dict as output, concatenation and a residual."""

    def __init__(self) -> None:
        super().__init__()
        self.image = nn.Conv2d(3, 6, 3, stride=2)
        self.table = nn.Linear(5, 6)
        self.head = nn.Linear(12, 3)

    def forward(self, image: Tensor, table: Tensor, gain: float = 1.0) -> dict[str, Tensor]:
        a = F.relu(self.image(image)).mean(dim=(-2, -1))
        b = torch.relu(self.table(table))
        return {"logits": self.head(torch.cat([a + b, b], 1))}


def test_several_inputs_by_position_and_by_name() -> None:
    model = nets.randomise(TwoInputs())
    image, table = nets.images(6, 9), torch.randn(6, 5, generator=torch.Generator().manual_seed(0))
    named = {"image": image, "table": table, "labels": torch.arange(6) % 3}
    q = cimq.prepare(model, cimq.Policy.uniform(4, 4))
    cimq.calibrate(q, [named])
    again = cimq.prepare(model, cimq.Policy.uniform(4, 4))
    cimq.calibrate(again, [(image, table, named["labels"])])
    assert torch.equal(q.head.act_scales, again.head.act_scales)
    assert [s.name for s in layer_shapes(q, (image, table))] == ["image", "table", "head"]
    assert layer_shapes(q, {"image": image, "table": table}) == layer_shapes(q, (image, table))
    history = cimq.finetune(q, [named], epochs=3, lr=0.05)
    assert history[-1].loss < history[0].loss
    for sample in ((image, table), {"image": image, "table": table}):
        converted = cimq.convert(q, sample_input=sample)
        with torch.no_grad():
            assert torch.equal(converted(image, table)["logits"], q.eval()(image, table)["logits"])


def test_moving_averages_of_weights() -> None:
    q, x = calibrated()
    average = torch.optim.swa_utils.AveragedModel(q, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.5))
    before = q.conv1.weight.detach().clone()
    for _ in range(2):
        with torch.no_grad():
            q.conv1.weight.add_(0.1)
        average.update_parameters(q)
    assert not torch.equal(average.module.conv1.weight, before)
    assert not torch.equal(average.module.conv1.weight, q.conv1.weight)
    with torch.no_grad():
        assert average.eval()(x).shape == (8, 4)
    assert len(quant_layers(average)) == 3


def calibrated(bits: int = 4) -> tuple[nn.Module, Tensor]:
    x = nets.images()
    q = cimq.prepare(nets.randomise(nets.SmallCnn()), cimq.Policy.uniform(bits, bits))
    cimq.calibrate(q, [x])
    return q, x


class Checkpointed(nn.Module):
    def __init__(self, recompute: bool) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Conv2d(6, 4, 3))
        self.recompute = recompute

    def forward(self, x: Tensor) -> Tensor:
        y = checkpoint(self.body, x, use_reentrant=False) if self.recompute else self.body(x)
        return y.mean((2, 3))


def test_gradient_checkpointing_gives_the_same_gradients() -> None:
    x = nets.images()
    q = cimq.prepare(nets.randomise(Checkpointed(False)), cimq.Policy.uniform(4, 4))
    cimq.calibrate(q, [x])
    other = copy.deepcopy(q)
    other.recompute = True
    for model in (q, other):
        model.train()(x).square().sum().backward()
    for a, b in zip(q.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad)


@pytest.mark.slow
def test_compiled_training_equals_eager() -> None:
    q, x = calibrated()
    other = copy.deepcopy(q)
    compiled = torch.compile(other, backend="aot_eager", fullgraph=True)
    losses = []
    for model in (q, compiled):
        loss = F.cross_entropy(model.train()(x), torch.arange(8) % 4)
        loss.backward()
        losses.append(loss.item())
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    for a, b in zip(q.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-3, atol=1e-5)


def test_autocast_evaluation_keeps_the_integers() -> None:
    q, x = calibrated()
    with torch.no_grad():
        wanted = q.eval().conv1(x)
        with torch.autocast("cpu", torch.bfloat16):
            assert torch.equal(q.conv1(x), wanted)
    x.requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        y = q(x)
    assert torch.equal(y, q(x))
    (gradient,) = torch.autograd.grad(y.sum(), x)
    (of_float32,) = torch.autograd.grad(q(x).sum(), x)
    assert torch.nn.functional.cosine_similarity(gradient.flatten(), of_float32.flatten(), 0) > 0.98


def test_prepared_model_inside_another() -> None:
    q, x = calibrated()
    whole = nn.Sequential(nn.Hardtanh(-5, 5), q, nn.Softmin(1))
    cimq.finetune(whole, [(x, torch.arange(8) % 4)], epochs=1, lr=0.01)
    with pytest.warns(cimq.CimqWarning, match=r"2 \(Softmin\)"):
        converted = cimq.convert(whole)
    assert isinstance(converted.get_submodule("1.conv1"), CrossbarConv2d)
    head = nn.Sequential(q, nn.Softmax(1))  # computed with the defined softmax, around the prepared part as well
    q.eval()
    with torch.no_grad():
        assert torch.equal(cimq.convert(head, sample_input=x)(x), cimq.ops.softmax(q(x), 1))


class DepthwiseSeparable(nn.Module):
    """MobileNetV2's block: depthwise convolution, ReLU6, linear bottleneck, residual."""

    def __init__(self) -> None:
        super().__init__()
        self.block = nn.Sequential(
            nn.Conv2d(3, 12, 1, bias=False),
            nn.BatchNorm2d(12),
            nn.ReLU6(inplace=True),
            nn.Conv2d(12, 12, 3, padding=1, groups=12, bias=False),
            nn.BatchNorm2d(12),
            nn.ReLU6(inplace=True),
            nn.Conv2d(12, 3, 1, bias=False),
            nn.BatchNorm2d(3),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.block(x)


def test_depthwise_block() -> None:
    x = nets.images()
    q = cimq.prepare(nets.randomise(DepthwiseSeparable()), cimq.Policy.uniform(4, 4))
    cimq.calibrate(q, [x])
    assert [(s.outputs, s.inputs, s.repeats) for s in layer_shapes(q, x)] == [(12, 3, 1), (1, 9, 12), (3, 12, 1)]
    q.train()(x).square().mean().backward()
    converted = cimq.convert(q, sample_input=x)
    with torch.no_grad():
        assert torch.equal(converted(x), q.eval()(x))
