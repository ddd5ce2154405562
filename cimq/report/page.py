"""Puts a run's data into the page's template."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jinja2

from cimq.atomic_files import write_text_atomically
from cimq.hardware import Hardware
from cimq.report.charts import history_chart, stage_name, tradeoff_chart
from cimq.report.front_charts import damage_chart, trained_chart
from cimq.report.layer_rows import layer_views
from cimq.report.machine_view import machine_view
from cimq.report.run_data import ResultRow, RunData, load_run

_TEMPLATES = Path(__file__).with_name("templates")
_FOUND = "found policy"
_UNIFORM8 = "uniform 8-bit"
# What a missing value means, where it does not just mean "not described".
_NULL_WORDS = {"adc.bits": "ideal", "resources.crossbars": "unlimited"}


def write_report(run_dir: str | Path, path: str | Path | None = None) -> Path:
    """Writes a run's report: one HTML page without scripts or outside files, for light and dark screens of any width.

    Args:
        run_dir: Folder with result.json and evaluations.jsonl (`SearchResult.save`), and perhaps a bundle.
        path: Where to write; default `run_dir`/report.html. The same inputs give the same bytes.

    Returns:
        The path written.

    Raises:
        FileNotFoundError: If an input, or the folder to write into, is missing.
        ValueError: If an input is damaged; names the file and the key or line.

    Example:
        ``cimq.report.write_report("runs/demo")`` gives ``runs/demo/report.html``.
    """
    run = load_run(run_dir)
    path = Path(path) if path is not None else run.folder / "report.html"
    if not path.parent.is_dir():
        raise FileNotFoundError(f"report: there is no folder {path.parent} to write {path.name} into")
    write_text_atomically(path, render(run))
    return path


def render(run: RunData) -> str:
    """The page as text.

    Raises:
        ValueError: If the run's numbers contradict each other.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    show = _accuracy_format(run)
    environment.filters.update(accuracy=show, time=format_time, size=_format_size, mean_bits=_mean_bits)
    found = next((row for row in run.rows if row.name == _FOUND), run.rows[-1])
    uniform8 = next((row for row in run.rows if row.name == _UNIFORM8), None)
    damages = damage_chart(run)
    page = environment.get_template("page.html.j2").render(
        run=run,
        found=found,
        uniform8=uniform8,
        change=_change(found, uniform8, show),
        layers=layer_views(run),
        history=history_chart(run, show),
        tradeoff=damages or tradeoff_chart(run, show),
        by_damage=damages is not None,
        trained=trained_chart(run, show),
        within=_within(run),
        budget=_budget(run),
        proposers={e.policy: stage_name(e.strategy) for e in run.evaluations},
        machine=machine_view(run.folder / run.bundle.name) if run.bundle else None,
        hardware=_hardware_rows(run.hardware),
        quoted_folder=shlex.quote(str(run.folder)),
        bundle_path=shlex.quote(str(run.folder / run.bundle.name)) if run.bundle else None,
    )
    return page


def format_time(microseconds: float) -> str:
    """A time in the unit that suits it.

    Example:
        >>> format_time(123456.0).split()
        ['123.5', 'ms']
    """
    for limit, factor, unit in ((1e3, 1.0, "µs"), (1e6, 1e3, "ms")):
        if abs(microseconds) < limit:
            return f"{microseconds / factor:.1f}\N{NO-BREAK SPACE}{unit}"
    return f"{microseconds / 1e6:,.2f}\N{NO-BREAK SPACE}s"


def _accuracy_format(run: RunData) -> Callable[[float], str]:
    """Percent if every accuracy could be a fraction, else plain numbers (a metric of the user's own)."""
    values = [row.accuracy for row in run.rows if row.accuracy is not None]
    values += [evaluation.accuracy for evaluation in run.evaluations]
    if all(0.0 <= value <= 1.0 for value in values):
        return lambda value: f"{100 * value:.2f}\N{NO-BREAK SPACE}%"
    return lambda value: f"{value:.4g}"


def _change(found: ResultRow, uniform8: ResultRow | None, show: Callable[[float], str]) -> str | None:
    """Accuracy of the found policy against uniform 8-bit, in words."""
    if uniform8 is None or found.accuracy is None or uniform8.accuracy is None:
        return None
    difference = found.accuracy - uniform8.accuracy
    text = show(abs(difference)).replace("%", "points")
    if difference == 0:
        return "the same accuracy as uniform 8-bit"
    return f"{text} {'more' if difference > 0 else 'less'} than uniform 8-bit"


def _within(run: RunData) -> tuple[str, str]:
    """What evaluations are that may be chosen, and the others."""
    if run.min_speedup is not None:
        return "within the budget", "beyond the budget"
    if run.ranked_by_damage:
        return "damage within the target", "damage beyond the target"
    return "accurate enough", "not accurate enough"


def _budget(run: RunData) -> str:
    """What the found policy may cost, in words."""
    if run.min_speedup is None:
        return ""
    if run.objective == "latency":
        return f"at least {run.min_speedup:g} times as fast as uniform 8-bit"
    mean = "" if run.objective == "energy" else " and time on average"
    return f"that need at least {run.min_speedup:g} times less energy{mean} than uniform 8-bit"


def _mean_bits(row: ResultRow) -> str:
    if row.policy is None:
        return "\N{EN DASH}"
    weights, acts = zip(*(bits[:2] for bits in row.policy), strict=True)
    means = [sum(bits) / len(row.policy) for bits in (weights, acts)]
    return "\N{NO-BREAK SPACE}/\N{NO-BREAK SPACE}".join(
        f"{mean:.0f}" if mean == int(mean) else f"{mean:.1f}" for mean in means
    )


def _hardware_rows(hardware: Hardware) -> list[tuple[str, str, str]]:
    """(dotted field, value, source) of every described field."""
    rows = []
    for field, value in _leaves(hardware.to_dict()):
        if value is None and field not in _NULL_WORDS:
            continue
        text = _NULL_WORDS[field] if value is None else str(value).lower() if isinstance(value, bool) else str(value)
        rows.append((field, text, hardware.source(field) or ""))
    return rows


def _leaves(fields: dict[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    leaves: list[tuple[str, Any]] = []
    for name, value in fields.items():
        if prefix + name in ("name", "sources"):
            continue
        leaves += _leaves(value, f"{prefix}{name}.") if isinstance(value, dict) else [(prefix + name, value)]
    return leaves


def _format_size(size: int) -> str:
    return f"{size:,}\N{NO-BREAK SPACE}B" if size < 10_000 else f"{size / 1000:,.1f}\N{NO-BREAK SPACE}kB"
