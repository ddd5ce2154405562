"""Values out of JSON files, each with a check that names the file and the key."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from cimq.policy_rows import LayerBits, LayerMachine, checked_machine, short_row

_MAX_BYTES = 256 * 1024 * 1024
_T = TypeVar("_T")
Policy = tuple[tuple[Any, ...], ...]  # rows (w, a), longer where a layer is not as the machine


class Fields:
    """A JSON object whose values are taken out with a check; errors name the file and the key."""

    def __init__(self, value: Any, where: str) -> None:
        if not isinstance(value, dict):
            raise ValueError(f"{where} must be a JSON object, got {short(value)}")
        self._values = value
        self.where = where

    def has(self, key: str) -> bool:
        """Whether the key is there and not null."""
        return self._values.get(key) is not None

    def text(self, key: str) -> str:
        """A text."""
        return self._take(key, "a text", lambda value: value if isinstance(value, str) else None)

    def number(self, key: str) -> float:
        """A finite number."""
        return self._take(key, "a finite number", _finite)

    def count(self, key: str, least: int = 0) -> int:
        """An integer of at least `least`."""
        kind = f"an integer of at least {least}"
        return self._take(key, kind, lambda value: int(value) if is_integer(value) and value >= least else None)

    def flag(self, key: str) -> bool:
        """true or false."""
        return self._take(key, "true or false", lambda value: value if isinstance(value, bool) else None)

    def items(self, key: str) -> list[Any]:
        """A list."""
        return self._take(key, "a list", lambda value: value if isinstance(value, list) else None)

    def fields(self, key: str) -> Fields:
        """An object inside this one."""
        return Fields(self._take(key, "an object", lambda value: value), f"{self.where}: {key}")

    def optional(self, key: str, take: Callable[[str], _T]) -> _T | None:
        """What `take` gives, or None if the key is missing or null."""
        return take(key) if self.has(key) else None

    def plain(self) -> dict[str, Any]:
        """The object itself."""
        return self._values

    def _take(self, key: str, kind: str, convert: Callable[[Any], _T | None]) -> _T:
        if key not in self._values:
            raise ValueError(f"{self.where}: {key!r} is missing, it must be {kind}")
        converted = convert(self._values[key])
        if converted is None:
            raise ValueError(f"{self.where}: {key!r} must be {kind}, got {short(self._values[key])}")
        return converted


def read(path: Path) -> str:
    """Text of a file of a run.

    Raises:
        FileNotFoundError: If it is missing.
        ValueError: If it is too large or not UTF-8.
    """
    if not path.is_file():
        raise FileNotFoundError(f"report: {path} is missing; a finished search writes it (SearchResult.save)")
    if path.stat().st_size > _MAX_BYTES:
        raise ValueError(f"report: {path} has {path.stat().st_size} bytes, more than the {_MAX_BYTES} that are read")
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"report: {path} is not UTF-8 text ({error.reason} at byte {error.start})") from None


def parse(text: str, where: Path | str) -> Any:
    """A JSON value.

    Raises:
        ValueError: If it is none; begins with `where`.
    """
    try:
        return json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"{where} is not valid JSON: {error}") from None


def _finite(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        return None
    return float(value)


def is_integer(value: Any) -> bool:
    """Whether a JSON value is an integer."""
    return isinstance(value, int) and not isinstance(value, bool)


def short(value: Any) -> str:
    """A JSON value for a message."""
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."


def read_policy(fields: Fields) -> Policy:
    """The bits under "policy", and what layers choose of the machine.

    Raises:
        ValueError: If they are no rows of a policy; names which.
    """
    return tuple(_row(row, f"{fields.where}: policy[{i}]") for i, row in enumerate(fields.items("policy")))


def _row(value: Any, where: str) -> tuple[Any, ...]:
    if not isinstance(value, list) or len(value) < 2 or not all(is_integer(bits) for bits in value[:2]):
        raise ValueError(f"{where} must be a pair of bit widths, got {short(value)}")
    bits = LayerBits(read_bits(value[0], where), read_bits(value[1], where))
    return short_row(bits, read_machine(value[2:], where))


def read_machine(values: Sequence[Any], where: str) -> LayerMachine:
    """ADC bits and mapping of a layer; what is not there is as the machine.

    Raises:
        ValueError: If they are impossible.
    """
    if len(values) > len(LayerMachine._fields):
        raise ValueError(f"{where} must hold no more than ADC bits and a mapping after its bits, got {len(values)}")
    return checked_machine(LayerMachine(*values), where)


def read_bits(value: int, where: str) -> int:
    """A width.

    Raises:
        ValueError: If there is none such.
    """
    if not 1 <= value <= 8:
        raise ValueError(f"{where} must be 1 to 8 bits, got {value}")
    return value
