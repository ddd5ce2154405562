"""One evaluated policy, and the front of the best ones."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

from cimq.policy_rows import checked_row, short_row
from cimq.policy_search.space import Pairs

_T = TypeVar("_T")


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """What was measured of one policy. One line of `evaluations.jsonl`.

    Attributes:
        index: Number of the evaluation, from 0.
        policy: (weight bits, activation bits) of every layer in module order, and ADC bits and mapping after them
            where they differ from the machine's.
        strategy: What proposed it: "baseline", "warm start", or the strategy's name.
        accuracy: On the search-validation set, as a fraction (or the user's metric).
        damage: Distance of the outputs from those of the fp32 model on the same set, see `OutputDistance`.
        time_us: Latency of one inference, by the closed form or of the program that the search is about.
        speedup: Against 8 bits everywhere.
        cost: What the objective counts: microseconds, picojoules, or their product.
        reward: What the agent was given.
        feasible: Whether the damage is within the search's target.
        seconds: What the measurement took.
        episode: The agent's episode; None for other proposals.
        rung: Name of the rung of evaluation that measured it, see `Ladder`; "" where there is but one.
        share: How much of the search-validation set was gone through for it: 1, or less or more where a race was run.
    """

    index: int
    policy: Pairs
    strategy: str
    accuracy: float
    damage: float
    time_us: float
    speedup: float
    cost: float
    reward: float
    feasible: bool
    seconds: float
    episode: int | None = None
    rung: str = ""
    share: float = 1.0

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {**fields, "policy": [list(pair) for pair in self.policy]}

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> Evaluation:
        """From plain values.

        Raises:
            ValueError: If a key is missing, unknown or of the wrong type.
        """
        names = {field.name for field in dataclasses.fields(cls)}
        if set(fields) != names:
            raise ValueError(f"an evaluation must have the keys {', '.join(sorted(names))}; got {sorted(fields)}")
        numbers = ("index", "accuracy", "damage", "time_us", "speedup", "cost", "reward", "seconds")
        wrong = [key for key in numbers if isinstance(fields[key], bool) or not isinstance(fields[key], (int, float))]
        if wrong:
            raise ValueError(f"an evaluation's {wrong[0]} must be a number, got {fields[wrong[0]]!r}")
        try:
            policy = tuple(short_row(*checked_row(row, "a row")) for row in fields["policy"])
        except (TypeError, ValueError):
            raise ValueError(f"an evaluation's policy must be rows [w, a], got {fields['policy']!r}") from None
        return cls(**{**fields, "policy": policy})


def front_of(points: Sequence[tuple[float, float]]) -> list[int]:
    """Positions of the points (time, damage) that no other beats in both, fastest first; of equals the earliest.

    Example:
        >>> front_of([(5.0, 0.1), (3.0, 0.2), (4.0, 0.3), (3.0, 0.2)])
        [1, 0]
    """
    front: list[int] = []
    for position in sorted(range(len(points)), key=points.__getitem__):
        if not front or points[position][1] < points[front[-1]][1]:
            front.append(position)
    return front


def evenly_spaced(items: Sequence[_T], count: int) -> list[_T]:
    """At most so many, the first and the last among them; of one that is wanted the first.

    Example:
        >>> evenly_spaced("abcdefg", 3), evenly_spaced("ab", 3), evenly_spaced("abc", 1), evenly_spaced("abc", 0)
        (['a', 'd', 'g'], ['a', 'b'], ['a'], [])
    """
    if len(items) <= count:
        return list(items)
    if count < 2:
        return list(items[: max(0, count)])
    return [items[round(i * (len(items) - 1) / (count - 1))] for i in range(count)]


def pareto_front(evaluations: Iterable[Evaluation]) -> list[Evaluation]:
    """Those that no other beats in both damage and cost, cheapest first; of equals the earliest.

    Example:
        >>> def point(index, damage, time):
        ...     return Evaluation(index, ((8, 8),), "random", 0.9, damage, time, 1.0, time, 0.0, True, 0.0)
        >>> [e.index for e in pareto_front([point(0, 0.1, 5.0), point(1, 0.2, 3.0), point(2, 0.3, 4.0)])]
        [1, 0]
    """
    points = list(evaluations)
    return [points[position] for position in front_of([(e.cost, e.damage) for e in points])]
