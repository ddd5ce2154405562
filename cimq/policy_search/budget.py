"""How much a search may measure, and how much it has measured."""

from __future__ import annotations

import math

# Sensitivities are measured on so large a share of the search-validation set, and count as such.
SENSITIVITY_SHARE = 0.25


class Budget:
    """Counts measurements.

    Attributes:
        limit: Policies that may be measured on the whole search-validation set.
        evaluations: Policies that were.
        sensitivities: Policies that were measured on `SENSITIVITY_SHARE` of it.

    Args:
        limit: At least 1.

    Raises:
        ValueError: For another limit.
    """

    def __init__(self, limit: int) -> None:
        if isinstance(limit, bool) or not isinstance(limit, int) or limit < 1:
            raise ValueError(f"search: evaluations must be an integer of at least 1, got {limit!r}")
        self.limit = limit
        self.evaluations = 0
        self.sensitivities = 0

    def spend(self, share: float) -> None:
        """Counts a measurement.

        Args:
            share: Of the search-validation set, in whole `SENSITIVITY_SHARE`.
        """
        parts = round(share / SENSITIVITY_SHARE)
        whole = round(1 / SENSITIVITY_SHARE)
        self.evaluations += parts // whole
        self.sensitivities += parts % whole

    @property
    def left(self) -> int:
        """Evaluations that are still allowed."""
        return self.allowed(1.0)

    def allowed(self, share: float) -> int:
        """Measurements that are still allowed, each of which may take as much.

        Args:
            share: Of the search-validation set, for each.
        """
        left = self.limit - self.evaluations - SENSITIVITY_SHARE * self.sensitivities
        return max(0, math.floor(left / share))
