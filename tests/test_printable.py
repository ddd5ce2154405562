"""Control characters from files never reach a terminal as such."""

from __future__ import annotations

import pytest

from cimq.printable import printable, printable_lines
from cimq.text_table import aligned_table


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("conv1.weight", "conv1.weight"),
        ("größe €", "größe €"),
        ("\x1b[31mred\x07", r"\x1b[31mred\x07"),
        ("fc: 3 values, equal\ncheck passed", r"fc: 3 values, equal\ncheck passed"),
        ("\x7f\r\t\0", r"\x7f\x0d\x09\x00"),
        ("\x9b31m", r"\u009b31m"),
        ("\u202eevil\u2066", r"\u202eevil\u2066"),
        ("\ud800", r"\ud800"),
    ],
)
def test_control_characters_become_escapes(text: str, shown: str) -> None:
    assert printable(text) == shown
    printable(text).encode()


def test_lines_stay_lines() -> None:
    assert printable_lines("one\n\ttwo\x1b\r") == "one\n\ttwo\\x1b\\x0d"


def test_tables_stay_aligned() -> None:
    table = aligned_table([["name", "n"], ["a\x1b[2J\n", "1"], ["b", "22"]])
    assert "\x1b" not in table
    assert len(table.splitlines()) == 4
    assert len({len(line) for line in table.splitlines()}) == 1
