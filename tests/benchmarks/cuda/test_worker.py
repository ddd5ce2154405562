"""The measuring process from outside: answers, deaths, silence, and a new one for the next request."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from _commands import run_command
from _record import ABSENT, DONE, FAILED, OUT_OF_TIME
from _worker import Worker, WorkerError

# Answers with its own number; does what "do" says.
PROGRAM = """
import json, os, sys, time
for line in sys.stdin:
    request = json.loads(line)
    if request["do"] == "die":
        sys.stderr.write("an illegal access\\n")
        os._exit(7)
    if request["do"] == "hang":
        time.sleep(600)
    print("not an answer")
    answer = {"process": os.getpid(), **request.get("answer", {})}
    print("@@" + json.dumps(answer), flush=True)
"""


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[Worker]:
    (tmp_path / "program.py").write_text(PROGRAM)
    made = Worker([sys.executable, str(tmp_path / "program.py")], tmp_path / "log", tmp_path)
    yield made
    made.end()


def is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def test_requests_go_to_one_process(worker: Worker) -> None:
    assert worker.ask({"do": "answer"}, 60) == worker.ask({"do": "answer"}, 60)


def test_a_process_that_died_is_replaced(worker: Worker) -> None:
    first = worker.ask({"do": "answer"}, 60)["process"]
    with pytest.raises(WorkerError, match="ended with status 7; it said last:\nan illegal access"):
        worker.ask({"do": "die"}, 60)
    assert worker.ask({"do": "answer"}, 60)["process"] != first


def test_a_process_that_says_nothing_is_ended_and_replaced(worker: Worker) -> None:
    first = worker.ask({"do": "answer"}, 60)["process"]
    start = time.monotonic()
    assert worker.outcome({"do": "hang"}, limit=60, patience=0.5).status == FAILED
    assert time.monotonic() - start < 30
    assert not is_running(first)
    assert worker.ask({"do": "answer"}, 60)["process"] != first


def test_too_little_time_is_no_failure(worker: Worker) -> None:
    worker.ask({"do": "answer"}, 60)
    assert worker.outcome({"do": "hang"}, limit=0.3, patience=60).status == OUT_OF_TIME


def test_a_process_whose_device_is_lost_is_replaced(worker: Worker) -> None:
    lost = {"do": "answer", "answer": {"faults": ["an illegal access"], "lost": True}}
    outcome = worker.outcome(lost, 60, 60)
    assert (outcome.status, outcome.note) == (FAILED, "an illegal access")
    first = worker.ask({"do": "answer", "answer": {"faults": ["wrong"]}}, 60)["process"]
    assert worker.ask({"do": "answer"}, 60)["process"] == first  # a wrong result alone loses nothing


def test_answers_become_outcomes(worker: Worker) -> None:
    assert worker.outcome({"do": "answer", "answer": {"faults": [], "median": 2}}, 60, 60).values["median"] == 2
    assert worker.outcome({"do": "answer"}, 60, 60).status == DONE
    refused = worker.outcome({"do": "answer", "answer": {"no_kernel": "softmax has none"}}, 60, 60)
    assert (refused.status, refused.note) == (ABSENT, "no kernel: softmax has none")
    assert refused.values == {"no_kernel": True}
    assert worker.outcome({"do": "die"}, 60, 60).status == FAILED


def test_a_program_is_ended_with_what_it_started(tmp_path: Path) -> None:
    child = f"{sys.executable} -c 'import time; time.sleep(600)'"
    script = f"{child} & echo $! > {tmp_path}/child; wait"
    ran = run_command(["sh", "-c", script], 1.0, tmp_path / "log", cwd=tmp_path)
    assert ran.status is None
    process = int((tmp_path / "child").read_text())
    for _ in range(100):
        if not is_running(process):
            break
        time.sleep(0.1)
    assert not is_running(process)


def test_a_program_and_its_output(tmp_path: Path) -> None:
    ran = run_command(["sh", "-c", "echo one; echo two >&2; echo $THREE; exit 3"], 60, tmp_path / "deep" / "log",
                      cwd=tmp_path, env={"THREE": "three"})  # fmt: skip
    assert (ran.status, ran.output) == (3, "one\ntwo\nthree\n")
