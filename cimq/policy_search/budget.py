"""How much a search may measure, and how much it has measured."""

from __future__ import annotations


class Budget:
    """Counts measurements.

    Attributes:
        limit: Policies whose accuracy may be measured.
        evaluations: Policies whose accuracy was measured.
        sensitivities: Policies whose output was compared with that of the most bits, for a warm start. They are counted
            and not limited: one costs a forward pass over one batch.

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

    @property
    def left(self) -> int:
        """Evaluations that are still allowed."""
        return self.limit - self.evaluations
