"""Geometry of the charts that set what was found against the uniform policies: before training, and after."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from cimq.report.charts import BOTTOM, LEFT, RIGHT, TOP, Chart, Mark, Tick, axis, place, stage_name
from cimq.report.run_data import Evaluation, RunData
from cimq.report.trained import TrainedNetwork

# Beyond so many times the target, policies are drawn at the edge: they are of no use, and would flatten the rest.
_WORTH_SEEING = 30.0


def damage_chart(run: RunData) -> Chart | None:
    """Damage against speed-up of every evaluation, with the front of all and that of the uniform policies.

    Args:
        run: The run.

    Returns:
        The chart, or None where there are no evaluations, or some have no damage above 0.
    """
    points = [(e, e.damage) for e in run.evaluations if e.damage is not None and e.damage > 0]
    if not points or len(points) < len(run.evaluations):
        return None
    target = run.trust.target_damage
    worst = max(damage for _, damage in points)
    ceiling = min(worst, _WORTH_SEEING * target) if target else worst
    shown = [damage for _, damage in points if damage <= ceiling] + ([target] if target else [])
    to_x, x_ticks = _speedup_axis(run, [e.speedup for e, _ in points])
    to_y, y_ticks = _log_axis(min(shown), max(shown))
    marks = []
    for evaluation, damage in points:
        beyond = damage > ceiling
        kind = "below" if beyond else "feasible" if evaluation.feasible else "infeasible"
        if not beyond and evaluation.strategy == "baseline":
            kind = "uniform"
        text = f"evaluation {evaluation.index} ({stage_name(evaluation.strategy)}): damage {damage:.4g}"
        height = BOTTOM if beyond else to_y(damage)
        marks.append(Mark(to_x(evaluation.speedup), height, kind, f"{text}, {evaluation.speedup:.3f}x"))
    found = _front(points, ceiling)
    uniform = _front([(e, d) for e, d in points if e.strategy == "baseline"], ceiling)
    diamonds = tuple(
        Mark(to_x(e.speedup), to_y(d), "pareto", f"front: damage {d:.4g}, {e.speedup:.3f}x") for e, d in found
    )
    summary = f"Damage against speed-up of {len(points)} evaluated policies. Front: " + "; ".join(
        f"{d:.3g} at {e.speedup:.2f}x" for e, d in found
    )
    summary += ". Front of the uniform policies: " + "; ".join(f"{d:.3g} at {e.speedup:.2f}x" for e, d in uniform)
    return Chart(
        f"{summary}." + (f" The search aimed at {target:.3g}." if target else "") + _asked_for(run),
        "speed-up over uniform 8-bit",
        "damage",
        x_ticks,
        y_ticks,
        tuple(marks),
        _path([(d.x, d.y) for d in diamonds]),
        diamonds,
        to_y(target) if target else None,
        f"target {target:.3g}" if target else "",
        sum(mark.kind == "below" for mark in marks),
        _path([(to_x(e.speedup), to_y(d)) for e, d in uniform]),
        least=None if run.least_speedup is None else to_x(run.least_speedup),
        least_label=_label(run),
    )


def trained_chart(run: RunData, show: Callable[[float], str]) -> Chart | None:
    """Accuracy on the confirmation set against speed-up of everything that was trained.

    Args:
        run: The run.
        show: Formats an accuracy.

    Returns:
        The chart, or None where nothing is recorded.
    """
    trained = run.trust.trained
    if not trained:
        return None
    reference = run.reference_accuracy
    limit = None
    if reference is not None and run.max_accuracy_drop is not None:
        limit = reference - run.max_accuracy_drop
    percent = show(1.0).endswith("%")
    spans = [_span(network, reference, percent) for network in trained]
    accuracies = (
        [n.accuracy for n in trained] + [v for span in spans for v in span] + ([] if limit is None else [limit])
    )
    to_x, x_ticks = _speedup_axis(run, [n.speedup for n in trained])
    to_y, y_ticks = axis(min(accuracies), max(accuracies), BOTTOM, TOP, percent=percent)
    found = next((row for row in run.rows if row.name == "found policy"), None)
    marks, bars = [], ""
    for network, (low, high) in zip(trained, spans, strict=True):
        kind = "uniform" if network.uniform else "feasible"
        if found is not None and network.policy == found.policy:
            kind = "pareto"
        text = f"{network.name}: {show(network.accuracy)}, {network.speedup:.3f}x"
        marks.append(Mark(to_x(network.speedup), to_y(network.accuracy), kind, text))
        if high > low:
            bars += f"M{place(to_x(network.speedup))} {place(to_y(low))}V{place(to_y(high))}"
    front = _trained_front(trained)
    uniform = _trained_front([network for network in trained if network.uniform])
    summary = f"Accuracy on the confirmation set against speed-up of {len(trained)} trained networks: " + "; ".join(
        f"{n.name} {show(n.accuracy)} at {n.speedup:.2f}x" for n in trained
    )
    return Chart(
        f"{summary}.{_asked_for(run)}",
        "speed-up over uniform 8-bit",
        "accuracy after training",
        x_ticks,
        y_ticks,
        tuple(mark for mark in marks if mark.kind != "pareto"),
        _path([(to_x(n.speedup), to_y(n.accuracy)) for n in front]),
        tuple(mark for mark in marks if mark.kind == "pareto"),
        None if limit is None else to_y(limit),
        "" if limit is None else f"limit {show(limit)}",
        uniform=_path([(to_x(n.speedup), to_y(n.accuracy)) for n in uniform]),
        bars=bars,
        least=None if run.least_speedup is None else to_x(run.least_speedup),
        least_label=_label(run),
    )


def _speedup_axis(run: RunData, speedups: Sequence[float]) -> tuple[Callable[[float], float], tuple[Tick, ...]]:
    """Of these, and of what was asked for."""
    shown = [*speedups, *([] if run.least_speedup is None else [run.least_speedup])]
    return axis(min(shown), max(shown), LEFT, RIGHT)


def _label(run: RunData) -> str:
    """Of the line of the least speed-up."""
    return "" if run.least_speedup is None else f"at least {run.least_speedup:g}x"


def _asked_for(run: RunData) -> str:
    return "" if run.least_speedup is None else f" At least {run.least_speedup:g}x were asked for."


def _span(network: TrainedNetwork, reference: float | None, fraction: bool) -> tuple[float, float]:
    """Where its accuracy lies if the reference's is taken as it was measured."""
    if reference is None or network.interval is None:
        return network.accuracy, network.accuracy
    low, high = network.interval
    return reference - high, min(reference - low, 1.0) if fraction else reference - low


