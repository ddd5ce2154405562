"""Workers that are processes on this machine."""

from __future__ import annotations

import contextlib
import itertools
import multiprocessing
import os
import pickle
import shutil
import signal
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any

import torch

from cimq.errors import CimqWarning
from cimq.policy_search.workers.local_worker import serve
from cimq.policy_search.workers.pool import Call
from cimq.policy_search.workers.scheduler import Answer, Died, Scheduler
from cimq.policy_search.workers.sending import unpacked
from cimq.torch_tools.settings import TorchSettings

_GUARD = (
    'a script that searches with workers must call cimq.search under `if __name__ == "__main__":`, as each worker '
    "reads the script again"
)


class LocalProcesses(Scheduler):
    """Processes that are started now, each with its own copy of what it is equipped with; one that dies is replaced.

    Args:
        count: How many.
        threads: Of PyTorch in each.
    """

    def __init__(self, count: int, threads: int) -> None:
        super().__init__(f"{count} local workers" if count > 1 else "local workers")
        self.width = count
        self._threads = threads
        self._settings = TorchSettings.here()
        self._tools: Mapping[str, Any] = {}
        self._numbers = itertools.count()
        self._processes: dict[int, tuple[SpawnProcess, Connection]] = {}
        for _ in range(count):
            self._spawn()

    def start(self) -> None:
        """Waits until the processes are there.

        Raises:
            RuntimeError: If none is.
        """
        for number in list(self._processes):
            self._hear(number)
        if not self._processes:
            raise RuntimeError(
                f"search: no worker could be started, the last one {self._last_death}; what it said is above. Note "
                f"that {_GUARD}"
            )

    def equip(self, tools: Mapping[str, Any]) -> None:
        """Writes the tools to a file that all processes map; it is gone when they have.

        Raises:
            RuntimeError: If no process is left.
            Exception: What a process raised that could not read it.
        """
        self._tools = dict(tools)
        self._send_tools(list(self._processes))
        if not self._processes:
            raise RuntimeError(f"search: all {self._name} have died; the last one {self._last_death}")

    def close(self) -> None:
        """Ends the processes, whatever they are doing."""
        for process, _ in self._processes.values():
            process.kill()
        for process, connection in self._processes.values():
            process.join(5)
            connection.close()
        self._processes = {}

    def _idle(self) -> list[int]:
        return [number for number in self._processes if number not in self._running]

    def _send(self, worker: int, call: Call) -> None:
        self._tell(worker, tuple(call))

    def _events(self, waits: bool) -> list[tuple[int, Answer | Died]]:
        by_handle: dict[Any, int] = {}
        for number, (process, connection) in self._processes.items():
            by_handle[connection] = by_handle[process.sentinel] = number
        events: list[tuple[int, Answer | Died]] = []
        for number in dict.fromkeys(by_handle[handle] for handle in wait(list(by_handle), None if waits else 0)):
            content = self._hear(number)
            events.append((number, Died(self._last_death) if content is None else unpacked(content)))
            if content is None:
                self._replace()
        return events

    def _hope(self) -> bool:
        return bool(self._processes)

    def _spawn(self) -> int:
        """Starts a process; its greeting is still to be heard."""
        number = next(self._numbers)
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        arguments = (theirs, self._threads, self._settings, os.getpid())
        process = context.Process(target=serve, args=arguments, name=f"cimq {number}")
        with _interrupts_blocked():  # also in what is started, until that ignores them
            process.start()
        theirs.close()
        self._processes[number] = (process, ours)
        return number

    def _replace(self) -> None:
        """Starts and equips a process in place of one that has died; one that dies of that is not replaced."""
        reason = self._last_death
        number = self._spawn()
        if self._hear(number) is not None:
            self._send_tools([number])
        if number in self._processes:
            self._last_death = reason
            warnings.warn(
                f"search: one of the {self._name} {reason}; another takes its place, and its call is answered again",
                CimqWarning,
                stacklevel=2,
            )

    def _send_tools(self, numbers: Sequence[int]) -> None:
        """Equips processes; those that die of it are forgotten."""
        folder = Path(tempfile.mkdtemp(prefix="cimq-workers-"))
        try:
            path = folder / "tools.pt"
            torch.save(self._tools, path)
            for number in numbers:
                self._tell(number, str(path))
            answers = [self._hear(number) for number in numbers]
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        for content in answers:
            if content is not None:
                self._value_of(unpacked(content))

    def _tell(self, number: int, message: Any) -> None:
        with contextlib.suppress(OSError):  # it is dead, which is noticed where its answer is waited for
            self._processes[number][1].send_bytes(pickle.dumps(message))

    def _hear(self, number: int) -> bytes | None:
        """What a process says next; None if it has ended, and is forgotten."""
        process, connection = self._processes[number]
        try:
            # A process that a worker has started in turn may hold the connection open when the worker is dead.
            wait([connection, process.sentinel])
            if connection.poll():
                return connection.recv_bytes()
        except (EOFError, OSError):
            pass
        process.join(5)
        code = process.exitcode
        self._last_death = f"was killed by signal {-code}" if code and code < 0 else f"ended with exit code {code}"
        del self._processes[number]
        process.kill()
        connection.close()
        return None


@contextlib.contextmanager
def _interrupts_blocked() -> Iterator[None]:
    """Ctrl-C waits until the block has ended, and in processes that are started in it until they unblock it."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
