"""The same seed gives the same result, whatever generator a loader has and whatever was drawn before."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import BatchSampler, DataLoader, Dataset, RandomSampler, Subset, TensorDataset
from torch.utils.data.distributed import DistributedSampler

import cimq
from cimq.torch_tools.batches import kept_random_state
from cimq.torch_tools.generators import start_epoch

X, Y = torch.rand(96, 6, generator=torch.Generator().manual_seed(0)), torch.arange(96) % 3
DATA = TensorDataset(X, Y)


class Augmented(Dataset):  # type: ignore[type-arg]
    """Adds noise from a generator of its own, or from the global ones."""

    def __init__(self, generator: Any = None) -> None:
        self.generator = generator

    def __len__(self) -> int:
        return len(X)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        if isinstance(self.generator, (np.random.Generator, np.random.RandomState)):
            noise = float(self.generator.normal())
        elif isinstance(self.generator, random.Random):
            noise = self.generator.gauss(0, 1)
        else:
            noise = float(torch.randn((), generator=self.generator)) + random.random() + float(np.random.rand())
        return X[index] + 0.1 * noise, Y[index]


def torch_generator() -> torch.Generator:
    return torch.Generator().manual_seed(5)


_LOADERS: dict[str, Callable[[], DataLoader[Any]]] = {
    "loader": lambda: DataLoader(DATA, 16, shuffle=True, generator=torch_generator()),
    "sampler": lambda: DataLoader(DATA, 16, sampler=RandomSampler(DATA, generator=torch_generator())),
    "batch sampler": lambda: DataLoader(
        DATA, batch_sampler=BatchSampler(RandomSampler(DATA, generator=torch_generator()), 16, False)
    ),
    "global": lambda: DataLoader(Augmented(), 16, shuffle=True),
    "data set, torch": lambda: DataLoader(Augmented(torch_generator()), 16),
    "data set, NumPy": lambda: DataLoader(Augmented(np.random.default_rng(5)), 16),
    "data set, Mersenne twister": lambda: DataLoader(Augmented(np.random.Generator(np.random.MT19937(5))), 16),
    "data set, older NumPy": lambda: DataLoader(Augmented(np.random.RandomState(5)), 16),
    "data set, Python": lambda: DataLoader(Augmented(random.Random(5)), 16),
    "part of a data set": lambda: DataLoader(Subset(Augmented(torch_generator()), range(90)), 16),
    "joined data sets": lambda: DataLoader(Augmented(np.random.default_rng(5)) + Augmented(random.Random(5)), 16),
    "workers": lambda: DataLoader(Augmented(), 16, shuffle=True, generator=torch_generator(), num_workers=1),
    "workers that persist": lambda: DataLoader(Augmented(), 16, num_workers=1, persistent_workers=True),
}


def prepared(hardware: Any = "paper") -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        net = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.1), nn.Linear(8, 3))
        return cimq.prepare(net, cimq.Policy.uniform(4, 4), hardware, example_inputs=X)


def trained(loader: Any, **options: Any) -> dict[str, Tensor]:
    q = prepared()
    torch.rand(7), random.random(), np.random.rand()  # what was drawn before makes no difference
    cimq.finetune(q, loader, **{"epochs": 3, "lr": 0.1, "bn_batches": 3, "progress": False, **options})
    return dict(q.state_dict())


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return all(torch.equal(value, b[key]) for key, value in a.items())


@pytest.mark.parametrize("kind", _LOADERS)
def test_finetune_depends_on_its_seed_alone_and_resumes_exactly(kind: str, tmp_path: Path) -> None:
    loader = _LOADERS[kind]()
    first = trained(loader, val_loader=loader)
    assert same(first, trained(loader, val_loader=loader))
    assert not same(first, trained(loader, seed=1, val_loader=loader))

    class Interrupted:
        """The loader of a training that is interrupted in an epoch."""

        def __init__(self, loader: Any, epoch: int) -> None:
            self.loader, self.left = loader, epoch

        def __iter__(self) -> Any:
            self.left -= 1
            for number, batch in enumerate(self.loader):
                if self.left < 0 and number == 2:
                    raise KeyboardInterrupt
                yield batch

        def __len__(self) -> int:
            return len(self.loader)  # the learning rate depends on it

    for epoch in (1, 2):
        checkpoint = tmp_path / f"{epoch}.pt"
        with pytest.raises(KeyboardInterrupt):
            trained(Interrupted(_LOADERS[kind](), epoch), checkpoint=checkpoint)
        assert same(first, trained(_LOADERS[kind](), checkpoint=checkpoint, resume=True))


def test_resuming_a_whole_training_estimates_the_same_statistics(tmp_path: Path) -> None:
    loader = _LOADERS["loader"]()
    first = trained(loader, checkpoint=tmp_path / "a.pt")
    assert same(first, trained(_LOADERS["loader"](), checkpoint=tmp_path / "a.pt", resume=True))


@pytest.mark.parametrize("kind", ["loader", "global", "data set, NumPy", "data set, Python"])
def test_the_users_generators_stay_as_they_were_and_make_no_difference(kind: str) -> None:
    noisy = cimq.Hardware.preset("rram-wan2022").replace(rows=64)
    loader = _LOADERS[kind]()

    def state() -> list[Any]:
        own = loader.generator or getattr(loader.dataset, "generator", None)
        if isinstance(own, torch.Generator):
            mine = own.get_state().tolist()
        elif isinstance(own, np.random.Generator):
            mine = own.bit_generator.state["state"]
        else:
            mine = None if own is None else own.getstate()
        return [mine, torch.get_rng_state().tolist(), random.getstate(), np.random.get_state()[1].tolist()]

    before, q = state(), prepared(noisy)
    found = []
    for _ in range(2):
        network = copy.deepcopy(q)
        cimq.calibrate(network, loader, batches=1)
        cimq.reestimate_bn(network, loader, 2)
        accuracy = cimq.evaluate(network, loader, lambda out, y: out.square().mean(), batches=2)
        rows = [row.sqnr_db for row in cimq.doctor(network, loader, batches=1).rows]
        cimq.finetune(network, loader, epochs=1, val_loader=loader, progress=False)
        found.append((accuracy, rows, network.state_dict()))
        assert state() == before
    assert found[0][:2] == found[1][:2]
    assert same(found[0][2], found[1][2])


def test_nested_states_are_given_back_after_an_error() -> None:
    loader = _LOADERS["loader"]()
    assert loader.generator is not None
    before = loader.generator.get_state()
    seen = []

    def fail() -> None:
        with kept_random_state(nn.Identity(), 3, [loader, None, [], iter([])]):
            seen.append(loader.generator.initial_seed())
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        fail()
    assert seen == [3]
    assert torch.equal(loader.generator.get_state(), before)


def test_samplers_and_data_sets_are_told_the_epoch() -> None:
    class Stream(torch.utils.data.IterableDataset):  # type: ignore[type-arg]
        epoch = 0

        def __iter__(self) -> Any:
            return iter([])

        def set_epoch(self, epoch: int) -> None:
            self.epoch = epoch

    sampler = DistributedSampler(DATA, num_replicas=2, rank=0, seed=9)
    stream = Stream()
    for loader in (
        DataLoader(DATA, 16, sampler=sampler),
        DataLoader(DATA, batch_sampler=BatchSampler(sampler, 16, False)),  # type: ignore[arg-type]
        DataLoader(stream, 16),
    ):
        for epoch in (4, 2):
            start_epoch([loader, None], 0, epoch)
            assert epoch in (sampler.epoch, stream.epoch)
        sampler.set_epoch(0)
    assert sampler.seed == 9  # the order stays that of the sampler's own seed
    assert stream.epoch == 2
