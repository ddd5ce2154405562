"""One network on a row of machines that differ in one resource, or in batches of several sizes on one machine: how its
time goes down, and what is left of it."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cimq import _C
from cimq.atomic_files import write_bytes_atomically
from cimq.bundle.programs import STATIONARY, Duplication, compiled, machine_of
from cimq.bundle.simulated import SimulatedTime, count_text
from cimq.hardware import Hardware, Resources
from cimq.text_table import aligned_table

BATCH = "batch"
_UNLIMITED = ("inf", "none", "null")
_UM2_PER_MM2 = 1e6


@dataclasses.dataclass(frozen=True)
class SweepPoint:
    """A machine of the row, or a batch.

    Attributes:
        value: Its resource, or samples of a batch; None is without limit.
        simulated: Time, energy and area there; None where the program does not run.
        refusal: Why it does not run there; empty where it does.
        writes: Crossbars written for a sample, its share of a batch's; None where there is no program for the machine.
    """

    value: float | None
    simulated: SimulatedTime | None
    refusal: str
    writes: float | None


@dataclasses.dataclass(frozen=True)
class Sweep:
    """What `sweep` returns.

    Attributes:
        resource: Name of the resource, or "batch".
        points: One per value, in the order that was asked for.
        hardware: The machine that was varied.
    """

    resource: str
    points: tuple[SweepPoint, ...]
    hardware: Hardware

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        points = [
            {
                "value": point.value,
                "writes": point.writes,
                "refusal": point.refusal,
                "simulated": None if point.simulated is None else point.simulated.to_dict(),
            }
            for point in self.points
        ]
        return {"resource": self.resource, "points": points, "hardware": self.hardware.to_dict()}

    def __str__(self) -> str:
        ran = [point.simulated for point in self.points if point.simulated is not None]
        causes = [cause for cause in _C.CAUSES if any(time.critical_us[cause] > 0 for time in ran)]
        energy = any(time.energy_pj is not None for time in ran)
        area = any(time.area is not None for time in ran)
        head = [self.resource, "writes", "time us", *(f"{cause} us" for cause in causes), "used"]
        rows = [head + ["energy nJ"] * energy + ["area mm2"] * area]
        for point in self.points:
            writes = "-" if point.writes is None else count_text(point.writes)
            if point.simulated is None:
                rows.append([_shown(point.value), writes, *["-"] * (len(rows[0]) - 2)])
                continue
            time = point.simulated
            row = [_shown(point.value), writes, f"{time.time_us:,.1f}"]
            row += [f"{time.critical_us[cause]:,.1f}" for cause in causes]
            row.append(f"{100 * time.utilisation:.1f} %")
            if energy:
                row.append("-" if time.energy_pj is None else f"{sum(time.energy_pj.values()) / 1e3:,.1f}")
            if area:
                row.append("-" if time.area is None else f"{time.area.total / _UM2_PER_MM2:,.3f}")
            rows.append(row)
        refusals = [f"{_shown(point.value)}: {point.refusal}" for point in self.points if point.refusal]
        return "\n".join([aligned_table(rows), *refusals])

    def plot(self, path: str | Path) -> None:
        """Draws the time of every machine as a bar, taken apart by cause.

        Args:
            path: File to write; its suffix says the format (.png, .svg, .pdf). It appears complete or not at all.

        Raises:
            ValueError: If the program runs on none of the machines, or for a suffix that is no format of pictures.
        """
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        ran = [(point.value, point.simulated) for point in self.points if point.simulated is not None]
        if not ran:
            raise ValueError("sweep: there is nothing to draw, the program runs on none of the machines")
        figure = Figure(figsize=(7, 4), layout="constrained")
        axes = FigureCanvasAgg(figure).figure.subplots()
        places = range(len(ran))
        below = [0.0] * len(ran)
        for cause in _C.CAUSES:
            times = [time.critical_us[cause] for _, time in ran]
            if any(times):
                axes.bar(places, times, bottom=below, label=cause)
            below = [low + time for low, time in zip(below, times, strict=True)]
        # A bar of a machine with a thousand times the crossbars is too low to be read.
        for place, total in zip(places, below, strict=True):
            text = f"{total:,.0f}" if total >= 100 else f"{total:.3g}"
            axes.annotate(text, (place, total), (0, 2), textcoords="offset points", ha="center")
        axes.margins(y=0.08)
        axes.set_xticks(places, [_shown(value) for value, _ in ran])
        axes.set_xlabel(self.resource)
        axes.set_ylabel("time of a sample, us")
        axes.set_title(f"machine {self.hardware.name}")
        axes.legend()
        picture = io.BytesIO()
        figure.savefig(picture, format=Path(path).suffix.removeprefix(".") or "png")
        write_bytes_atomically(path, picture.getvalue())


def sweep(
    bundle: str | Path,
    resource: str,
    values: Sequence[float | None],
    hardware: Hardware | str | Path | None = None,
    pipeline: str = STATIONARY,
    duplication: Duplication | None = None,
    batch: int = 1,
) -> Sweep:
    """Compiles a bundle for machines that differ in one resource, or in batches of several sizes; times each program.

    Writes nothing.

    Args:
        bundle: Bundle folder, or a zip.
        resource: A field of `Resources`: "crossbars", "adcs_per_crossbar", ..., or "batch".
        values: What the machines have of it; None is without limit.
        hardware: The machine to vary, a preset's name or a file. None: the bundle's.
        pipeline: As for `cimq.compile`.
        duplication: As there.
        batch: As there; not where it is what differs.

    Raises:
        FileNotFoundError: If there is no such bundle.
        ValueError: For a resource that there is not, a value that it cannot have, or a damaged bundle; or if there is a
            program for none of the machines.

    Example:
        >>> print(sweep("net.cimq", "crossbars", [1, 4, 16, None]))  # doctest: +SKIP
    """
    names = [field.name for field in dataclasses.fields(Resources)] + [BATCH]
    if resource == BATCH and batch != 1:
        raise ValueError(f"sweep: batch is what differs, and is also given as {batch}")
    if resource not in names:
        raise ValueError(f"sweep: there is no resource {resource!r}; the resources are {', '.join(names)}")
    if not values:
        raise ValueError("sweep: there must be at least one value")
    machine = machine_of(bundle, hardware)
    points = []
    refused = None
    for value in values:
        varied, samples = machine, batch
        if resource == BATCH:
            samples = _batch_of(value)
        else:
            varied = machine.replace(resources={resource: value}, name=machine.name)
        writes: float | None = None
        try:
            # Refused by machines that cannot hold the copies asked for, or, by pipelines that simulate, have no buffer.
            program = compiled(bundle, varied, pipeline, duplication, samples)
            writes = program.writes if samples == 1 else program.writes / samples
            points.append(SweepPoint(value, program.simulated, "", writes))
        except ValueError as error:
            refused = error
            points.append(SweepPoint(value, None, str(error), writes))
    if refused is not None and all(point.writes is None for point in points):
        raise refused
    return Sweep(resource, tuple(points), machine)


def _batch_of(value: float | None) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and value > 0:
        return value
    raise ValueError(f"sweep: a batch must be an integer above 0, got {'inf' if value is None else repr(value)}")


def read_sweep(text: str) -> tuple[str, list[float | None]]:
    """The resource and the values of "crossbars=1,4,16,inf".

    Raises:
        ValueError: For another form.
    """
    resource, equals, values = text.partition("=")
    if not equals or not values.strip():
        raise ValueError(f"sweep must be RESOURCE=VALUE,VALUE,..., such as crossbars=1,4,16,inf, got {text!r}")
    return resource.strip(), [_number(value.strip(), text) for value in values.split(",")]


def _number(value: str, text: str) -> float | None:
    if value.lower() in _UNLIMITED:
        return None
    try:
        return int(value)
    except ValueError:
        pass
    try:
        return float(value)
    except ValueError:
        raise ValueError(f"sweep: {value!r} in {text!r} must be a number, or inf for no limit") from None


def _shown(value: float | None) -> str:
    return "inf" if value is None else f"{value:,g}" if isinstance(value, float) else f"{value:,}"
