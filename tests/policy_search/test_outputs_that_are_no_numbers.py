"""Outputs that are no numbers have no damage that could be small: a search refuses them."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from small_searches import FAST, data, trained_network
from torch import nn

import cimq
from cimq.policy_search.evaluators import Measured, Units
from cimq.policy_search.evaluators.output_distance import OutputDistance
from cimq.policy_search.evaluators.racing import Racing
from cimq.policy_search.space import SearchSpace


@pytest.mark.parametrize("bad", [math.nan, -math.inf])
@pytest.mark.parametrize("of_fp32", [False, True])
def test_their_distance_is_no_number(bad: float, of_fp32: bool) -> None:
    batch = torch.zeros(4, 2), torch.zeros(4, dtype=torch.long)
    sound, broken = torch.zeros(4, 3), torch.zeros(4, 3)
    broken[1, 2] = bad
    found, wanted = (sound, broken) if of_fp32 else (broken, sound)
    distance = OutputDistance([wanted])
    distance.see(batch, found)
    assert not math.isfinite(distance.mean)


def test_a_race_does_not_make_them_harmless(space: SearchSpace) -> None:
    class Part:
        def __init__(self) -> None:
            self.value = 1.0

        def measure(self, policies: list[object]) -> list[Measured]:
            return [Measured(0.5, self.value, 0.25, Units((self.value,) * 16, (1.0,) * 16)) for _ in policies]

    part = Part()
    racing = Racing(part, part)  # type: ignore[arg-type]
    racing.aim(0.1, space.widest, 1.0)
    part.value = math.nan
    (found,) = racing.measure([space.widest])
    assert math.isnan(found.damage)


def masked(model: nn.Module, batch: Any) -> torch.Tensor:
    """Scores of a class that cannot be, as heads with masks give them."""
    output: torch.Tensor = model(batch[0])
    return output.masked_fill(torch.arange(6) == 5, -math.inf)


def test_a_search_refuses_them() -> None:
    options: dict[str, Any] = {**FAST, "shared_epochs": 0, "finetune_epochs": 0, "forward_fn": masked}
    with pytest.raises(ValueError, match=r"the damage of .* is no number; outputs must be finite"):
        cimq.search(trained_network(), data(16), val_loader=data(40)[16:], **options)
