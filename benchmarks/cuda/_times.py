"""The stage `time`: what the device reaches in this run, the layer of the claims, training steps, every case."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from _claims import BANDWIDTH_CASE, COMPILED_STEP, COPY_SHARE, EAGER_STEP, INT8_SHARE, OVER_LOOP
from _record import Record
from _stages import Part
from _worker import Worker

STAGE = "time"
PEAKS, CLAIMED, EAGER, COMPILED = "peaks of this run", "claimed product", "training step", "training step, compiled"
REQUESTS: dict[str, dict[str, Any]] = {
    PEAKS: {"do": "peaks"},
    CLAIMED: {"do": "claimed"},
    EAGER: {"do": "step", "compiled": False},
    COMPILED: {"do": "step", "compiled": True},
}
# Seconds that one answer may take, however much time the stage has.
PATIENCE = {PEAKS: 120.0, CLAIMED: 120.0, EAGER: 240.0, COMPILED: 400.0}
PATIENCE_CASE = 90.0


class Times:
    """The stage.

    Args:
        names: Of the cases; asked for when the stage begins.
        worker: Makes a worker.
    """

    def __init__(self, names: Callable[[], list[str]], worker: Callable[[str], Worker]) -> None:
        self._names = names
        self._worker = worker(STAGE)

    def parts(self) -> Iterator[Part]:
        """What the claims need first, but for the compiled step: compiling takes a while."""
        for name in (PEAKS, CLAIMED):
            yield self._part(name)
        names = self._names()
        first = [name for name in names if name == BANDWIDTH_CASE]
        for name in (*first, EAGER, *(name for name in names if name != BANDWIDTH_CASE), COMPILED):
            yield self._part(name)

    def _part(self, name: str) -> Part:
        request = REQUESTS.get(name, {"do": "time", "case": name})
        patience = PATIENCE.get(name, PATIENCE_CASE)
        return Part(name, lambda limit: self._worker.outcome(request, limit, patience))

    def end(self) -> None:
        self._worker.end()


def found_claims(record: Record, cases: dict[str, dict[str, Any]]) -> tuple[dict[str, float], dict[str, str]]:
    """What the run found of the claims, and why it did not find the others.

    Args:
        record: Of the run.
        cases: By name, as the worker lists them.
    """
    found: dict[str, float] = {}
    peaks = record.values(STAGE, PEAKS)
    if claimed := record.values(STAGE, CLAIMED):
        ours = claimed["operator"]["median"]
        found[OVER_LOOP] = claimed["loop"]["median"] / ours
        # Of the better of the two plain products: a large one, and the one of the layer's own shape.
        plain = claimed["plain_operations"] / claimed["plain"]["median"]
        found[INT8_SHARE] = claimed["operations"] / ours / max(plain, peaks.get("int8", 0.0))
    if peaks and (copied := record.values(STAGE, BANDWIDTH_CASE)):
        found[COPY_SHARE] = cases[BANDWIDTH_CASE]["bytes"] / copied["median"] / peaks["bytes"]
    for claim, part in ((EAGER_STEP, EAGER), (COMPILED_STEP, COMPILED)):
        if step := record.values(STAGE, part):
            found[claim] = step["ratio"]
    needs = {INT8_SHARE: CLAIMED, OVER_LOOP: CLAIMED, COPY_SHARE: BANDWIDTH_CASE, EAGER_STEP: EAGER,
             COMPILED_STEP: COMPILED}  # fmt: skip
    parts = record.parts(STAGE)
    why = {claim: _why(parts.get(part)) for claim, part in needs.items()}
    return found, why


def _why(part: dict[str, Any] | None) -> str:
    if part is None:
        return "not run"
    note = part["note"].splitlines()[:1]
    return ": ".join([part["status"], *note])
