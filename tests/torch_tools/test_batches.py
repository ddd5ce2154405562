"""Parts of batches."""

from __future__ import annotations

from collections import namedtuple
from typing import Any

import pytest
import torch

from cimq.torch_tools.batches import batch_size, first_samples

X, Y = torch.arange(12.0).reshape(6, 2), torch.arange(6)
Named = namedtuple("Named", ["x", "y"])


@pytest.mark.parametrize(
    "batch",
    [X, (X, Y), [X, Y], {"x": X, "labels": Y}, Named(X, Y), ((X, X), Y), [{"x": X}, {"labels": Y}]],
)
def test_every_tensor_is_cut(batch: Any) -> None:
    found = first_samples(batch, 4)
    assert type(found) is type(batch)
    assert batch_size(found) == 4
    tensors = torch.utils._pytree.tree_leaves(found)
    assert [len(tensor) for tensor in tensors] == [4] * len(tensors)
    assert first_samples(batch, 6) is batch


@pytest.mark.parametrize(
    "batch",
    [
        (X, ["a"] * 6),
        {"x": X, "mask": torch.ones(2, 2)},
        (X, torch.tensor(1.0)),
        (X, Y.to_sparse()),
        (torch.nn.utils.rnn.pack_sequence([X[0], X[1]]), Y[:2]),
    ],
)
def test_what_may_belong_to_any_sample_stays_whole(batch: Any) -> None:
    assert first_samples(batch, 1) is batch
