"""What strategies are told besides the trials."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from cimq.policy_search.space import Pairs


@dataclasses.dataclass(frozen=True)
class StrategyOptions:
    """Settings of a strategy.

    Attributes:
        seed: Of everything random.
        batch: Policies per update of the agent, at least 2.
        damage: For the warm start: distance between the model's outputs under a policy and with the most bits. None:
            the agent starts from a uniform distribution.
    """

    seed: int = 0
    batch: int = 8
    damage: Callable[[Pairs], float] | None = None
