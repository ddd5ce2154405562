"""How large a search fits into a time.

Of the sizes that fit, the one with the largest product of what it does is taken (with exponents): time is then divided
in proportion to the exponents, and what one part does not need goes to the others.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

from cimq.policy_search.costs import Costs, Size
from cimq.policy_search.durations import spoken

# Of the time is kept back: measured costs are of a few steps.
_RESERVE = 0.1
_EVALUATIONS = (12, 16, 20, 30, 40, 50, 65, 80, 100, 125, 150, 200, 250, 300, 400, 500, 700, 1000)
_SHARED_EPOCHS = (1, 2, 3, 4, 6)
_FINALISTS = (1, 2, 3, 4, 6, 8)
_SHARES = (0.01, 0.015, 0.02, 0.03, 0.05, 0.07, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.7, 1.0)  # of an epoch
_FEWEST_BATCHES = 10
# What counts how much: a share of an epoch counts for the shared weights and for the short trainings.
_EXPONENTS = (1.0, 1.0, 1.0, 0.5)


def fitted(
    costs: Costs,
    seconds: float,
    *,
    evaluations: int | None = None,
    shared_epochs: int | None = None,
    train_batches: int | None = None,
    finalists: int | None = None,
    or_least: bool = False,
) -> Size:
    """The size of a search that fits.

    Args:
        costs: Measured.
        seconds: That are left.
        evaluations: What is given is kept, what is None is chosen; so for the others.
        shared_epochs: See `Size`.
        train_batches: See `Size`.
        finalists: See `Size`.
        or_least: Give the shortest of all where none fits.

    Raises:
        ValueError: If nothing fits; says what the least takes.
    """
    sizes = [
        Size(*values)
        for values in itertools.product(
            _EVALUATIONS if evaluations is None else [evaluations],
            _SHARED_EPOCHS if shared_epochs is None else [shared_epochs],
            _batches(costs.epoch_batches) if train_batches is None else [train_batches],
            _FINALISTS if finalists is None else [finalists],
        )
    ]
    fitting = [size for size in sizes if costs.total(size) <= (1 - _RESERVE) * seconds]
    if not fitting and or_least:
        return min(sizes, key=costs.total)
    if not fitting:
        least = min(costs.total(size) for size in sizes) / (1 - _RESERVE)
        raise ValueError(
            f"search: time_budget leaves {spoken(seconds)} after preparation, but the least that can be done takes "
            f"about {spoken(least)}: on this machine a training step takes {costs.step:.2g} s and measuring a policy "
            f"{costs.evaluation:.2g} s. A smaller search_samples, more workers or fewer finetune_epochs shorten that"
        )
    return max(fitting, key=lambda size: _worth(size, costs))


def _batches(epoch: int | None) -> Sequence[int | None]:
    if epoch is None:
        return [_FEWEST_BATCHES * 2**power for power in range(10)]
    fewest = min(epoch, _FEWEST_BATCHES)
    below = itertools.takewhile(lambda count: count < _SHARES[0] * epoch, (fewest * 2**power for power in range(60)))
    return [*below, *dict.fromkeys(max(fewest, round(share * epoch)) for share in _SHARES[:-1]), None]


def _worth(size: Size, costs: Costs) -> float:
    batches = size.train_batches or costs.epoch_batches or 1
    parts = (size.evaluations, batches, max(size.shared_epochs, 0.5), max(size.finalists, 0.5))
    return sum(exponent * math.log(part) for exponent, part in zip(_EXPONENTS, parts, strict=True))