def _front(points: Sequence[tuple[Evaluation, float]], ceiling: float) -> list[tuple[Evaluation, float]]:
    """What no other beats in both, the slowest first."""
    front: list[tuple[Evaluation, float]] = []
    for evaluation, damage in sorted(points, key=lambda point: (-point[0].speedup, point[1])):
        if damage <= ceiling and (not front or damage < front[-1][1]):
            front.append((evaluation, damage))
    return front[::-1]


def _trained_front(networks: Sequence[TrainedNetwork]) -> list[TrainedNetwork]:
    front: list[TrainedNetwork] = []
    for network in sorted(networks, key=lambda n: (-n.speedup, -n.accuracy)):
        if not front or network.accuracy > front[-1].accuracy:
            front.append(network)
    return front[::-1]


def _path(points: Sequence[tuple[float, float]]) -> str:
    return "M" + "L".join(f"{place(x)} {place(y)}" for x, y in points) if len(points) > 1 else ""


def _log_axis(low: float, high: float) -> tuple[Callable[[float], float], tuple[Tick, ...]]:
    """The map from damages to heights, the least at the top, and ticks at 1, 2 and 5 times powers of ten."""
    bottom, top = math.log10(high), math.log10(low)
    room = 0.06 * max(bottom - top, 0.2)
    bottom, top = bottom + room, top - room

    def at(value: float) -> float:
        return TOP + (math.log10(value) - top) / (bottom - top) * (BOTTOM - TOP)

    powers = range(math.floor(top), math.ceil(bottom) + 1)
    values = [factor * 10.0**power for power in powers for factor in (1, 2, 5)]
    if bottom - top > 2:
        values = [10.0**power for power in powers]
    inside = [value for value in values if top <= math.log10(value) <= bottom]
    return at, tuple(Tick(at(value), f"{value:g}") for value in reversed(inside))
