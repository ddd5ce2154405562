"""Searches that are killed, each in a process of its own; `python killed_searches.py FOLDER`.

One search in FOLDER/cut is killed (SIGKILL) and resumed again and again, at the moments below; another in FOLDER/whole
is not. The last line that is printed is a JSON list of how the processes ended.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from small_searches import search, trained_network

import cimq.policy_search.any_bits
import cimq.policy_search.trained_policies
from cimq.policy_search.journal import Journal
from cimq.policy_search.trainings import Trainings

OPTIONS: dict[str, Any] = {"shared_epochs": 2}


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def in_the_second_shared_epoch() -> None:
    original = cimq.policy_search.any_bits.drawn_policy

    def drawn(space: Any, seed: int, epoch: int, step: int) -> Any:
        if (epoch, step) == (2, 3):
            die()
        return original(space, seed, epoch, step)

    cimq.policy_search.any_bits.drawn_policy = drawn


def before_an_evaluation() -> None:
    _at_record(5, lambda journal, evaluation: None)


def while_a_line_is_written() -> None:
    def half(journal: Any, evaluation: Any) -> None:
        journal._file.write(json.dumps(evaluation.to_dict())[:40])
        journal._file.flush()

    _at_record(9, half)


def _at_record(index: int, act: Callable[[Any, Any], None]) -> None:
    original = Journal.record

    def record(journal: Journal, evaluation: Any) -> None:
        if evaluation.index == index:
            act(journal, evaluation)
            die()
        original(journal, evaluation)

    Journal.record = record  # type: ignore[method-assign]


def while_a_trained_policy_is_written() -> None:
    original = torch.save

    def save(content: Any, file: Any, *args: Any, **options: Any) -> None:
        if "confirmed" in content:
            file.write(b"half")
            die()
        original(content, file, *args, **options)

    torch.save = save


def never() -> None:
    """Notes how much was trained: what is kept is not trained again."""
    begin = Trainings._begin
    count = 0

    def begun(trainings: Trainings, policy: Any) -> None:
        nonlocal count
        count += 1
        begin(trainings, policy)
        Path(sys.argv[1], "trainings").write_text(str(count))

    Trainings._begin = begun  # type: ignore[method-assign]


MOMENTS: list[Callable[[], None]] = [
    in_the_second_shared_epoch, while_a_trained_policy_is_written, before_an_evaluation, while_a_line_is_written,
    while_a_trained_policy_is_written, never,
]  # fmt: skip


def main(folder: Path) -> None:
    ends = []
    for moment in [*MOMENTS, None]:
        child = os.fork()  # before anything is computed here: threads do not survive it
        if child == 0:
            if moment is not None:
                moment()
            where = folder / ("whole" if moment is None else "cut")
            result = search(trained_network(), out=where, resume=moment is not None, **OPTIONS)
            torch.save(result.model.state_dict(), where / "model.pt")
            os._exit(0)
        ends.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    print(json.dumps(ends))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
