"""Workers that are actors of an existing Ray cluster. Ray is optional and imported here alone."""

from __future__ import annotations

import contextlib
import importlib
import io
import itertools
import socket
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from cimq.errors import CimqWarning, first_line
from cimq.policy_search.workers.pool import Call
from cimq.policy_search.workers.ray_actor import RayWorker, versions
from cimq.policy_search.workers.scheduler import Answer, Died, Scheduler
from cimq.policy_search.workers.sending import unpacked
from cimq.torch_tools.settings import TorchSettings

_FAILED_STARTS = 3  # in a row, after which no more workers are started
_PATIENCE = 60.0  # seconds without a worker, after which the user is told
# Seconds for a first worker to import torch: on a machine with other work that takes a while.
_START = 180.0


class RayActors(Scheduler):
    """Actors, as many as there are calls to answer and CPUs in the cluster; a lost one is replaced where one fits.

    Tools go to the object store once. A connection to Ray that the caller has already is used, and left as it is.

    Args:
        address: Of the cluster: "auto", "HOST:PORT" or "ray://HOST:PORT".
        threads: Of PyTorch in each, which is the number of CPUs that it reserves.
        gpu: Whether each needs a GPU.

    Raises:
        ImportError: Without Ray; says how to install it.
        ConnectionError: If there is no such cluster.
    """

    def __init__(self, address: str, threads: int, gpu: bool) -> None:
        super().__init__(f"workers of the Ray cluster {address}")
        try:
            self._ray = importlib.import_module("ray")
        except ImportError:
            raise ImportError(
                f'search: workers={address!r} needs Ray, which is not installed: pip install "cimq[ray]"'
            ) from None
        self._threads = threads
        self._settings = TorchSettings.here()
        self._options = {"num_cpus": threads, "num_gpus": 1 if gpu else 0, "max_restarts": 0}
        self._connected = not self._ray.is_initialized()
        if self._connected:
            _check_reachable(address)
            try:
                self._ray.init(address=address, log_to_driver=False, logging_level="warning")
            except Exception as error:  # of many types, by the kind of address
                raise ConnectionError(f"search: no Ray cluster answers at {address!r} ({first_line(error)})") from error
        self._class = self._ray.remote(RayWorker)
        self._numbers = itertools.count()
        self._content: Any = None  # the tools in the object store
        self._actors: dict[int, Any] = {}
        self._starting: dict[Any, int] = {}  # reference of a greeting -> worker
        self._answering: dict[Any, int] = {}  # reference of an answer -> worker
        self._failed_starts = 0
        self._told = False

    @property
    def pickler(self) -> Any:
        """Class of what sends tools: what is defined in a script goes by value, as other machines have no script."""
        return self._ray.cloudpickle.Pickler

    @property
    def width(self) -> int:
        """How many actors fit, as far as is known now."""
        resources = self._ray.cluster_resources()
        fit = int(resources.get("CPU", 0)) // self._threads
        return max(1, min(fit, int(resources.get("GPU", 0))) if self._options["num_gpus"] else fit)

    def start(self) -> None:
        """Finds out whether a task runs on the cluster with the versions that are in use here.

        Raises:
            RuntimeError: If it does not.
        """
        ray = self._ray
        if self._options["num_gpus"] and ray.cluster_resources().get("GPU", 0) < 1:
            raise RuntimeError(
                f"search: the model is on a GPU, of which the {self._name} have none; start Ray with some, or search "
                "with model.cpu()"
            )
        try:
            found = ray.get(ray.remote(num_cpus=self._threads)(versions).remote(), timeout=_START)
        except ray.exceptions.RayError as error:
            raise RuntimeError(
                f"search: the {self._name} cannot be used; cimq must be installed on its machines, and "
                f"{self._threads} CPU{'s' * (self._threads > 1)} free on one of them ({first_line(error)})"
            ) from error
        self._check(found)

    def equip(self, tools: Mapping[str, Any]) -> None:
        """Puts the tools into the object store."""
        buffer = io.BytesIO()
        torch.save(dict(tools), buffer, pickle_module=self._ray.cloudpickle)
        self._content = self._ray.put(np.frombuffer(buffer.getbuffer(), np.uint8))

    def close(self) -> None:
        """Ends the actors, whatever they are doing."""
        for actor in self._actors.values():
            with contextlib.suppress(Exception):  # the cluster may be gone
                self._ray.kill(actor)
        self._actors, self._content = {}, None
        if self._connected:
            self._ray.shutdown()

    def _idle(self) -> list[int]:
        starting = self._starting.values()
        idle = [number for number in self._actors if number not in self._running and number not in starting]
        wanted = len(self._waiting) - len(idle) - len(self._starting)
        for _ in range(min(wanted, self.width - len(self._actors)) if wanted > 0 else 0):
            if self._failed_starts < _FAILED_STARTS:
                number = next(self._numbers)
                actor = self._class.options(**self._options).remote(self._content, self._threads, self._settings)
                self._actors[number] = actor
                self._starting[actor.hello.remote()] = number
        return idle

    def _send(self, worker: int, call: Call) -> None:
        self._answering[self._actors[worker].answer.remote(tuple(call))] = worker

    def _events(self, waits: bool) -> list[tuple[int, Answer | Died]]:
        references = [*self._answering, *self._starting]
        if not references:
            return []
        patience = None if self._answering or self._told else _PATIENCE
        ready, _ = self._ray.wait(references, num_returns=1, timeout=patience if waits else 0)
        if not ready and waits:
            self._tell()
        events: list[tuple[int, Answer | Died]] = []
        for reference in ready:
            greets = reference in self._starting
            number = (self._starting if greets else self._answering).pop(reference)
            try:
                found = self._ray.get(reference)
            except self._ray.exceptions.RayError as error:
                self._failed_starts += greets
                events.append((self._lost(number), Died(f"was lost ({first_line(error)})")))
                continue
            if greets:
                self._check(found)
                self._failed_starts = 0
            else:
                events.append((number, unpacked(found)))
        return events

    def _hope(self) -> bool:
        return bool(self._actors) or self._failed_starts < _FAILED_STARTS

    def _lost(self, number: int) -> int:
        with contextlib.suppress(Exception):  # it is mostly dead already
            self._ray.kill(self._actors[number])
        del self._actors[number]
        return number

    def _check(self, found: dict[str, str]) -> None:
        here = versions()
        if found != here:
            raise RuntimeError(
                "search: the machines of a search must have the same versions, as trained weights depend on them: here "
                f"{_listed(here)}, on the Ray cluster {_listed(found)}"
            )

    def _tell(self) -> None:
        self._told = True
        free = self._ray.available_resources()
        needs = "a GPU and " if self._options["num_gpus"] else ""
        gpus = f" and {free.get('GPU', 0):.0f} GPUs" if needs else ""
        warnings.warn(
            f"search: no Ray worker could be started for {_PATIENCE:.0f} s, waiting: each needs {needs}{self._threads} "
            f"CPUs, {free.get('CPU', 0):.0f} CPUs{gpus} are free",
            CimqWarning,
            stacklevel=2,
        )


def _check_reachable(address: str) -> None:
    """Ray itself tries for minutes."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if colon and port.isdecimal():
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=_PATIENCE).close()
        except (OSError, OverflowError) as error:
            raise ConnectionError(f"search: no Ray cluster answers at {address!r} ({first_line(error)})") from error


def _listed(found: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in found.items())
