"""What keeps weights on their grid points: damping and scaled gradients."""

from __future__ import annotations

from typing import Any

import nets
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

import cimq
from cimq.training import scale_weight_gradients
from cimq.training.weight_grid import dampening_loss


def problem(bits: int = 4) -> tuple[Any, list[tuple[Tensor, Tensor]]]:
    torch.manual_seed(0)
    data = [(nets.images(8, seed=seed), torch.arange(8) % 4) for seed in range(4)]
    model = nets.randomise(nets.SmallCnn())
    return cimq.prepare(model, cimq.Policy.uniform(bits, 4), example_inputs=data[0][0]), data


def codes(layer: Any) -> Tensor:
    """Weights in steps of the grid."""
    scale = layer.weight_scale.detach().reshape((-1,) + (1,) * (layer.weight.dim() - 1))
    return layer.weight.detach() / scale


def test_damping_is_the_distance_from_the_grid() -> None:
    q, _ = problem()
    total = 0.0
    for layer in (q.conv1, q.conv2, q.fc):
        scale = layer.weight_scale.detach().reshape((-1,) + (1,) * (layer.weight.dim() - 1))
        inside = codes(layer).clamp(-7, 7)
        total += float((((inside - inside.round()) * scale) ** 2).sum())
    assert dampening_loss(q).item() == pytest.approx(total, rel=1e-4)
    dampening_loss(q).backward()
    assert float(q.conv1.weight.grad.abs().sum()) > 0
    assert q.conv1.weight_scales.grad is None


def test_dampening_pulls_weights_to_their_grid() -> None:
    free, data = problem()
    damped, _ = problem()
    cimq.finetune(free, data, epochs=6, lr=0.02)
    cimq.finetune(damped, data, epochs=6, lr=0.02, dampening=5.0)
    assert dampening_loss(damped).item() < 0.7 * dampening_loss(free).item()


@given(bits=st.integers(2, 8), strength=st.floats(0, 2), seed=st.integers(0, 100))
def test_scaled_gradients_are_those_of_the_equation(bits: int, strength: float, seed: int) -> None:
    torch.manual_seed(seed)
    q = cimq.prepare(nn.Linear(6, 5), cimq.Policy.uniform(bits, 8), example_inputs=torch.rand(4, 6))
    gradient = torch.randn(5, 6)
    q.weight.grad = gradient.clone()
    scale_weight_gradients(q, strength)
    largest = 2 ** (bits - 1) - 1
    inside = codes(q).clamp(-largest, largest)
    wanted = gradient * (1 + strength * gradient.sign() * (inside - inside.round()))
    assert torch.allclose(q.weight.grad, wanted, rtol=1e-4, atol=1e-5)


def test_binary_weights_are_pulled_to_their_sign() -> None:
    q = cimq.prepare(nn.Linear(2, 1), cimq.Policy.uniform(1, 8), example_inputs=torch.rand(4, 2))
    with torch.no_grad():
        q.weight.copy_(torch.tensor([[0.25, -0.25]]))
        q.weight_scales[0].fill_(1.0)
    q.weight.grad = torch.tensor([[1.0, 1.0]])
    scale_weight_gradients(q, 0.2)
    assert q.weight.grad.tolist() == [[pytest.approx(1 - 0.2 * 0.75), pytest.approx(1 + 0.2 * 0.75)]]


def test_fewer_weights_change_their_integers() -> None:
    def changes(strength: float) -> int:
        q, data = problem(bits=2)
        optimizer = torch.optim.SGD(q.parameters(), lr=0.05)
        count, before = 0, [layer.integer_weight() for layer in (q.conv1, q.conv2, q.fc)]
        for _ in range(15):
            for x, y in data:
                optimizer.zero_grad()
                F.cross_entropy(q.train()(x), y).backward()
                scale_weight_gradients(q, strength)
                optimizer.step()
                now = [layer.integer_weight() for layer in (q.conv1, q.conv2, q.fc)]
                count += sum(int((a != b).sum()) for a, b in zip(before, now, strict=True))
                before = now
        return count

    assert changes(1.0) < 0.8 * changes(0.0)


def test_finetune_scales_gradients() -> None:
    plain, data = problem(bits=2)
    scaled, _ = problem(bits=2)
    own, _ = problem(bits=2)
    one_step = data[:1]
    cimq.finetune(plain, one_step, epochs=1, lr=0.1, bn_batches=0)
    cimq.finetune(scaled, one_step, epochs=1, lr=0.1, bn_batches=0, gradient_scaling=0.5)
    assert not torch.equal(plain.conv1.weight, scaled.conv1.weight)
    optimizer = torch.optim.SGD(cimq.param_groups(own, 0.1, 1e-4), momentum=0.9)
    F.cross_entropy(own.train()(one_step[0][0]), one_step[0][1]).backward()
    scale_weight_gradients(own, 0.5)
    optimizer.step()
    assert torch.equal(own.conv1.weight, scaled.conv1.weight)


@pytest.mark.parametrize("options", [{"dampening": 0.1}, {"gradient_scaling": 0.1}])
def test_attention_has_weights_of_projections_alone(options: dict[str, float]) -> None:
    """K^T and V are written at run time: there is no weight to keep in its place."""
    torch.manual_seed(0)
    x = torch.randn(4, 3, 8)
    model = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    q = cimq.prepare(model, cimq.Policy.uniform(2, 8), example_inputs=x)
    (epoch,) = cimq.finetune(q, [(x, x)], epochs=1, loss_fn=F.mse_loss, **options)
    assert epoch.loss > 0


def test_a_tied_weight_is_scaled_once() -> None:
    torch.manual_seed(0)
    first, second = nn.Linear(4, 4), nn.Linear(4, 4)
    second.weight = first.weight
    q = cimq.prepare(nn.Sequential(first, second), cimq.Policy.uniform(2, 8), example_inputs=torch.rand(2, 4))
    q[0].weight.grad = torch.ones(4, 4)
    scale_weight_gradients(q, 0.5)
    inside = codes(q[0]).clamp(-1, 1)
    assert torch.allclose(q[0].weight.grad, 1 + 0.5 * (inside - inside.round()), atol=1e-6)


def test_weights_without_gradient_are_left_alone() -> None:
    q = cimq.prepare(nn.Linear(4, 4), example_inputs=torch.rand(2, 4))
    scale_weight_gradients(q, 0.5)
    assert q.weight.grad is None
    with pytest.raises(ValueError, match=r"strength must lie in 0\.\.2, got 2\.5"):
        scale_weight_gradients(q, 2.5)
