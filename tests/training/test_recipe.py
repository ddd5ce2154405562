from __future__ import annotations

import copy
from pathlib import Path

import nets
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import cimq
from cimq.quantization import set_hardware
from cimq.torch_tools.non_finite import first_non_finite
from cimq.training.losses import distillation_loss


def digits_cnn() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 12, 3, padding=1, bias=False),
        nn.BatchNorm2d(12),
        nn.ReLU(),
        nn.Conv2d(12, 24, 3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(24),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(96, 10),
    )


@pytest.fixture(scope="module")
def digits() -> tuple[nn.Module, DataLoader, DataLoader, float]:  # type: ignore[type-arg]
    """A small network trained in fp32 on scikit-learn's digits, loaders, and its accuracy on the last 400 images."""
    from sklearn.datasets import load_digits

    data = load_digits()
    x = torch.from_numpy(data.images).float().unsqueeze(1) / 16
    y = torch.from_numpy(data.target).long()
    train = DataLoader(TensorDataset(x[:-400], y[:-400]), batch_size=64, shuffle=True)
    test = DataLoader(TensorDataset(x[-400:], y[-400:]), batch_size=400)
    model = nets.randomise(digits_cnn())
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4)
        for epoch in range(8):
            optimizer.param_groups[0]["lr"] = 0.1 * (1 - epoch / 8)
            for images, target in train:
                optimizer.zero_grad()
                F.cross_entropy(model(images), target).backward()
                optimizer.step()
    return model.eval(), train, test, cimq.evaluate(model, test)


def test_an_unprepared_model_is_trained_in_fp32_and_says_so() -> None:
    model = nn.Linear(4, 2)
    before = model.weight.detach().clone()
    with pytest.warns(cimq.CimqWarning, match="Linear has no quantised layers"):
        cimq.finetune(model, [(torch.randn(8, 4), torch.arange(8) % 2)], epochs=1, lr=0.1)
    assert not torch.equal(model.weight, before)


@pytest.mark.parametrize(("bits", "bound"), [(4, 0.01), (2, 0.04)])
def test_low_bits_reach_the_accuracy_of_fp32(digits: tuple, bits: int, bound: float) -> None:  # type: ignore[type-arg]
    model, train, test, reference = digits
    assert reference > 0.93
    q = cimq.prepare(model, cimq.Policy.uniform(bits, bits).bind(["0", "3", "8"], first_last_bits=8))
    cimq.calibrate(q, train)
    before = cimq.evaluate(q, test)
    cimq.finetune(q, train, epochs=4, lr=0.03, teacher=model if bits == 2 else None)
    after = cimq.evaluate(q, test)
    assert after >= before
    assert after >= reference - bound
    converted = cimq.convert(q, sample_input=next(iter(test))[0])
    assert cimq.evaluate(converted, test) == after


def small_problem(seed: int = 0) -> tuple[nn.Module, list[tuple[Tensor, Tensor]]]:
    model = nets.randomise(nets.SmallCnn(), seed)
    data = [(nets.images(16, seed=s), torch.arange(16) % 4) for s in range(3)]
    q = cimq.prepare(model, cimq.Policy.uniform(4, 4))
    cimq.calibrate(q, data)
    return q, data


def equal_states(a: nn.Module, b: nn.Module) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


def test_history_and_loss_goes_down() -> None:
    q, data = small_problem()
    history = cimq.finetune(q, data, epochs=6, lr=0.05, val_loader=data)
    assert [epoch.number for epoch in history] == [1, 2, 3, 4, 5, 6]
    assert history[-1].loss < history[0].loss
    assert history[-1].lr < history[0].lr < 0.05
    assert all(0 <= epoch.metric <= 1 for epoch in history if epoch.metric is not None)


def test_same_seed_same_result_and_the_users_random_state_stays() -> None:
    results = []
    for seed in (1, 1, 2):
        q, data = small_problem()
        dataset = TensorDataset(torch.cat([x for x, _ in data]), torch.cat([y for _, y in data]))
        loader = DataLoader(dataset, batch_size=16, shuffle=True)
        torch.manual_seed(len(results))  # whatever the user did before
        state = torch.get_rng_state()
        cimq.finetune(q, loader, epochs=2, lr=0.05, seed=seed)
        assert torch.equal(torch.get_rng_state(), state)
        results.append(q)
    assert equal_states(results[0], results[1])
    assert not equal_states(results[0], results[2])


