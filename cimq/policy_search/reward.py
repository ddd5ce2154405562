"""The reward of a candidate: what strategies make large.

Where the accuracy is bounded: how fast it is, less a soft penalty where it may be too inaccurate.

    R = ln(speed-up) - weight * s * softplus((damage / target - 1) / s + margin)

`damage` is the distance of the outputs from those of the fp32 model, `target` the one up to which the accuracy is
expected to hold after training, `s` how far a damage may be off, as a share. The penalty is smooth on both sides of the
target: a cliff rewards lucky measurements, and gives no direction to candidates beyond.

Where the cost is bounded: how little damaged it is.

    R = -ln(damage / target) within the budget; beyond, less than that of any policy within

A cost is known exactly, so that a cliff rewards no luck; what strategies propose is within the budget anyway.
"""

from __future__ import annotations

import dataclasses
import math

from cimq.policy_search.cost_limit import CostLimit

# Rewards of policies within the budget are above the negative of it; what is beyond is below.
_BEYOND = 100.0
_TINY = 1e-12


@dataclasses.dataclass(frozen=True)
class Reward:
    """Reward of (damage, speed-up), the fastest within a damage.

    Attributes:
        target: Damage that is wanted at most, more than 0.
        noise: Share by which a damage may be off.
        weight: Penalty for a damage of twice the target.
        margin: How many `noise` inside the target the penalty begins.

    Raises:
        ValueError: For a target or a noise that is not above 0.
    """

    target: float
    noise: float = 0.02
    weight: float = 5.0
    margin: float = 0.5

    def __post_init__(self) -> None:
        if not (self.target > 0 and self.noise > 0):
            raise ValueError(f"search: target and noise must be above 0, got {self.target} and {self.noise}")

    @property
    def limit(self) -> CostLimit | None:
        """What proposals may cost: anything."""
        return None

    def __call__(self, damage: float, speedup: float) -> float:
        """The reward; larger is better.

        Example:
            >>> reward = Reward(target=0.1)
            >>> reward(0.09, 2.5) > reward(0.02, 2.0) > reward(0.2, 2.6)
            True
        """
        beyond = (damage / self.target - 1) / self.noise
        return math.log(speedup) - self.weight * self.noise * _softplus(beyond + self.margin)

    def feasible(self, damage: float, speedup: float) -> bool:
        """Whether the damage is within the target, whatever the speed-up."""
        return damage <= self.target * (1 + 1e-12)


@dataclasses.dataclass(frozen=True)
class LeastDamage:
    """Reward of (damage, speed-up), the least damage within a cost.

    Attributes:
        target: The damage with the reward 0, more than 0: that of the least damaged uniform policy which fits.
        limit: What proposals may cost.

    Raises:
        ValueError: For a target that is not above 0.
    """

    target: float
    limit: CostLimit

    def __post_init__(self) -> None:
        if not self.target > 0:
            raise ValueError(f"search: target must be above 0, got {self.target}")

    def __call__(self, damage: float, speedup: float) -> float:
        """The reward; larger is better."""
        if not self.feasible(damage, speedup):
            return -_BEYOND - math.log(self.limit.gain / speedup)
        return max(-_BEYOND, -math.log(max(damage / self.target, _TINY)))

    def feasible(self, damage: float, speedup: float) -> bool:
        """Whether the speed-up (or what the objective has in its place) is within the budget, whatever the damage."""
        return speedup >= self.limit.gain


AnyReward = Reward | LeastDamage


def _softplus(x: float) -> float:
    return max(x, 0.0) + math.log1p(math.exp(-abs(x)))
