"""Workers: the same result whoever measures, and what happens when a worker dies, raises or warns."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from small_searches import assert_same, data, rows, search, trained_network
from torch import nn

from cimq import CimqWarning
from cimq.policy_search.workers import Call, InProcess
from cimq.policy_search.workers.local import LocalProcesses
from cimq.policy_search.workers.pool import Pool
from cimq.policy_search.workers.scheduler import WorkerTraceback
from cimq.policy_search.workers.sending import check_sendable
from cimq.torch_tools.settings import TorchSettings

# In a module of its own: workers import what they are sent.
TOOL = """
import os, pathlib, signal, time, warnings
import torch
from cimq import CimqWarning
from cimq.torch_tools.settings import TorchSettings

class Tool:
    def __init__(self, weight):
        self.weight = weight

    def plus(self, number):
        return number + self.weight

    def add(self, number):
        self.weight += number
        return float(self.weight[0])

    def threads(self):
        return torch.get_num_threads()

    def settings(self):
        return TorchSettings.here()

    def process(self):
        time.sleep(0.2)
        return os.getpid()

    def raises(self, text):
        raise KeyError(text)

    def warns(self, text):
        warnings.warn(text, CimqWarning)

    def dies_once(self, folder):
        path = pathlib.Path(folder, "died")
        if not path.exists():
            path.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return "answered"

    def dies(self):
        os._exit(3)
"""


@pytest.fixture(scope="module")
def tool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    folder = tmp_path_factory.mktemp("tool")
    (folder / "tool_of_workers.py").write_text(TOOL)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        import tool_of_workers

        yield tool_of_workers.Tool(torch.ones(3))


@pytest.fixture(scope="module")
def pool(tool: Any) -> Iterator[LocalProcesses]:
    pool = LocalProcesses(2, threads=1)
    try:
        pool.start()
        pool.equip({"tool": tool})
        yield pool
    finally:
        pool.close()


def answers(pool: Pool, *calls: tuple[str, tuple[Any, ...]]) -> list[Any]:
    return [pool.result(ticket) for ticket in pool.submit([Call("tool", *call) for call in calls])]


def test_answers_come_in_the_order_of_the_calls_from_several_processes(pool: LocalProcesses) -> None:
    found = answers(pool, *(("plus", (number,)) for number in range(20)))
    assert [float(value[0]) for value in found] == [number + 1.0 for number in range(20)]
    assert len(set(answers(pool, *[("process", ())] * 6))) == 2
    assert answers(pool, ("threads", ())) == [1]
    assert pool.busy == 0


def test_tools_are_copies(pool: LocalProcesses, tool: Any) -> None:
    """The file that workers map is shared, but what one of them writes is its own."""
    assert set(answers(pool, *[("add", (1.0,))] * 2)) <= {2.0, 3.0}
    assert float(tool.weight[0]) == 1.0


def test_an_error_comes_back_with_the_traceback_of_the_worker(pool: LocalProcesses) -> None:
    with pytest.raises(KeyError, match="of a user") as caught:
        answers(pool, ("raises", ("of a user",)))
    assert isinstance(caught.value.__cause__, WorkerTraceback)
    assert "tool_of_workers.py" in str(caught.value.__cause__)
    assert "raise KeyError(text)" in str(caught.value.__cause__)


def test_a_warning_is_given_here_once(pool: LocalProcesses) -> None:
    with pytest.warns(CimqWarning, match="mind this") as caught:
        answers(pool, *[("warns", ("mind this",))] * 4)
    assert len(caught) == 1


def test_a_worker_that_dies_is_replaced_and_its_call_answered_again(pool: LocalProcesses, tmp_path: Path) -> None:
    with pytest.warns(CimqWarning, match="one of the 2 local workers was killed by signal 9; another takes its place"):
        found = answers(pool, ("dies_once", (str(tmp_path),)), ("plus", (1,)), ("plus", (2,)))
    assert found[0] == "answered"
    assert [float(value[0]) >= 2.0 for value in found[1:]] == [True, True]
    assert pool.busy == 0
    assert len(set(answers(pool, *[("process", ())] * 6))) == 2
    assert answers(pool, ("threads", ())) == [1]


@pytest.mark.filterwarnings("ignore:search. one of the 2 local workers:cimq.CimqWarning")
def test_what_kills_workers_is_an_error(pool: LocalProcesses, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cimq.policy_search.workers.scheduler._DEATHS", 1)
    words = r"1 of the 2 local workers died while they answered tool.dies\(\); the last one ended with exit code 3"
    with pytest.raises(RuntimeError, match=words):
        answers(pool, ("dies", ()))


def test_where_no_worker_can_be_replaced_all_are_dead(pool: LocalProcesses, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last test with this pool."""
    monkeypatch.setattr(LocalProcesses, "_replace", lambda _: None)
    with pytest.raises(RuntimeError, match="all 2 local workers have died; the last one ended with exit code 3"):
        answers(pool, ("dies", ()))