class Interrupting:
    """Raises KeyboardInterrupt in its n-th run."""

    def __init__(self, data: list[tuple[Tensor, Tensor]], run: int) -> None:
        self.data, self.run, self.runs = data, run, 0

    def __len__(self) -> int:
        return len(self.data)

    def __iter__(self):  # type: ignore[no-untyped-def]
        self.runs += 1
        order = torch.randperm(len(self.data)).tolist()
        for position, index in enumerate(order):
            if self.runs == self.run and position == 1:
                raise KeyboardInterrupt
            yield self.data[index]


def test_resumes_to_identical_training(tmp_path: Path) -> None:
    whole, data = small_problem()
    cimq.finetune(whole, Interrupting(data, 0), epochs=3, lr=0.05)
    part, _ = small_problem()
    part.eval()
    with pytest.raises(KeyboardInterrupt):
        cimq.finetune(part, Interrupting(data, 3), epochs=3, lr=0.05, checkpoint=tmp_path / "run" / "state.pt")
    assert not part.training
    fresh, _ = small_problem(seed=7)
    history = cimq.finetune(
        fresh, Interrupting(data, 0), epochs=3, lr=0.05, checkpoint=tmp_path / "run" / "state.pt", resume=True
    )
    assert len(history) == 3
    assert equal_states(fresh, whole)


def test_keeps_frozen_normalisation_and_mode() -> None:
    q, data = small_problem()
    q.train()
    q.bn1.eval()
    before = q.bn1.running_mean.clone()
    cimq.finetune(q, data, epochs=1, lr=0.01, bn_batches=0)
    assert torch.equal(q.bn1.running_mean, before)
    assert q.training
    assert not q.bn1.training
    q.eval()
    cimq.finetune(q, data, epochs=1, lr=0.01)
    assert not any(module.training for module in q.modules())


def test_batch_statistics_are_measured_at_the_end() -> None:
    q, data = small_problem()
    cimq.finetune(q, data, epochs=1, lr=0.01)
    again = copy.deepcopy(q)
    cimq.reestimate_bn(again, data)
    torch.testing.assert_close(again.bn2.running_var, q.bn2.running_var)


class WatchingNorms(list):  # type: ignore[type-arg]
    """A loader that notes, at every pass of `finetune` over it, whether the normalisations use batch statistics."""

    def __init__(self, data: list[tuple[Tensor, Tensor]], model: nn.Module) -> None:
        super().__init__(data)
        self.model, self.modes = model, []

    def __iter__(self):  # type: ignore[no-untyped-def]
        self.modes.append(self.model.bn1.training)
        return super().__iter__()


def test_last_epochs_train_with_frozen_batch_statistics() -> None:
    q, data = small_problem()
    loader = WatchingNorms(data, q)
    cimq.finetune(q, loader, epochs=3, lr=0.01, freeze_bn_epochs=1)
    assert loader.modes == [True, True, True, False]  # two epochs, measuring, the last epoch; nothing afterwards
    q.train()
    before = q.bn2.running_mean.clone()
    cimq.finetune(q, data, epochs=1, lr=0.01, freeze_bn_epochs=1, bn_batches=0)
    assert torch.equal(q.bn2.running_mean, before)
    assert q.bn2.training
    with pytest.raises(ValueError, match=r"freeze_bn_epochs must lie in 0\.\.epochs \(0\.\.2\), got 3"):
        cimq.finetune(q, data, epochs=2, freeze_bn_epochs=3)


@pytest.mark.parametrize("cells", ["ideal", "vary", "vary in evaluation only"])
def test_batch_statistics_are_frozen_where_cells_vary_in_training(cells: str) -> None:
    q, data = small_problem()
    paper = cimq.Hardware.preset("paper")
    noisy = paper.replace(cell={"programming": {"model": "gaussian", "sigma_levels": 0.1}})
    if cells != "ideal":
        set_hardware(q, noisy, training=paper if cells == "vary in evaluation only" else None)
    loader = WatchingNorms(data, q)
    cimq.finetune(q, loader, epochs=4, lr=0.01)
    frozen = cells == "vary"
    assert loader.modes == ([True] * 4 + [False] if frozen else [True] * 5)


