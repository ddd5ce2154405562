from __future__ import annotations

import nets
import pytest
import torch
from torch import nn

import cimq


def batches() -> list[tuple[torch.Tensor, torch.Tensor]]:
    return [(torch.eye(4), torch.tensor([0, 1, 2, 0])), (torch.eye(4)[:1], torch.tensor([0]))]


def test_top1_weighs_batches_by_size() -> None:
    assert cimq.evaluate(nn.Identity(), batches()) == pytest.approx(4 / 5)


def test_metric_fn_and_forward_fn_and_kinds_of_batches() -> None:
    dicts = [{"input": x, "labels": y} for x, y in batches()]
    assert cimq.evaluate(nn.Identity(), dicts) == pytest.approx(4 / 5)
    got = cimq.evaluate(
        nn.Identity(), batches(), lambda out, target: out.sum() / len(out), forward_fn=lambda m, b: 2 * m(b[0])
    )
    assert got == pytest.approx(2.0)
    assert cimq.evaluate(nn.Identity(), batches(), batches=1) == pytest.approx(3 / 4)


def test_outputs_with_logits() -> None:
    class Wrapped(nn.Module):
        def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
            return {"logits": x}

    assert cimq.evaluate(Wrapped(), batches()) == pytest.approx(4 / 5)


def test_keeps_modes() -> None:
    model = nets.SmallCnn().train()
    model.bn1.eval()
    before = model.bn2.running_mean.clone()
    cimq.evaluate(model, [(nets.images(), torch.zeros(8, dtype=torch.long))])
    assert model.training
    assert not model.bn1.training
    assert torch.equal(model.bn2.running_mean, before)


def test_refusals() -> None:
    with pytest.raises(ValueError, match="loader is empty"):
        cimq.evaluate(nn.Identity(), [])
    with pytest.raises(TypeError, match="pass metric_fn"):
        cimq.evaluate(nn.Identity(), [torch.eye(3)])
    with pytest.raises(TypeError, match="cannot find scores"):
        cimq.evaluate(nn.Identity(), batches(), forward_fn=lambda m, b: "text")


def test_read_noise_does_not_depend_on_the_batches() -> None:
    noisy = cimq.Hardware.preset("paper").replace(rows=64, cell={"read": {"model": "constant", "sigma_levels": 0.3}})
    q = cimq.prepare(nets.randomise(nets.SmallCnn()), cimq.Policy.uniform(4, 4), noisy)
    x = nets.images(4, 10).repeat(2, 1, 1, 1)  # every image twice
    cimq.calibrate(q, [(x, None)])
    for model in (q.eval(), cimq.convert(q)):

        def outputs(size: int, model: nn.Module = model) -> torch.Tensor:
            seen = []

            def keep(out: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
                seen.append(out)
                return out.sum()

            cimq.evaluate(model, [(part, part) for part in x.split(size)], keep)
            return torch.cat(seen)

        whole = outputs(8)
        assert all(torch.equal(outputs(size), whole) for size in (4, 3, 1))
        assert not torch.equal(whole[:4], whole[4:])
        with torch.no_grad():  # a call on its own starts with the first access
            assert torch.equal(model(x[:4]), model(x[4:]))
