"""What the confirmation set says of a trained network."""

from __future__ import annotations

import dataclasses

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
