"""Ctrl-C returns the best so far; a search that is killed, whenever, continues to the same result."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from small_searches import assert_same, rows, search, trained_network
from torch import nn

import cimq
from cimq import CimqWarning
from cimq.policy_search.evaluators.short_training import ShortTraining
from cimq.policy_search.journal import Journal
from cimq.policy_search.run import run_search

HERE = Path(__file__).parent


@pytest.fixture(autouse=True)
def ctrl_c_interrupts() -> Iterator[None]:
    """Also where these tests run in the background of a shell, which makes its children deaf to Ctrl-C."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="module")
def net() -> nn.Module:
    return trained_network()


@pytest.fixture(scope="module")
def whole(net: nn.Module, tmp_path_factory: pytest.TempPathFactory) -> tuple[cimq.SearchResult, Path]:
    """A search that nobody interrupts, and its folder."""
    folder = tmp_path_factory.mktemp("whole")
    return search(net, out=folder), folder


def python(script: str, *arguments: object, **options: Any) -> subprocess.Popen[str]:
    paths = [str(HERE), *sys.path]
    return subprocess.Popen(
        [sys.executable, "-c" if "\n" in script else "-u", script, *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))},
        cwd=HERE,  # from where a script finds no other package than these tests have
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def test_whenever_it_is_killed_it_continues_to_the_same_result(tmp_path: Path) -> None:
    output, errors = python(str(HERE / "killed_searches.py"), tmp_path).communicate()
    assert json.loads(output.splitlines()[-1]) == [-signal.SIGKILL] * 5 + [0, 0], errors
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    assert rows(cut) == rows(whole)
    results = [json.loads((folder / "result.json").read_text()) for folder in (whole, cut)]
    for result in results:
        del result["search_seconds"], result["plan"]["costs"], result["plan"]["seconds"]  # measured times
    assert results[0] == results[1]
    for name in ("model.pt", "shared.pt"):
        ours, theirs = (torch.load(folder / name, weights_only=True) for folder in (whole, cut))
        ours, theirs = (ours["model"], theirs["model"]) if name == "shared.pt" else (ours, theirs)
        assert all(torch.equal(value, theirs[key]) for key, value in ours.items())
    # The reference and the uniform policies near the target were kept, and so was what had been written completely.
    assert len(list((cut / "trained").glob("*.pt"))) == len(list((whole / "trained").glob("*.pt"))) >= 3
    assert int((tmp_path / "trainings").read_text()) <= 2
    assert not list(cut.rglob(".*"))  # what was half written is gone


