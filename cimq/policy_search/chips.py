"""Where cells vary, a policy is judged on several chips: on one, the policy that is lucky with it would win.

The batches of a held-out set take turns with the chips. Those of the set that confirms are not those of the set that
candidates are measured on, and none of them is among the first ones, which `cimq.evaluate_chips` takes by default.
"""

from __future__ import annotations

import dataclasses
import itertools
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

from cimq.errors import CimqWarning
from cimq.policy_search.data import HeldBatches, Splits
from cimq.quantization.inspection import chip_seeds, set_chip
from cimq.torch_tools.batches import batch_size, samples_between

CHIPS = 8
SEARCH_CHIP = 1_000_000  # the first of those that candidates are measured on
CONFIRMATION_CHIP = 2_000_000


def shared_out(splits: Splits) -> Splits:
    """The same held-out samples, in at least `CHIPS` batches each, where batches can be cut; a warning where not."""
    search, confirm = _in_batches(splits.search, "measures"), _in_batches(splits.confirm, "confirms")
    return dataclasses.replace(splits, search=search, confirm=confirm, digests=(search.digest, confirm.digest))


@contextmanager
def on_chips(model: nn.Module, batches: Iterable[Any], first: int) -> Iterator[Iterable[Any]]:
    """Batches that set the chip of the model as they are taken: chips first, first + 1, ... in turn.

    Afterwards the model is on the chips that it was on. A model whose cells do not vary is left alone.
    """
    before = chip_seeds(model)
    if not any(layer.hardware.varies for layer in before):
        yield batches
        return
    try:
        yield _InTurn(model, batches, first)
    finally:
        for layer, seed in before.items():
            layer.chip_seed = seed


class _InTurn:
    def __init__(self, model: nn.Module, batches: Iterable[Any], first: int) -> None:
        self._model, self._batches, self._first = model, batches, first

    def __iter__(self) -> Iterator[Any]:
        for number, batch in enumerate(self._batches):
            set_chip(self._model, self._first + number % CHIPS)
            yield batch


def _in_batches(batches: Iterable[Any], does: str) -> HeldBatches:
    held = batches if isinstance(batches, HeldBatches) else HeldBatches(batches)
    count = sum(1 for _ in held)
    if count >= CHIPS:
        return held
    pieces = -(-CHIPS // count)
    cut = HeldBatches([piece for batch in held for piece in _pieces(batch, pieces)])
    chips = min(CHIPS, sum(1 for _ in cut))
    if chips < CHIPS:
        warnings.warn(
            f"search: cells vary, but what {does} policies is {chips} batches, so that they are judged on {chips} "
            f"chips and not on {CHIPS}; give val_loader smaller batches",
            CimqWarning,
            stacklevel=4,
        )
    return cut


def _pieces(batch: Any, count: int) -> list[Any]:
    size = batch_size(batch)
    count = min(count, size)
    ends = [size * number // count for number in range(count + 1)]
    pieces = [samples_between(batch, begin, end) for begin, end in itertools.pairwise(ends)]
    return pieces if all(piece is not batch for piece in pieces) else [batch]
