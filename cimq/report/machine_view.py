"""What a report says about a bundle on its machine: when layers run, and where their weights lie."""

from __future__ import annotations

import dataclasses
import math
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cimq.bundle.programs import PIPELINED, STATIONARY, CompiledProgram, compiled
from cimq.bundle.simulated import CAUSE_WORDS, SimulatedTime

# Parts of a square as (hue, share of its work), share of the time that it works, words.
_Placed = tuple[tuple[tuple[float, float], ...], float, str]
_CROSSBARS = 3  # process of the crossbars in a trace
_GOLDEN_ANGLE = 137.508  # degrees: neighbours get hues far apart
_WIDTH = 420.0
_ROW = 15.0
_MAX_SIDE = 26.0
_GAP = 0.04  # between squares, of their side
_MAX_SQUARES = 800


@dataclasses.dataclass(frozen=True)
class Bar:
    """A layer in time, in units of the drawing.

    Attributes:
        name: The layer.
        x: Begin.
        width: Length.
        y: Top.
        hue: Of its colour, degrees; the same as in the floor plan.
        title: In words.
    """

    name: str
    x: float
    width: float
    y: float
    hue: float
    title: str


@dataclasses.dataclass(frozen=True)
class Stripe:
    """The part of a square that stands for a layer: its top and height, and the hue of the layer."""

    y: float
    height: float
    hue: float


@dataclasses.dataclass(frozen=True)
class Square:
    """A crossbar in the floor plan, or as many as the plan says.

    Attributes:
        x: Left.
        y: Top.
        stripes: Layers that it works for, as high as their share of its work. Empty for a crossbar that is never used.
        busy: Share of the time that it works, for the strength of the colour.
        title: In words.
    """

    x: float
    y: float
    stripes: tuple[Stripe, ...]
    busy: float
    title: str


@dataclasses.dataclass(frozen=True)
class FloorPlan:
    """Squares in rows.

    Attributes:
        squares: From left to right, row by row.
        side: Of a square.
        height: Of the drawing.
        each: Crossbars that a square stands for.
        left_out: Crossbars that are not drawn.
    """

    squares: tuple[Square, ...] = ()
    side: float = 0.0
    height: float = 0.0
    each: int = 1
    left_out: int = 0


@dataclasses.dataclass(frozen=True)
class MachineView:
    """Both drawings.

    Attributes:
        pipeline: How the bundle was compiled.
        time_us: Of one sample.
        causes: (words, microseconds) that add up to it.
        crossbars: Crossbars that the program uses.
        utilisation: Share of their time that was used.
        copies: Most copies of a layer.
        bars: One per layer.
        plan: The crossbars.
        gantt_height: Of the drawing of the bars.
        refusal: Why there are no drawings; else empty.
    """

    pipeline: str = ""
    time_us: float = 0.0
    causes: tuple[tuple[str, float], ...] = ()
    crossbars: int = 0
    utilisation: float = 0.0
    copies: int = 1
    bars: tuple[Bar, ...] = ()
    plan: FloorPlan = FloorPlan()
    gantt_height: float = 0.0
    refusal: str = ""
    width: float = _WIDTH
    row: float = _ROW


def machine_view(bundle: Path) -> MachineView:
    """Compiles and simulates a bundle for its own machine.

    With more than one crossbar layers may stay, be copied and overlap (the pipeline "pipelined"); on one crossbar there
    is nothing to choose, and the time is that of the closed form.

    Args:
        bundle: Bundle folder. Nothing in it changes.

    Returns:
        The drawings; where the bundle has no program or the machine no room for it, the reason.
    """
    try:
        program = compiled(bundle, pipeline=STATIONARY)
        pipeline = STATIONARY
        if program.hardware.resources.crossbars != 1:
            program, pipeline = compiled(bundle, pipeline=PIPELINED), PIPELINED
        time = program.simulated
        events = program.events()
    except ValueError as error:
        return MachineView(refusal=str(error))
    hues = {layer.name: (_GOLDEN_ANGLE * index) % 360.0 for index, layer in enumerate(time.layers)}
    return MachineView(
        pipeline=pipeline,
        time_us=time.time_us,
        causes=tuple((CAUSE_WORDS[cause], spent) for cause, spent in time.critical_us.items() if spent > 0),
        crossbars=time.crossbars,
        utilisation=time.utilisation,
        copies=max(layer.copies for layer in program.layers),
        bars=_bars(program, hues),
        plan=_plan_of_residents(program, hues) if _all_stay(program) else _plan_of_work(events, hues, time),
        gantt_height=_ROW * len(time.layers),
    )


