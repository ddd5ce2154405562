"""The three disjoint sets of a search: train, search-validation, confirmation."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import warnings
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
from torch.utils.data import DataLoader, IterableDataset, RandomSampler, SequentialSampler, Subset

from cimq.errors import CimqWarning
from cimq.torch_tools.batches import batch_size, tensors_of
from cimq.training.progress import length_of

_SHARE = 0.1  # of the data, for each of the two held-out sets
_CONFIRMATION_SAMPLES = 5000
_HELD_BYTES = 512 * 1024 * 1024


@dataclasses.dataclass(frozen=True)
class Splits:
    """Loaders of the three sets.

    Attributes:
        train: For calibration, batch statistics and fine-tuning.
        search: For the accuracy of candidates.
        confirm: For the final pick; candidates of the search never saw it.
        samples: Sizes of `search` and `confirm`.
        digests: Of what is in them.
    """

    train: Iterable[Any]
    search: Iterable[Any]
    confirm: Iterable[Any]
    samples: tuple[int, int]
    digests: tuple[str, str] = ("", "")

    def training_size(self) -> dict[str, int | None]:
        """Batches of an epoch, and samples; None where that is not known."""
        data = getattr(self.train, "dataset", None)
        return {"batches": _length(self.train), "samples": None if data is None else _length(data)}


def _length(what: Any) -> int | None:
    try:
        return len(what)
    except TypeError:  # a stream
        return None


def split_loaders(loader: Iterable[Any], val_loader: Iterable[Any] | None, *, seed: int, search_samples: int) -> Splits:
    """Splits what the user gave.

    Without `val_loader`, the data set of `loader` (or a list of batches) is split, seeded: 10 % search-validation (at
    most `search_samples`), 10 % confirmation, the rest train; transforms, collation and batch size are kept. With it,
    `loader` is train and `val_loader` is split in halves.

    Raises:
        TypeError: If `loader` can be gone through only once.
        ValueError: If a data set has no length, or too few samples; says to give `val_loader`.
    """
    if val_loader is None:
        warnings.warn(
            "search: no val_loader given, candidates are measured on a part of loader's data; if the model was trained "
            "on it, their accuracy is optimistic",
            CimqWarning,
            stacklevel=3,
        )
        parts = _split(loader, seed, [_SHARE, _SHARE], [search_samples, _CONFIRMATION_SAMPLES], "loader", rest=True)
        search, confirm, train = parts
    else:
        if isinstance(loader, Iterator):
            raise TypeError(
                "search: loader must be one that can be gone through several times (a DataLoader, a list), got "
                f"{type(loader).__name__}"
            )
        train = loader
        search, confirm = _split(
            val_loader, seed, [0.5, 0.5], [search_samples, _CONFIRMATION_SAMPLES], "val_loader", rest=False
        )
    held = HeldBatches(search), HeldBatches(confirm)
    samples = (held[0].samples, held[1].samples)
    if min(samples) < 1:
        raise ValueError(f"search: the held-out sets must not be empty, got {samples[0]} and {samples[1]} samples")
    return Splits(train, *held, samples, (held[0].digest, held[1].digest))


class HeldBatches:
    """Batches kept in memory after the first pass, if they are not too large; the same values at every pass.

    Attributes:
        source: Where they come from; empty where they are held. It would otherwise go to every worker with them, and
            an iterator over a loader is nothing that can be sent.
        samples: How many they hold.
        digest: Of the numbers in them.
    """

    def __init__(self, batches: Iterable[Any], limit: int | None = None) -> None:
        self._held: list[Any] | None = []
        self.source = batches
        self.samples = 0
        size, seen = 0, hashlib.sha256()
        for number, batch in enumerate(batches):
            if limit is not None and number >= limit:
                break
            self.samples += batch_size(batch)
            size += _bytes(batch)
            for tensor in tensors_of(batch):
                seen.update(f"{tuple(tensor.shape)}{tensor.dtype}".encode())
                if tensor.layout == torch.strided:
                    seen.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
            if self._held is not None:
                self._held.append(batch)
            if size > _HELD_BYTES and limit is None:
                self._held = None
        if self._held is not None:
            self.source = ()
        self.digest = seen.hexdigest()[:16]  # is shown where it differs

    def __iter__(self) -> Iterator[Any]:
        return iter(self.source if self._held is None else self._held)


class FirstBatches:
    """Some batches of every pass through a loader: the first, others in every epoch where it shuffles; of a list, which
    does not, as many with even steps between them.

    Attributes:
        loader: Where they come from.

    Args:
        loader: Can be gone through several times.
        count: How many.
    """

    def __init__(self, loader: Iterable[Any], count: int) -> None:
        self.loader = loader
        self._count = count
        length = length_of(loader)
        sampler = loader.sampler if isinstance(loader, DataLoader) else None
        if isinstance(sampler, SequentialSampler) and length is not None and count < length:
            warnings.warn(
                f"search: loader does not shuffle, and its first {count} of {length} batches are all that an epoch is "
                "trained on; pass shuffle=True, or finetune_batches=None and no train_batches for whole epochs",
                CimqWarning,
                stacklevel=2,
            )

    def __len__(self) -> int:
        length = length_of(self.loader)
        return self._count if length is None else min(self._count, length)

    def __iter__(self) -> Iterator[Any]:
        if isinstance(self.loader, Sequence) and self._count < len(self.loader):
            return (self.loader[number * len(self.loader) // self._count] for number in range(self._count))
        return itertools.islice(self.loader, self._count)


def _split(
    source: Iterable[Any], seed: int, shares: Sequence[float], caps: Sequence[int], name: str, *, rest: bool
) -> list[Iterable[Any]]:
    """Parts by share, each at most its cap; with `rest`, what is left as one more."""
    if isinstance(source, DataLoader):
        dataset = source.dataset
        length = length_of(dataset)
        if isinstance(dataset, IterableDataset) or length is None:
            raise _no_length(name)
        parts = _split_indices(length, seed, shares, caps, name, rest)
        last = len(parts) - 1
        return [_subset_loader(source, part, seed, name, train=rest and i == last) for i, part in enumerate(parts)]
    if isinstance(source, Sequence) and not isinstance(source, (str, bytes)):
        sizes = max(1, batch_size(source[0])) if len(source) else 1
        parts = _split_indices(
            len(source), seed, shares, [max(1, cap // sizes) for cap in caps], f"batches of {name}", rest
        )
        return [[source[index] for index in part] for part in parts]
    if rest:
        raise _no_length(name)
    batches = list(source)
    return [batches[0::2], batches[1::2]]


def _no_length(name: str) -> ValueError:
    hint = (
        "give val_loader as well" if name == "loader" else "give a loader of a map-style data set, or a list of batches"
    )
    return ValueError(f"search: the data set of {name} must have a length to be split; {hint}")


def _split_indices(
    count: int, seed: int, shares: Sequence[float], caps: Sequence[int], name: str, rest: bool
) -> list[list[int]]:
    sizes = [min(cap, max(1, int(count * share))) for share, cap in zip(shares, caps, strict=True)]
    if count < sum(sizes) + rest:
        raise ValueError(f"search: {name} must hold at least {len(sizes) + rest} to be split, got {count}")
    order = torch.randperm(count, generator=torch.Generator("cpu").manual_seed(seed), device="cpu").tolist()
    parts, start = [], 0
    for size in sizes:
        # In the order drawn: the first part of them, on which sensitivities are measured, is a sample of all, though
        # data sets are often sorted by class.
        parts.append(order[start : start + size])
        start += size
    return [*parts, sorted(order[start:])] if rest else parts


def _subset_loader(
    loader: DataLoader[Any], indices: list[int], seed: int, name: str, *, train: bool
) -> DataLoader[Any]:
    size = loader.batch_size
    if size is None and loader.batch_sampler is not None:
        size = getattr(loader.batch_sampler, "batch_size", None)
        if not isinstance(size, int):
            raise ValueError(f"search: the batch_sampler of {name} has no batch_size; give val_loader as well")
    if train and not isinstance(loader.sampler, (RandomSampler, SequentialSampler)):
        warnings.warn(
            f"search: the {type(loader.sampler).__name__} of loader is not kept when its data is split; the training "
            "part is shuffled",
            CimqWarning,
            stacklevel=5,
        )
    return DataLoader(
        Subset(loader.dataset, indices),
        batch_size=size,
        shuffle=train,
        drop_last=train and size is not None and loader.drop_last and len(indices) >= size,
        num_workers=loader.num_workers,
        collate_fn=loader.collate_fn,
        pin_memory=loader.pin_memory,
        timeout=loader.timeout,
        worker_init_fn=loader.worker_init_fn,
        multiprocessing_context=loader.multiprocessing_context,
        generator=torch.Generator("cpu").manual_seed(seed),
    )


def _bytes(batch: Any) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors_of(batch))