def test_workers_compute_as_the_caller_does(tool: Any) -> None:
    before = TorchSettings.here()
    wanted = before._replace(default_dtype=torch.float64, deterministic=True, warn_only=True, flush_denormal=True)
    assert wanted != before
    try:
        wanted.apply()
        assert TorchSettings.here() == wanted
        pool = LocalProcesses(1, threads=1)
        try:
            pool.start()
            pool.equip({"tool": tool})
            assert answers(pool, ("settings", ())) == [wanted]
        finally:
            pool.close()
    finally:
        before.apply()
    assert TorchSettings.here() == before


def test_the_threads_of_this_process_are_set_for_a_call_and_come_back(tool: Any) -> None:
    pool = InProcess(3)
    pool.equip({"tool": tool})
    before = torch.get_num_threads()
    assert answers(pool, ("threads", ())) == [3]
    assert torch.get_num_threads() == before
    with pytest.raises(KeyError):
        answers(pool, ("raises", ("text",)))
    assert torch.get_num_threads() == before


@pytest.fixture(scope="module")
def net() -> nn.Module:
    return trained_network()


def test_the_result_of_a_search_does_not_depend_on_its_workers(net: nn.Module, tmp_path: Path) -> None:
    alone = search(net, out=tmp_path / "alone")
    together = search(net, out=tmp_path / "together", workers=2)
    assert rows(tmp_path / "together") == rows(tmp_path / "alone")
    assert_same(together, alone)
    assert not together.model.training


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("loss_fn", lambda output, target: output.sum()),
        ("metric_fn", lambda output, target: 1.0),
        ("forward_fn", lambda model, batch: model(batch[0])),
    ],
)
def test_what_cannot_be_sent_is_named_before_anything_is_started(
    net: nn.Module, monkeypatch: pytest.MonkeyPatch, name: str, value: Any
) -> None:
    monkeypatch.setattr(LocalProcesses, "__init__", lambda *_: pytest.fail("processes were started"))
    options: dict[str, Any] = {"loss_fn": nn.functional.cross_entropy, "metric_fn": nn.functional.cross_entropy}
    with pytest.raises(TypeError, match=f"search: with workers=2, {name} must be something that can be sent"):
        search(net, workers=2, **{**options, name: value})


def test_a_loader_that_cannot_be_sent_is_named(net: nn.Module) -> None:
    class Loader:
        def __iter__(self) -> Any:
            return iter(data(3))

    with pytest.raises(TypeError, match=r"loader must be something that can be sent .*; got a Loader"):
        check_sendable(2, {"model": net, "loader": Loader()})


def test_without_ray_the_command_that_installs_it_is_said(net: nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ImportError, match=r'needs Ray, which is not installed: pip install "cimq\[ray\]"'):
        search(net, workers="ray://127.0.0.1:10001")


def test_the_end_of_the_workers_does_not_wait_for_what_they_do(tool: Any) -> None:
    pool = LocalProcesses(1, threads=1)
    pool.start()
    (process,) = [process for process, _ in pool._processes.values()]
    pool.equip({"tool": tool})
    pool.submit([Call("tool", "process", ())] * 100)
    start = time.monotonic()
    pool.close()
    assert time.monotonic() - start < 5
    assert process.exitcode == -signal.SIGKILL