def _bars(program: CompiledProgram, hues: dict[str, float]) -> tuple[Bar, ...]:
    time = program.simulated
    scale = _WIDTH / time.time_us if time.time_us > 0 else 0.0
    copies = {layer.name: layer.copies for layer in program.layers}
    bars = []
    for index, layer in enumerate(time.layers):
        words = f"{layer.name}: {layer.begin_us:,.1f} to {layer.end_us:,.1f} us"
        if copies[layer.name] > 1:
            words += f", {copies[layer.name]} copies"
        # A short layer is to be seen all the same.
        width = max(1.0, scale * (layer.end_us - layer.begin_us))
        x = min(scale * layer.begin_us, _WIDTH - width)
        bars.append(Bar(layer.name, x, width, index * _ROW, hues[layer.name], words))
    return tuple(bars)


def _all_stay(program: CompiledProgram) -> bool:
    """Whether every crossbar holds one tile for good."""
    return program.writes == 0 and program.setup_writes == program.simulated.crossbars


def _plan_of_residents(program: CompiledProgram, hues: dict[str, float]) -> FloorPlan:
    """Crossbars that each work for one layer, in the order of the layers; several to a square where they are many."""
    used = {layer.name: len(layer.tiles) * layer.repeats * layer.copies for layer in program.layers}
    each = max(1, math.ceil(sum(used.values()) / _MAX_SQUARES))
    time = program.simulated
    squares: list[_Placed] = []
    for layer in time.layers:
        count = used[layer.name]
        share = (layer.mvm_us + layer.adc_us) / count / time.time_us if time.time_us > 0 else 0.0
        words = f"{layer.name}: {count:,} {'crossbar' if count == 1 else 'crossbars'}, {100 * share:.1f} % of the time"
        squares += [(((hues[layer.name], 1.0),), share, words)] * math.ceil(count / each)
    return _arranged(squares, each, 0)


def _plan_of_work(events: list[dict[str, Any]], hues: dict[str, float], time: SimulatedTime) -> FloorPlan:
    """Crossbars with what they do for each layer, from the events of a trace."""
    work: dict[int, dict[str, float]] = defaultdict(lambda: defaultdict(float))
    drawn = 0
    for event in events:
        if event["pid"] == _CROSSBARS:
            drawn = max(drawn, event["tid"] + 1)
            if event["ph"] == "X":
                work[event["tid"]][event["args"]["layer"]] += event["args"]["busy_us"]
    squares: list[_Placed] = []
    for number in range(min(drawn, time.crossbars)):
        layers = work[number]
        names = ", ".join(list(layers)[:3]) + (f" and {len(layers) - 3} more" if len(layers) > 3 else "")
        spent = sum(layers.values())
        share = spent / time.time_us if time.time_us > 0 else 0.0
        parts = tuple((hues[name], busy / spent) for name, busy in layers.items() if busy > 0)
        squares.append((parts, share, f"crossbar {number}: {names or 'not used'}, {100 * share:.1f} % of the time"))
    return _arranged(squares, 1, time.crossbars - len(squares))


def _arranged(squares: Sequence[_Placed], each: int, left_out: int) -> FloorPlan:
    """Places (parts of (hue, share), share of the time, words) in rows."""
    per_row = max(1, math.ceil(math.sqrt(2.5 * len(squares))))
    side = min(_MAX_SIDE, _WIDTH / per_row)
    inner = (1 - 2 * _GAP) * side
    placed = []
    for number, (parts, share, words) in enumerate(squares):
        stripes, top = [], 0.0
        for hue, part in parts:
            stripes.append(Stripe(top, part * inner, hue))
            top += part * inner
        x, y = side * (number % per_row + _GAP), side * (number // per_row + _GAP)
        placed.append(Square(x, y, tuple(stripes), min(1.0, share), words))
    return FloorPlan(tuple(placed), inner, side * math.ceil(len(squares) / per_row), each, left_out)
