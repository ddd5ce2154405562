"""Who answers which call: workers get one call at a time, and the call of a worker that dies goes to another."""

from __future__ import annotations

import abc
import itertools
import traceback
import warnings
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from cimq.policy_search.workers.pool import Call

# A call during which so many workers died is not given to another: it is what kills them.
_DEATHS = 3


class Said(NamedTuple):
    """A warning that was given while a call was answered."""

    category: type[Warning]
    message: str
    filename: str
    line: int


class Answer(NamedTuple):
    """What a worker makes of a call.

    Attributes:
        value: What the call gave, None if it raised.
        error: What it raised.
        trace: Traceback of the error, as text.
        warned: Warnings on the way.
    """

    value: Any
    error: BaseException | None
    trace: str
    warned: Sequence[Said]


class WorkerTraceback(Exception):  # noqa: N818 - no error of its own, but where one came from
    """The traceback of an error in a worker: the cause of the error that is raised here."""

    def __str__(self) -> str:
        return f"\n{self.args[0]}"


class Died(NamedTuple):
    """A worker is no more.

    Attributes:
        reason: How it ended.
    """

    reason: str


def answered(call: Call, tools: Mapping[str, Any]) -> Answer:
    """Answers a call in a worker; errors and warnings become part of the answer."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            value, error, trace = call.answer(tools), None, ""
        except Exception as raised:
            value, error, trace = None, raised, traceback.format_exc()
    said = [Said(w.category, str(w.message), w.filename, w.lineno) for w in caught]
    return Answer(value, error, trace, list(dict.fromkeys(said)))


class Scheduler(abc.ABC):
    """The part of a pool that does not depend on where workers are.

    Args:
        name: Of the pool, for errors.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._tickets = itertools.count()
        self._calls: dict[int, Call] = {}
        self._waiting: deque[int] = deque()
        self._running: dict[Any, int] = {}  # worker -> ticket
        self._answers: dict[int, Answer] = {}
        self._deaths: dict[int, int] = {}  # ticket -> workers that died of it
        self._last_death = ""
        self._said: set[tuple[type[Warning], str]] = set()

    # ---- what a kind of pool brings ----
    @abc.abstractmethod
    def _idle(self) -> list[Any]:
        """Workers that are ready, but for those of `self._running`; more are started where that is possible."""

    @abc.abstractmethod
    def _send(self, worker: Any, call: Call) -> None:
        """Gives a call to a worker; that the worker is dead is found out by `_events`."""

    @abc.abstractmethod
    def _events(self, waits: bool) -> list[tuple[Any, Answer | Died]]:
        """What happened: of what did not happen yet, the first is waited for. Dead workers are never idle again.

        An empty list: there may be idle ones now.
        """

    @abc.abstractmethod
    def _hope(self) -> bool:
        """Whether there is a worker, or there will be."""

    # ---- a pool ----
    def submit(self, calls: Sequence[Call]) -> list[int]:
        """Takes calls, to be answered in this order; gives a ticket for each."""
        tickets = [next(self._tickets) for _ in calls]
        self._calls.update(zip(tickets, calls, strict=True))
        self._waiting += tickets
        self._assign()
        return tickets

    def result(self, ticket: int) -> Any:
        """Waits for an answer, once; raises what the call raised.

        Raises:
            RuntimeError: If no worker is left, or the call has ended several of them.
        """
        while ticket not in self._answers:
            self._assign()
            if not self._hope():
                raise RuntimeError(f"search: all {self._name} have died; the last one {self._last_death}")
            self._look(waits=True)
        return self._value_of(self._answers.pop(ticket))

    def _value_of(self, answer: Answer) -> Any:
        """The value; the warnings and the error are given here as they were there."""
        for said in answer.warned:
            if (said.category, said.message) not in self._said:  # once, not once per worker
                self._said.add((said.category, said.message))
                warnings.warn_explicit(said.message, said.category, said.filename, said.line)
        if answer.error is not None:
            raise answer.error from WorkerTraceback(answer.trace)
        return answer.value

    @property
    def busy(self) -> int:
        """How many calls wait for an answer."""
        self._look(waits=False)
        return len(self._calls)

    def _look(self, waits: bool) -> None:
        for worker, event in self._events(waits):
            self._take(worker, event)
        self._assign()

    def _assign(self) -> None:
        if not self._waiting:
            return
        for worker in self._idle():
            if not self._waiting:
                return
            ticket = self._waiting.popleft()
            self._running[worker] = ticket
            self._send(worker, self._calls[ticket])

    def _take(self, worker: Any, event: Answer | Died) -> None:
        ticket = self._running.pop(worker, None)
        if isinstance(event, Died):
            self._last_death = event.reason
        if ticket is None:
            return
        if isinstance(event, Answer):
            self._answers[ticket] = event
            del self._calls[ticket]
            return
        self._deaths[ticket] = self._deaths.get(ticket, 0) + 1
        if self._deaths[ticket] >= _DEATHS:
            call = self._calls.pop(ticket)
            raise RuntimeError(
                f"search: {_DEATHS} of the {self._name} died while they answered {call.tool}.{call.method}"
                f"{call.arguments}; the last one {event.reason}"
            )
        self._waiting.appendleft(ticket)
