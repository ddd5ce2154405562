"""Geometry of the charts: where points, ticks and lines lie inside an SVG view box. Drawing is the template's."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence

from cimq.report.run_data import Evaluation, RunData

WIDTH, HEIGHT = 420.0, 300.0
LEFT, RIGHT, TOP, BOTTOM = 52.0, 410.0, 12.0, 258.0
_MIN_FOR_CROP = 8


@dataclasses.dataclass(frozen=True)
class Tick:
    """A labelled position on an axis."""

    at: float
    label: str


@dataclasses.dataclass(frozen=True)
class Mark:
    """One evaluation: its centre, its kind ("feasible", "infeasible", "below") and what a pointer over it shows."""

    x: float
    y: float
    kind: str
    title: str


@dataclasses.dataclass(frozen=True)
class Stage:
    """A part of a history: where it begins, and its name."""

    at: float
    label: str


@dataclasses.dataclass(frozen=True)
class Chart:
    """Everything that a chart draws, in view box units.

    Attributes:
        summary: The chart in a sentence, its text alternative.
        x_label: What the horizontal axis is.
        y_label: What the vertical axis is.
        x_ticks: Ticks from left to right.
        y_ticks: Ticks from the bottom up.
        marks: Evaluations.
        line: SVG path of best-so-far, or of the Pareto front.
        diamonds: Centres of the Pareto points.
        limit: Height of the constraint line.
        limit_label: Its label.
        below: Evaluations that lie under the axis and are drawn at its edge.
        uniform: SVG path of the front of the uniform policies.
        bars: SVG path of intervals.
        stages: Parts of a history, in order.
        least: Place of the line of the least speed-up that was asked for.
        least_label: Its label.
    """

    summary: str
    x_label: str
    y_label: str
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    marks: tuple[Mark, ...]
    line: str = ""
    diamonds: tuple[Mark, ...] = ()
    limit: float | None = None
    limit_label: str = ""
    below: int = 0
    uniform: str = ""
    bars: str = ""
    stages: tuple[Stage, ...] = ()
    least: float | None = None
    least_label: str = ""
    left: float = LEFT
    right: float = RIGHT
    top: float = TOP
    bottom: float = BOTTOM
    width: float = WIDTH
    height: float = HEIGHT


def history_chart(run: RunData, show: Callable[[float], str]) -> Chart | None:
    """Speed-up of every evaluation in the order made, and the best feasible one so far.

    Args:
        run: The run.
        show: Formats an accuracy.

    Returns:
        The chart, or None without evaluations.
    """
    evaluations = run.evaluations
    if not evaluations:
        return None
    speedups = [e.speedup for e in evaluations]
    to_x, x_ticks = axis(1, max(len(evaluations), 2), LEFT, RIGHT, whole=True, pad=0.02)
    to_y, y_ticks = axis(min(speedups), max(speedups), BOTTOM, TOP)
    marks = [_mark(to_x(n), to_y(e.speedup), run, e, show) for n, e in enumerate(evaluations, 1)]
    path, found = ("", _within_budget(evaluations)) if run.min_speedup else _best_so_far(run, to_x, to_y)
    summary = f"Speed-up of {len(evaluations)} evaluated policies in the order tried. {found}"
    stages = _stages(evaluations, to_x)
    counts = ", ".join(f"{e} of {name}" for name, e in _stage_sizes(evaluations))
    summary += f" By stage: {counts}."
    limit = run.least_speedup
    return Chart(
        summary,
        "evaluation",
        "speed-up over uniform 8-bit",
        x_ticks,
        y_ticks,
        tuple(marks),
        path,
        limit=None if limit is None else to_y(limit),
        limit_label="" if limit is None else f"at least {limit:g}x",
        stages=stages,
    )


def _best_so_far(run: RunData, to_x: Callable[[float], float], to_y: Callable[[float], float]) -> tuple[str, str]:
    """SVG path of the fastest that is within the accuracy, and a sentence."""
    path, best, best_at = "", -math.inf, 0
    for number, evaluation in enumerate(run.evaluations, 1):
        if evaluation.feasible and evaluation.speedup > best:
            start = f"M{place(to_x(number))}" if not path else f"H{place(to_x(number))}V"
            path += f"{start}{' ' if not path else ''}{place(to_y(evaluation.speedup))}"
            best, best_at = evaluation.speedup, number
    limit = "target damage" if run.ranked_by_damage else "accuracy limit"
    if not path:
        return "", f"None is within the {limit}."
    path += f"H{place(to_x(len(run.evaluations)))}"
    return path, f"The fastest one within the {limit} has {best:.2f}x, reached at evaluation {best_at}."


def _within_budget(evaluations: Sequence[Evaluation]) -> str:
    within = [(e.damage, number) for number, e in enumerate(evaluations, 1) if e.feasible and e.damage is not None]
    if not within:
        return "None is within the budget."
    damage, number = min(within)
    return f"The least damaged one within the budget has a damage of {damage:.3g}, evaluation {number}."


def stage_name(strategy: str) -> str:
    """What a reader is told of who proposed a policy."""
    return "uniform" if strategy == "baseline" else strategy


def _stage_sizes(evaluations: Sequence[Evaluation]) -> list[tuple[str, int]]:
    sizes: dict[str, int] = {}
    for evaluation in evaluations:
        name = stage_name(evaluation.strategy)
        sizes[name] = sizes.get(name, 0) + 1
    return list(sizes.items())


def _stages(evaluations: Sequence[Evaluation], to_x: Callable[[float], float]) -> tuple[Stage, ...]:
    """Where the proposer changes for the first time; later changes back and forth would cover the chart."""
    seen: dict[str, Stage] = {}
    for number, evaluation in enumerate(evaluations, 1):
        name = stage_name(evaluation.strategy)
        if name not in seen:
            seen[name] = Stage(to_x(number - 0.5) if seen else LEFT, name)
    return tuple(seen.values()) if len(seen) > 1 else ()


def tradeoff_chart(run: RunData, show: Callable[[float], str]) -> Chart | None:
    """Accuracy against speed-up of every evaluation, with the Pareto front and the accuracy limit.

    Args:
        run: The run.
        show: Formats an accuracy.

    Returns:
        The chart, or None without evaluations.
    """
    evaluations = run.evaluations
    if not evaluations:
        return None
    limit = run.search_limit
    shown = [e.accuracy for e in evaluations] + [p.accuracy for p in run.pareto]
    shown += [limit] if limit is not None else []
    speedups = [e.speedup for e in evaluations] + [p.speedup for p in run.pareto]
    floor = _floor([e.accuracy for e in evaluations], limit)
    to_x, x_ticks = axis(min(speedups), max(speedups), LEFT, RIGHT)
    percent = show(1.0).endswith("%")
    to_y, y_ticks = axis(max(min(shown), floor), max(shown), BOTTOM, TOP, percent=percent)
    marks = []
    for evaluation in evaluations:
        mark = _mark(to_x(evaluation.speedup), to_y(max(evaluation.accuracy, floor)), run, evaluation, show)
        marks.append(dataclasses.replace(mark, kind="below", y=BOTTOM) if evaluation.accuracy < floor else mark)
    front = sorted(run.pareto, key=lambda point: (point.speedup, -point.accuracy))
    diamonds = [
        Mark(to_x(p.speedup), to_y(p.accuracy), "pareto", f"Pareto point: {show(p.accuracy)}, {p.speedup:.3f}x")
        for p in front
        if p.accuracy >= floor
    ]
    line = "M" + "L".join(f"{place(d.x)} {place(d.y)}" for d in diamonds) if len(diamonds) > 1 else ""
    summary = f"Accuracy against speed-up of {len(evaluations)} evaluated policies. " + (
        "Pareto front: " + "; ".join(f"{show(p.accuracy)} at {p.speedup:.2f}x" for p in front) + "."
        if front
        else "There is no Pareto front."
    )
    summary += f" The accuracy limit is {show(limit)}." if limit is not None else ""
    return Chart(
        summary,
        "speed-up over uniform 8-bit",
        "accuracy in the search",
        x_ticks,
        y_ticks,
        tuple(marks),
        line,
        tuple(diamonds),
        to_y(limit) if limit is not None else None,
        f"limit {show(limit)}" if limit is not None else "",
        sum(mark.kind == "below" for mark in marks),
    )


def nice_ticks(low: float, high: float, about: int = 5, *, whole: bool = False) -> list[float]:
    """Round numbers (1, 2 or 5 times a power of ten apart) from `low` to `high`.

    Example:
        >>> nice_ticks(0.9, 3.1)
        [1.0, 1.5, 2.0, 2.5, 3.0]
    """
    raw = (high - low) / max(about - 1, 1)
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= raw * 0.79)
    step = max(step, 1.0) if whole else step
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(n * step, 12) for n in range(first, last + 1)]


def axis(
    low: float,
    high: float,
    start: float,
    end: float,
    *,
    whole: bool = False,
    pad: float = 0.06,
    percent: bool = False,
) -> tuple[Callable[[float], float], tuple[Tick, ...]]:
    """The map from values to positions, and the ticks. A single value gets room on both sides."""
    extent = high - low
    if extent <= 1e-12 * max(abs(low), abs(high), 1e-300):
        extent = max(abs(low) * 0.1, 1e-3)
        low, high = low - extent / 2, high + extent / 2
    low, high = low - pad * extent, high + pad * extent

    def at(value: float) -> float:
        return start + (value - low) / (high - low) * (end - start)

    values = nice_ticks(low, high, whole=whole)
    step = values[1] - values[0] if len(values) > 1 else high - low
    labels = [f"{_decimal(100 * v, 100 * step)} %" if percent else _decimal(v, step) for v in values]
    return at, tuple(Tick(at(value), text) for value, text in zip(values, labels, strict=True))


def _decimal(value: float, step: float) -> str:
    return f"{value:,.{min(max(0, -math.floor(math.log10(step) + 1e-9)), 9)}f}"


def _floor(accuracies: Sequence[float], limit: float | None) -> float:
    """Accuracy under which evaluations are drawn at the edge, so that a few collapsed ones do not flatten the chart."""
    if len(accuracies) < _MIN_FOR_CROP:
        return -math.inf
    ordered = sorted(accuracies)
    low, high = ordered[len(ordered) // 4], ordered[3 * len(ordered) // 4]
    floor = low - 1.5 * max(high - low, ordered[-1] - ordered[len(ordered) // 2])
    # What misses the limit by little is worth seeing.
    return floor if limit is None else min(floor, limit - 0.5 * max(ordered[-1] - limit, 0.0))


def _mark(x: float, y: float, run: RunData, evaluation: Evaluation, show: Callable[[float], str]) -> Mark:
    kind = "feasible" if evaluation.feasible else "infeasible"
    if run.min_speedup is not None:
        verdict = f"{'within' if evaluation.feasible else 'beyond'} the budget"
    elif evaluation.damage is None:
        verdict = "within the limit" if evaluation.feasible else "not accurate enough"
    else:
        verdict = f"damage {'within' if evaluation.feasible else 'beyond'} the target"
    text = f"evaluation {evaluation.index} ({evaluation.strategy}): {show(evaluation.accuracy)}"
    return Mark(x, y, kind, f"{text}, {evaluation.speedup:.3f}x, {verdict}")


def place(value: float) -> str:
    """A coordinate as text."""
    return f"{value:.1f}"
