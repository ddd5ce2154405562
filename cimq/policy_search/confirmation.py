"""What the confirmation set says of a trained network."""

from __future__ import annotations

import dataclasses
from typing import Any

from cimq.policy_search.paired_drop import Scores


@dataclasses.dataclass(frozen=True)
class Confirmed:
    """A trained policy, measured on data that the search never saw.

    Attributes:
        accuracy: As a fraction (or the user's metric).
        damage: Mean distance of the outputs from those of the fp32 model; None where it was not measured.
        scores: Sample by sample, or batch by batch; None where they are not known.
    """

    accuracy: float
    damage: float | None = None
    scores: Scores | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values for a file."""
        scores = self.scores
        return {
            "accuracy": self.accuracy,
            "damage": self.damage,
            "scores": None if scores is None else [list(scores.values), list(scores.weights), scores.unit],
        }

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> Confirmed:
        """From plain values.

        Raises:
            KeyError: If something is missing.
            TypeError: If something is of another type.
            ValueError: If something is no number.
        """
        damage, scores = fields["damage"], fields["scores"]
        if scores is not None:
            values, weights, unit = scores
            scores = Scores(tuple(map(float, values)), tuple(map(float, weights)), str(unit))
        return cls(float(fields["accuracy"]), None if damage is None else float(damage), scores)
