"""The three sets of a search."""

from __future__ import annotations

import itertools
import pickle
import warnings
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, IterableDataset, Subset, TensorDataset, WeightedRandomSampler

from cimq import CimqWarning
from cimq.policy_search.data import FirstBatches, HeldBatches, Splits, split_loaders


def dataset(count: int = 100) -> TensorDataset:
    return TensorDataset(torch.arange(float(count)).reshape(-1, 1), torch.zeros(count, dtype=torch.long))


def values(loader: Any) -> list[int]:
    return [int(value) for x, _ in loader for value in x.flatten()]


def split(loader: Any, val_loader: Any = None, **options: Any) -> Splits:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CimqWarning)
        return split_loaders(loader, val_loader, **{"seed": 0, "search_samples": 1000, **options})


def test_own_data_is_split_into_three_disjoint_sets() -> None:
    parts = split(DataLoader(dataset(), batch_size=8))
    sets = [set(values(part)) for part in (parts.train, parts.search, parts.confirm)]
    assert [len(s) for s in sets] == [80, 10, 10]
    assert set.union(*sets) == set(range(100))
    assert parts.samples == (10, 10)
    assert next(iter(parts.train))[0].shape[0] == 8


def test_the_split_depends_on_the_seed_alone() -> None:
    first, second, other = (split(DataLoader(dataset(), batch_size=8), seed=seed) for seed in (1, 1, 2))
    assert values(first.search) == values(second.search) != values(other.search)
    assert values(first.train) == values(second.train)


def test_splitting_own_data_warns_once() -> None:
    with pytest.warns(CimqWarning, match="no val_loader given") as caught:
        split_loaders(DataLoader(dataset(), batch_size=8), None, seed=0, search_samples=1000)
    assert len(caught) == 1


def test_validation_data_is_halved_and_train_is_left_alone() -> None:
    loader = DataLoader(dataset(), batch_size=8)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        parts = split_loaders(loader, DataLoader(dataset(50), batch_size=8), seed=0, search_samples=20)
    assert parts.train is loader
    assert parts.samples == (20, 25)
    assert not set(values(parts.search)) & set(values(parts.confirm))


def test_lists_of_batches() -> None:
    batches = [(torch.full((4, 1), float(i)), torch.zeros(4)) for i in range(20)]
    parts = split(batches)
    assert parts.samples == (8, 8)
    assert sorted({*values(parts.train), *values(parts.search), *values(parts.confirm)}) == list(range(20))
    halves = split(batches, iter(batches[:4]))
    assert sorted({*values(halves.search), *values(halves.confirm)}) == [0, 1, 2, 3]


def test_collation_batch_size_and_shuffling_of_the_training_part() -> None:
    def collate(rows: Any) -> Any:
        return {"x": torch.stack([x for x, _ in rows]) * 2, "y": torch.stack([y for _, y in rows])}

    parts = split(DataLoader(dataset(), batch_size=16, collate_fn=collate, drop_last=True))
    batches = list(parts.train)
    assert [batch["x"].shape[0] for batch in batches] == [16] * 5
    first = [int(v) for v in batches[0]["x"].flatten()]
    assert all(v % 2 == 0 for v in first)
    assert first != sorted(first)


def test_a_sampler_that_cannot_be_kept_is_named() -> None:
    loader = DataLoader(dataset(), batch_size=8, sampler=WeightedRandomSampler([1.0] * 100, 100))
    with pytest.warns(CimqWarning) as caught:
        split_loaders(loader, None, seed=0, search_samples=10)
    assert any("WeightedRandomSampler of loader is not kept" in str(warning.message) for warning in caught)


class Stream(IterableDataset[Any]):
    def __iter__(self) -> Any:
        return iter(dataset())


def test_what_has_no_length_asks_for_val_loader() -> None:
    for loader in (DataLoader(Stream(), batch_size=8), iter([])):
        with pytest.raises(ValueError, match="give val_loader as well"):
            split(loader)
    with pytest.raises(ValueError, match="val_loader must have a length"):
        split([], DataLoader(Stream(), batch_size=8))
    with pytest.raises(ValueError, match="at least 3 to be split, got 2"):
        split(DataLoader(dataset(2)))


def test_held_batches_are_the_same_at_every_pass() -> None:
    held = HeldBatches(DataLoader(dataset(), batch_size=8, shuffle=True), limit=3)
    assert values(held) == values(held)
    assert len(values(held)) == 24 == held.samples


def test_the_first_part_of_the_held_out_data_is_a_sample_of_all() -> None:
    """Of data that are sorted by class, as folders of images are."""
    classes = TensorDataset(torch.zeros(2000, 1), torch.arange(2000) // 200)
    parts = split(DataLoader(classes, batch_size=50))
    for held in (parts.search, parts.confirm):
        first = next(iter(held))[1]
        assert len(set(first.tolist())) >= 8


def test_what_is_held_goes_to_workers_without_its_source() -> None:
    loader = DataLoader(TensorDataset(torch.zeros(10_000, 8)), batch_size=8)
    held = HeldBatches(itertools.islice(loader, 3), limit=3)
    assert len(pickle.dumps(held)) < 10_000
    assert len(pickle.dumps(HeldBatches(DataLoader(Subset(loader.dataset, range(8)))))) < 10_000
    assert held.samples == 24
    assert [len(x) for (x,) in held] == [len(x) for (x,) in held] == [8, 8, 8]


def test_some_batches_of_a_list_are_spread_over_it() -> None:
    assert list(FirstBatches(list(range(10)), 4)) == [0, 2, 5, 7]
    assert list(FirstBatches([1, 2], 4)) == [1, 2]
    assert len(FirstBatches(list(range(10)), 4)) == 4


def test_a_loader_that_does_not_shuffle_is_named() -> None:
    data = TensorDataset(torch.zeros(40, 1), torch.arange(40))
    with pytest.warns(CimqWarning, match="loader does not shuffle, and its first 3 of 10 batches"):
        FirstBatches(DataLoader(data, batch_size=4), 3)
    FirstBatches(DataLoader(data, batch_size=4, shuffle=True), 3)
    FirstBatches(DataLoader(data, batch_size=4), 10)
