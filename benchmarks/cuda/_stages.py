"""Stages, one after the other, within a time; every part is written down at once."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from _budget import Budget
from _record import FAILED, OUT_OF_TIME, Outcome, Record

NO_PARTS = "what there is to do"  # the part of a stage that could not say


@dataclass(frozen=True)
class Part:
    """One thing to do, which knows how many seconds it may take.

    Attributes:
        least: Seconds without which it is not begun.
    """

    name: str
    run: Callable[[float], Outcome]
    least: float = 5.0


@dataclass(frozen=True)
class Stage:
    """Parts under one name.

    Attributes:
        weight: Of its share of the time.
        parts: Made when the stage begins: what there is to do may depend on the stages before.
        end: Called when its parts are through.
    """

    name: str
    weight: float
    parts: Callable[[], Iterable[Part]]
    end: Callable[[], None] = lambda: None


def run_stages(stages: Sequence[Stage], record: Record, budget: Budget, say: Callable[[str], None]) -> None:
    """Runs what the record does not have as done. A part that raises is a part that failed, not the end of the run, and
    so is a stage that cannot tell its parts."""
    for index, stage in enumerate(stages):
        end = budget.end_of_share(stage.weight, sum(later.weight for later in stages[index + 1 :]))
        try:
            for part in _parts(stage):
                if record.is_done(stage.name, part.name):
                    say(f"{stage.name}: {part.name}: done before")
                    continue
                start = budget.now()
                outcome = _run(part, end - start)
                seconds = budget.now() - start
                record.put(stage.name, part.name, outcome, seconds)
                first = f" ({outcome.note.splitlines()[0]})" if outcome.note else ""
                say(f"{stage.name}: {part.name}: {outcome.status}, {seconds:.1f} s{first}")
        finally:
            stage.end()


def _parts(stage: Stage) -> Iterator[Part]:
    try:
        yield from stage.parts()
    except Exception as error:
        note = f"{type(error).__name__}: {error}"
        yield Part(NO_PARTS, lambda limit: Outcome(FAILED, note), least=0.0)


def _run(part: Part, left: float) -> Outcome:
    if left < part.least and part.name != NO_PARTS:
        return Outcome(OUT_OF_TIME, f"{max(0.0, left):.0f} s were left, it needs {part.least:.0f}")
    try:
        return part.run(left)
    except Exception as error:
        where = traceback.format_exc(limit=-3)
        return Outcome(FAILED, f"{type(error).__name__}: {error}\n{where}")
