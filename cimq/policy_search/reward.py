"""The reward of a candidate: how fast it is, less a soft penalty where it may be too inaccurate.

    R = ln(speed-up) - lambda * s * softplus((drop - tolerance + k*s) / s)

`drop` is the reference accuracy minus the candidate's, `s` the standard deviation of a measured accuracy. The penalty
is smooth on both sides of the target: a cliff rewards lucky measurements, and gives no direction to candidates beyond.
"""

from __future__ import annotations

import dataclasses
import math


def binomial_noise(accuracy: float, samples: int) -> float:
    """Standard deviation sqrt(p(1-p)/n) of an accuracy measured on n samples.

    p is taken as (accuracy*n + 1) / (n + 2), so that a perfect score on few samples is not taken as certain.
    """
    p = (min(max(accuracy, 0.0), 1.0) * samples + 1) / (samples + 2)
    return math.sqrt(p * (1 - p) / samples)


@dataclasses.dataclass(frozen=True)
class Reward:
    """Reward of (accuracy, speed-up).

    Attributes:
        reference: Accuracy of the reference, as a fraction.
        tolerance: Largest drop that is wanted, as a fraction (0.01 is one percentage point).
        noise: Standard deviation of one accuracy measurement, as a fraction; see `binomial_noise`.
        weight: lambda: penalty per unit of accuracy; 100 is 1 per percentage point.
        margin: k: how many standard deviations inside the tolerance the penalty begins.
    """

    reference: float
    tolerance: float
    noise: float
    weight: float = 100.0
    margin: float = 0.5

    def __call__(self, accuracy: float, speedup: float) -> float:
        """The reward; larger is better.

        Example:
            >>> reward = Reward(reference=0.92, tolerance=0.01, noise=0.002)
            >>> reward(0.915, 2.5) > reward(0.92, 2.0) > reward(0.89, 2.6)
            True
        """
        drop = self.reference - accuracy
        scale = max(self.noise, 1e-6)
        return math.log(speedup) - self.weight * scale * _softplus((drop - self.tolerance) / scale + self.margin)

    def feasible(self, accuracy: float) -> bool:
        """Whether the measured drop is within the tolerance."""
        return self.reference - accuracy <= self.tolerance + 1e-12


def _softplus(x: float) -> float:
    return max(x, 0.0) + math.log1p(math.exp(-abs(x)))
