"""Policies after the short training, and what they lost by it."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

from cimq.policy_search.confirmation import Confirmed
from cimq.policy_search.paired_drop import PairedDrop, paired_drop
from cimq.policy_search.space import Pairs

Train = Callable[[Pairs], tuple[Confirmed, Any]]
Ahead = Callable[[Sequence[Pairs]], None]


@dataclasses.dataclass(frozen=True)
class Trained:
    """A policy after the short training.

    Attributes:
        policy: (weight bits, activation bits) per layer.
        confirmed: What the confirmation set says.
        artefact: What training returned besides (what gives the model).
    """

    policy: Pairs
    confirmed: Confirmed
    artefact: Any

    @property
    def accuracy(self) -> float:
        """On the confirmation set."""
        return self.confirmed.accuracy

    def drop_from(self, reference: Trained) -> PairedDrop | None:
        """What it lost, sample by sample; None where that is not known. A policy loses nothing against itself."""
        mine, others = self.confirmed.scores, reference.confirmed.scores
        if mine is None or others is None:
            return None
        found = paired_drop(others, mine)
        if self.policy == reference.policy:
            return dataclasses.replace(found, drop=0.0, standard_error=0.0, interval=(0.0, 0.0))
        return found


class Judge:
    """Trains policies, once each, and compares them with the reference.

    Attributes:
        trained: All that was, in that order.
        reference: What the others are compared with.
        ahead: Is told which policies may be trained next, the likeliest first.

    Args:
        train: Trains a policy.
        ahead: As above.
        reference: Is trained first.
    """

    def __init__(self, train: Train, ahead: Ahead, reference: Pairs) -> None:
        self.ahead = ahead
        self.trained: dict[Pairs, Trained] = {}
        self._train = train
        self.reference = self.trained_as(reference)

    def trained_as(self, policy: Pairs) -> Trained:
        """The policy after training.

        Raises:
            ValueError: If its accuracy is not a number.
        """
        if policy not in self.trained:
            trained = Trained(policy, *self._train(policy))
            if math.isnan(trained.accuracy):
                raise ValueError(
                    f"search: on the confirmation set, the accuracy of {list(policy)} after training is not a number"
                )
            self.trained[policy] = trained
        return self.trained[policy]

    def all_trained(self, policies: Sequence[Pairs]) -> list[Trained]:
        """Policies after training, side by side where there are workers."""
        self.ahead([policy for policy in policies if policy not in self.trained])
        return [self.trained_as(policy) for policy in policies]

    def drop(self, policy: Pairs) -> float:
        """What it loses against the reference."""
        return self.reference.accuracy - self.trained_as(policy).accuracy
