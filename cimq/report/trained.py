"""What a search trained, and how its rungs of evaluation agree: parts of result.json that tell how far to trust it."""

from __future__ import annotations

import dataclasses

from cimq.report.fields import Fields, Policy, read_policy, short


@dataclasses.dataclass(frozen=True)
class TrainedNetwork:
    """A network that was trained and measured on the confirmation set.

    Attributes:
        name: "uniform 4-bit", "candidate 5".
        policy: Its bits.
        accuracy: On the confirmation set.
        time_us: Of one inference.
        speedup: Over uniform 8-bit.
        drop: What it lost against uniform 8-bit, None where it was not compared sample by sample.
        interval: 95 % interval of the drop; None where that is unknown.
        saved: Where its weights lie in the folder of the run, if they do.
    """

    name: str
    policy: Policy
    accuracy: float
    time_us: float
    speedup: float
    drop: float | None
    interval: tuple[float, float] | None
    saved: str | None = None

    @property
    def uniform(self) -> bool:
        """Whether it has the same bits everywhere, but for what is fixed or widened for nothing."""
        return self.name.startswith("uniform")


@dataclasses.dataclass(frozen=True)
class Correlation:
    """Rank correlation of two rungs of evaluation."""

    lower: str
    higher: str
    value: float
    interval: tuple[float, float]
    count: int
    enough: bool


@dataclasses.dataclass(frozen=True)
class Trust:
    """How far the result can be trusted; empty for a run of an earlier version.

    Attributes:
        verdict: Whether the drop can be told from noise, in a sentence.
        trained: Everything that was trained, in order.
        correlations: Of every two rungs that were measured.
        passed_over: Rungs that do not predict.
        ranking: The rung that candidates were ranked by.
        target_damage: Damage that the search aimed at.
    """

    verdict: str | None = None
    trained: tuple[TrainedNetwork, ...] = ()
    correlations: tuple[Correlation, ...] = ()
    passed_over: tuple[str, ...] = ()
    ranking: str | None = None
    target_damage: float | None = None

    @property
    def rungs(self) -> list[str]:
        """Names of the rungs, from the lowest."""
        return list(dict.fromkeys(name for c in self.correlations for name in (c.lower, c.higher)))

    def between(self, lower: str, higher: str) -> Correlation | None:
        """The correlation of two rungs."""
        return next((c for c in self.correlations if (c.lower, c.higher) == (lower, higher)), None)


def read_trust(result: Fields) -> Trust:
    """From result.json.

    Raises:
        ValueError: If something is damaged; names the file and the key.
    """

    def each(key: str) -> list[Fields]:
        items = result.items(key) if result.has(key) else []
        return [Fields(item, f"{result.where}: {key}[{i}]") for i, item in enumerate(items)]

    saved = {read_policy(f): f.text("file") for f in each("pareto_models") if f.has("file")}
    passed = result.items("passed_over") if result.has("passed_over") else []
    return Trust(
        result.optional("verdict", result.text),
        tuple(_trained(fields, saved) for fields in each("trained")),
        tuple(
            Correlation(
                fields.text("lower"),
                fields.text("higher"),
                fields.number("correlation"),
                _interval(fields),
                fields.count("count"),
                fields.flag("enough"),
            )
            for fields in each("rungs")
        ),
        tuple(str(name) for name in passed),
        result.text("ranking") if result.has("ranking") and result.text("ranking") else None,
        result.optional("target_damage", result.number),
    )


def _trained(fields: Fields, saved: dict[Policy, str]) -> TrainedNetwork:
    drop = fields.fields("drop") if fields.has("drop") else None
    policy = read_policy(fields)
    return TrainedNetwork(
        fields.text("name"),
        policy,
        fields.number("accuracy"),
        fields.number("time_us"),
        fields.number("speedup"),
        None if drop is None else drop.number("drop"),
        _interval(drop) if drop is not None and drop.has("interval") else None,
        saved.get(policy),
    )


def _interval(fields: Fields) -> tuple[float, float]:
    ends = fields.items("interval")
    if len(ends) != 2 or not all(isinstance(end, (int, float)) and not isinstance(end, bool) for end in ends):
        raise ValueError(f"{fields.where}: 'interval' must be two numbers, got {short(ends)}")
    return float(ends[0]), float(ends[1])
