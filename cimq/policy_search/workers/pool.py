"""What a pool of workers is, and the one that has none: calls are answered in this process."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from cimq.torch_tools.threads import computing_threads


class Call(NamedTuple):
    """A method of a tool, and what it is called with. Its answer is a function of these alone.

    Attributes:
        tool: Name of an object that workers were equipped with.
        method: One of its methods.
        arguments: Plain values, among them the policy.
    """

    tool: str
    method: str
    arguments: tuple[Any, ...]

    def answer(self, tools: Mapping[str, Any]) -> Any:
        """Calls the method."""
        return getattr(tools[self.tool], self.method)(*self.arguments)


class Pool(Protocol):
    """Answers calls, several at a time."""

    @property
    def width(self) -> int:
        """How many calls may be answered at a time."""
        ...

    @property
    def busy(self) -> int:
        """How many calls wait for an answer."""
        ...

    def start(self) -> None:
        """Waits until there are workers: what prevents that is found out before long work."""
        ...

    def equip(self, tools: Mapping[str, Any]) -> None:
        """Gives every worker a copy of the tools; before the first call."""
        ...

    def submit(self, calls: Sequence[Call]) -> list[int]:
        """Takes calls, to be answered in this order; gives a ticket for each."""
        ...

    def result(self, ticket: int) -> Any:
        """Waits for an answer, once; raises what the call raised."""
        ...

    def close(self) -> None:
        """Ends the workers, whatever they are doing."""
        ...


class InProcess:
    """No workers: a call is answered when its result is asked for.

    Args:
        threads: Of PyTorch, while it is answered.
    """

    width = 1
    busy = 0

    def __init__(self, threads: int) -> None:
        self._threads = threads
        self._tools: Mapping[str, Any] = {}
        self._calls: list[Call] = []

    def start(self) -> None:
        """Nothing to wait for."""

    def equip(self, tools: Mapping[str, Any]) -> None:
        """Keeps the tools."""
        self._tools = tools

    def submit(self, calls: Sequence[Call]) -> list[int]:
        """Notes calls."""
        first = len(self._calls)
        self._calls += calls
        return list(range(first, len(self._calls)))

    def result(self, ticket: int) -> Any:
        """Answers a call."""
        with computing_threads(self._threads):
            return self._calls[ticket].answer(self._tools)

    def close(self) -> None:
        """Nothing to end."""
