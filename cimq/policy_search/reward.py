"""The reward of a candidate: how fast it is, less a soft penalty where it may be too inaccurate.

    R = ln(speed-up) - weight * s * softplus((damage / target - 1) / s + margin)

`damage` is the distance of the outputs from those of the fp32 model, `target` the one up to which the accuracy is
expected to hold after training, `s` how far a damage may be off, as a share. The penalty is smooth on both sides of the
target: a cliff rewards lucky measurements, and gives no direction to candidates beyond.
"""

from __future__ import annotations

import dataclasses
import math


@dataclasses.dataclass(frozen=True)
class Reward:
    """Reward of (damage, speed-up).

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

    def __call__(self, damage: float, speedup: float) -> float:
        """The reward; larger is better.

        Example:
            >>> reward = Reward(target=0.1)
            >>> reward(0.09, 2.5) > reward(0.02, 2.0) > reward(0.2, 2.6)
            True
        """
        beyond = (damage / self.target - 1) / self.noise
        return math.log(speedup) - self.weight * self.noise * _softplus(beyond + self.margin)

    def feasible(self, damage: float) -> bool:
        """Whether the damage is within the target."""
        return damage <= self.target * (1 + 1e-12)


def _softplus(x: float) -> float:
    return max(x, 0.0) + math.log1p(math.exp(-abs(x)))