@pytest.mark.parametrize("moment", ["reference", "uniform", "strategy", "finalist"])
def test_ctrl_c_returns_the_best_so_far_and_the_search_continues(
    net: nn.Module,
    whole: tuple[cimq.SearchResult, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    moment: str,
) -> None:
    """A signal, as from a terminal: in the first, the second or a late training, or between measurements."""
    trained, recorded, total = [], [], len(whole[0].evaluations)
    train, record = ShortTraining.train, Journal.record

    def interrupted_train(self: ShortTraining, policy: Any) -> Any:
        trained.append(policy)
        if (moment, len(trained)) in (("reference", 1), ("uniform", 2)) or (
            moment == "finalist" and len(recorded) == total
        ):
            os.kill(os.getpid(), signal.SIGINT)
        return train(self, policy)

    def interrupted_record(self: Journal, evaluation: Any) -> None:
        record(self, evaluation)
        recorded.append(evaluation)
        if moment == "strategy" and evaluation.index == 7:
            os.kill(os.getpid(), signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(ShortTraining, "train", interrupted_train)
        patch.setattr(Journal, "record", interrupted_record)
        if moment == "reference":
            with pytest.raises(KeyboardInterrupt):
                search(net, out=tmp_path)
        else:
            with pytest.warns(CimqWarning, match="interrupted after .* best so far; the same call with resume=True"):
                best = search(net, out=tmp_path)
            assert best.interrupted
            assert "interrupted" in str(best)
            assert best.accuracy >= best.reference_accuracy - best.max_accuracy_drop
            assert json.loads((tmp_path / "result.json").read_text())["interrupted"]
            assert len(best.evaluations) == {"uniform": 0, "strategy": 8, "finalist": total}[moment]
            assert (best.target_damage is None) == (moment == "uniform")
            assert best.trained[0].name == "uniform 8-bit"
            assert best.baselines["uniform 8-bit"].accuracy == best.reference_accuracy
            assert all(row.name != "uniform 8-bit" and row.speedup != 1 for row in best.finalists)
            page = best.report(tmp_path / "report")  # of what there is
            assert "interrupted" in page.read_text()
    done = search(net, out=tmp_path, resume=True)
    assert not done.interrupted
    assert rows(tmp_path) == rows(whole[1])
    assert_same(done, whole[0])


def test_a_search_that_is_resumed_and_interrupted_early_keeps_the_log(
    net: nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    search(net, out=tmp_path)
    log = (tmp_path / "evaluations.jsonl").read_text()

    def record(self: Journal, evaluation: Any) -> None:
        if evaluation.index == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(Journal, "record", record)
    with pytest.warns(CimqWarning, match="interrupted"):
        best = search(net, out=tmp_path, resume=True)
    best.save(tmp_path)
    assert len(best.evaluations) == 4
    assert (tmp_path / "evaluations.jsonl").read_text() == log


def test_a_second_ctrl_c_is_not_caught(net: nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(Journal, "record", interrupted)  # the first
    original = run_search.__globals__["kept_random_state"]
    monkeypatch.setitem(run_search.__globals__, "kept_random_state", interrupted)  # while the result is put together
    with pytest.raises(KeyboardInterrupt):
        search(net)
    assert original


INTERRUPTED = """
import multiprocessing, os, signal, time, warnings
from small_searches import search, trained_network
from cimq.policy_search.journal import Journal

if __name__ == "__main__":
    warnings.simplefilter("ignore")
    signal.signal(signal.SIGINT, signal.default_int_handler)
    record = Journal.record

    def recorded(self, evaluation):
        record(self, evaluation)
        if evaluation.index == 5:
            print(*[child.pid for child in multiprocessing.active_children()], flush=True)
            try:
                os.killpg(0, signal.SIGINT)  # as a terminal does
                time.sleep(5)
            finally:
                time.sleep(0.5)  # for the workers to show what they make of it

    Journal.record = recorded
    result = search(trained_network(), workers=1)
    print(result.interrupted, len(result.evaluations), flush=True)
"""

KILLED = """
import multiprocessing, os, signal, time
from small_searches import Sleeper
from cimq.policy_search.workers import Call
from cimq.policy_search.workers.local import LocalProcesses

if __name__ == "__main__":
    pool = LocalProcesses(1, threads=1)
    pool.start()
    pool.equip({"sleeper": Sleeper()})
    pool.submit([Call("sleeper", "sleep", (600,))])
    time.sleep(0.5)
    print(*[child.pid for child in multiprocessing.active_children()], flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize(("script", "code", "said"), [(INTERRUPTED, 0, ["True 6"]), (KILLED, -signal.SIGKILL, [])])
def test_no_worker_outlives_the_search(script: str, code: int, said: list[str]) -> None:
    """Not even one that is in the middle of something; and workers leave Ctrl-C to the search."""
    process = python(script, start_new_session=True)
    output, errors = process.communicate(timeout=100)  # they hold its output open
    pids, *rest = output.splitlines()
    assert (process.returncode, rest) == (code, said), errors
    assert "Traceback" not in errors
    assert "leaked" not in errors  # as the standard library says of semaphores
    (worker,) = map(int, pids.split())
    deadline = time.monotonic() + 10
    while _runs(worker):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    status = Path(f"/proc/{pid}/stat")
    return not (status.exists() and status.read_text().rpartition(")")[2].split()[0] == "Z")
