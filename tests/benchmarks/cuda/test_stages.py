"""Stages within a time: what is run, what is left out, what is kept when a run goes on. The clock is a number."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from _budget import Budget, seconds_of
from _record import ABSENT, DONE, FAILED, OUT_OF_TIME, Outcome, Record
from _stages import Part, Stage, run_stages

ENVIRONMENT = {"chip": "a chip", "sources": "1234"}


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def record_at(tmp_path: Path, *, resume: bool = False, **environment: str) -> Record:
    return Record(tmp_path / "found.json", ENVIRONMENT | environment, "the command", resume=resume)


def takes(clock: Clock, seconds: float, limits: list[float]) -> Callable[[float], Outcome]:
    """What a part does that is done after so many seconds."""

    def run(limit: float) -> Outcome:
        limits.append(limit)
        clock.now += seconds
        return Outcome(DONE)

    return run


def statuses(record: Record) -> dict[str, str]:
    stages = record.content["stages"].items()
    return {f"{stage} {part}": one["status"] for stage, parts in stages for part, one in parts.items()}


def test_stages_share_the_time_and_pass_on_what_they_leave(tmp_path: Path) -> None:
    clock, limits, record = Clock(), [], record_at(tmp_path)
    stages = [
        Stage("first", 1, lambda: [Part("a", takes(clock, 10, limits))]),
        Stage("second", 3, lambda: [Part("b", takes(clock, 50, limits)), Part("c", takes(clock, 1, limits))]),
    ]
    run_stages(stages, record, Budget(100, clock), lambda text: None)
    # A quarter of 100; then all of the other 90, less the 50 of the part before.
    assert limits == [25, 90, 40]
    assert statuses(record) == {"first a": DONE, "second b": DONE, "second c": DONE}
    assert record.parts("second")["b"]["seconds"] == 50


def test_what_does_not_fit_is_left_out_and_said(tmp_path: Path) -> None:
    clock, limits, record = Clock(), [], record_at(tmp_path)
    parts = [
        Part("a", takes(clock, 38, limits)),
        Part("b", takes(clock, 1, limits), least=5),
        Part("c", takes(clock, 1, limits), least=1),
    ]
    run_stages([Stage("only", 1, lambda: parts)], record, Budget(40, clock), lambda text: None)
    assert statuses(record) == {"only a": DONE, "only b": OUT_OF_TIME, "only c": DONE}
    assert record.parts("only")["b"]["note"] == "2 s were left, it needs 5"
    assert limits == [40, 2]


def test_a_part_that_raises_has_failed_and_the_next_one_runs(tmp_path: Path) -> None:
    clock, limits, record, ended = Clock(), [], record_at(tmp_path), []

    def breaks(limit: float) -> Outcome:
        raise ValueError("no such thing")

    parts = [Part("a", breaks), Part("b", takes(clock, 1, limits))]
    run_stages(
        [Stage("only", 1, lambda: parts, lambda: ended.append(1))], record, Budget(None, clock), lambda text: None
    )
    assert statuses(record) == {"only a": FAILED, "only b": DONE}
    assert record.parts("only")["a"]["note"].startswith("ValueError: no such thing")
    assert record.faults == ["only: a"]
    assert ended == [1]


def test_a_stage_that_cannot_tell_its_parts_is_not_the_end(tmp_path: Path) -> None:
    clock, limits, record = Clock(), [], record_at(tmp_path)

    def parts() -> Iterator[Part]:
        yield Part("a", takes(clock, 1, limits))
        raise OSError("no list of cases")

    stages = [Stage("first", 1, parts), Stage("second", 1, lambda: [Part("b", takes(clock, 1, limits))])]
    run_stages(stages, record, Budget(None, clock), lambda text: None)
    assert statuses(record) == {"first a": DONE, "first what there is to do": FAILED, "second b": DONE}
    assert record.parts("first")["what there is to do"]["note"] == "OSError: no list of cases"


def test_every_part_is_on_disk_before_the_next_one_begins(tmp_path: Path) -> None:
    record = record_at(tmp_path)
    seen: list[list[str]] = []

    def look(limit: float) -> Outcome:
        seen.append(list(json.loads(record.path.read_text())["stages"].get("only", {})))
        return Outcome(DONE)

    run_stages([Stage("only", 1, lambda: [Part("a", look), Part("b", look)])], record, Budget(None), lambda text: None)
    assert seen == [[], ["a"]]


def test_a_run_goes_on_with_what_is_not_done(tmp_path: Path) -> None:
    clock = Clock()
    outcomes = {"a": Outcome(DONE, values={"x": 1}), "b": Outcome(FAILED, "wrong"), "c": Outcome(ABSENT, "no tool")}
    run: list[str] = []

    def stages(after: dict[str, Outcome]) -> list[Stage]:
        def part(name: str) -> Part:
            def body(limit: float) -> Outcome:
                run.append(name)
                return after[name]

            return Part(name, body)

        return [Stage("only", 1, lambda: [part(name) for name in after])]

    run_stages(stages(outcomes), record_at(tmp_path), Budget(None, clock), lambda text: None)
    record = record_at(tmp_path, resume=True)
    assert record.values("only", "a") == {"x": 1}
    run_stages(stages(dict.fromkeys(outcomes, Outcome(DONE))), record, Budget(None, clock), lambda text: None)
    assert run == ["a", "b", "c", "b", "c"]
    assert set(statuses(record).values()) == {DONE}
    assert record.content["commands"] == ["the command", "the command"]
    assert record_at(tmp_path).content["stages"] == {}  # without resume all begins anew


def test_numbers_of_another_environment_are_not_gone_on_with(tmp_path: Path) -> None:
    record_at(tmp_path)
    with pytest.raises(SystemExit, match=r"of another sources \('1234', now '5678'\), so that its numbers"):
        record_at(tmp_path, resume=True, sources="5678")


@pytest.mark.parametrize(("text", "seconds"), [("25m", 1500), ("90s", 90), ("1.5h", 5400), ("600", 600)])
def test_times_as_they_are_written(text: str, seconds: float) -> None:
    assert seconds_of(text) == seconds


@pytest.mark.parametrize("text", ["", "m", "-5m", "0", "5 minutes", "nan"])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="a time must be a positive number with s, m or h"):
        seconds_of(text)