def test_resumes_within_the_frozen_epochs(tmp_path: Path) -> None:
    whole, data = small_problem()
    cimq.finetune(whole, Interrupting(data, 0), epochs=3, lr=0.05, freeze_bn_epochs=2)
    for stopped in (3, 4):  # passes: epoch 1, statistics, epoch 2, epoch 3
        part, _ = small_problem()
        options = {"epochs": 3, "lr": 0.05, "freeze_bn_epochs": 2, "checkpoint": tmp_path / f"{stopped}.pt"}
        with pytest.raises(KeyboardInterrupt):
            cimq.finetune(part, Interrupting(data, stopped), **options)
        fresh, _ = small_problem(seed=7)
        cimq.finetune(fresh, Interrupting(data, 0), **options, resume=True)
        assert equal_states(fresh, whole)


def test_dicts_forward_fn_and_loss_fn() -> None:
    q, data = small_problem()
    dicts = [{"x": x, "labels": y} for x, y in data]
    other, _ = small_problem()
    cimq.finetune(q, dicts, epochs=1, lr=0.01)
    cimq.finetune(
        other,
        data,
        epochs=1,
        lr=0.01,
        forward_fn=lambda model, batch: {"scores": model(batch[0])},
        loss_fn=lambda output, target: F.cross_entropy(output["scores"], target),
    )
    assert equal_states(q, other)


@pytest.mark.parametrize("amp", ["bf16", "fp16"])
def test_mixed_precision_keeps_scales_in_float32(amp: str) -> None:
    q, data = small_problem()
    history = cimq.finetune(q, data, epochs=3, lr=0.05, amp=amp)
    assert history[-1].loss < history[0].loss
    assert all(p.dtype == torch.float32 and bool(torch.isfinite(p).all()) for p in q.parameters())


def test_distillation_pulls_towards_the_teacher() -> None:
    q, data = small_problem(seed=3)
    teacher = nets.randomise(nets.SmallCnn()).train()
    x = data[0][0]
    state = copy.deepcopy(teacher.state_dict())

    def distance() -> float:
        with torch.no_grad():
            return float(distillation_loss(q.eval()(x), teacher.eval()(x), 2.0))

    before = distance()
    teacher.train()
    cimq.finetune(q, data, epochs=8, lr=0.05, teacher=teacher, distill_weight=1.0)
    assert teacher.training
    assert all(torch.equal(value, state[name]) for name, value in teacher.state_dict().items())
    assert distance() < before


def test_distillation_is_zero_for_equal_outputs() -> None:
    x = torch.randn(4, 3)
    assert float(distillation_loss(x, x.clone(), 4.0)) == pytest.approx(0.0, abs=1e-6)


def test_loss_that_is_not_finite_names_the_cause() -> None:
    q, data = small_problem()
    bad = [(data[0][0] * float("nan"), data[0][1])]
    with pytest.raises(ValueError, match="loss is nan in epoch 1, step 1; the input batch holds NaN"):
        cimq.finetune(q, bad, epochs=1)
    q.bn1.weight.data[2] = float("inf")
    with pytest.raises(ValueError, match=r"parameter 'bn1\.weight' holds NaN or infinite values"):
        cimq.finetune(q, data, epochs=1)


def test_names_the_first_layer_that_overflows() -> None:
    q, data = small_problem()
    q.bn1.weight.data.fill_(3e38)
    q.bn1.bias.data.fill_(3e38)
    with pytest.raises(ValueError, match=r"first layer whose output is not finite is 'bn1' \(BatchNorm2d\)"):
        cimq.finetune(q, data, epochs=1)
    assert "loss itself" in first_non_finite(nn.Identity(), (torch.ones(2),), lambda m, b: m(b[0]))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epochs": 0}, "epochs must be at least 1"),
        ({"lr": float("nan")}, "lr must be above 0"),
        ({"amp": "int8"}, "amp must be None, bf16 or fp16"),
        ({"distill_weight": 2.0}, r"distill_weight must lie in 0\.\.1"),
        ({"resume": True}, "resume needs checkpoint"),
    ],
)
def test_refuses_arguments(options: dict[str, object], message: str) -> None:
    q, data = small_problem()
    with pytest.raises(ValueError, match=message):
        cimq.finetune(q, data, **{"epochs": 1, **options})  # type: ignore[arg-type]


def test_refuses_models_and_loaders() -> None:
    q, data = small_problem()
    with pytest.raises(ValueError, match="loader is empty"):
        cimq.finetune(q, [], epochs=1)
    with pytest.raises(ValueError, match=r"call cimq\.calibrate"):
        cimq.finetune(cimq.prepare(nets.SmallCnn()), data, epochs=1)
    with pytest.raises(TypeError, match="pass loss_fn"):
        cimq.finetune(q, [data[0][0]], epochs=1)
