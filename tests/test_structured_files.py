"""cimq.structured_files: YAML and JSON that nobody vouches for, at every entry point that reads one."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import cimq
from cimq.cli.search_config import read_search_config
from cimq.cost_model.policy_table import read_policy_table
from cimq.structured_files import read_structured

READERS: list[Callable[[Path], Any]] = [
    cimq.Hardware.from_file,
    read_search_config,
    read_policy_table,
    lambda path: read_structured(path, "file"),
]


def nested_aliases(levels: int, width: int = 9, tail: str = "") -> str:
    """A few hundred bytes that stand for width ** levels values."""
    lines = ["a: &a [" + ",".join(['"x"'] * width) + "]"]
    for i in range(1, levels):
        name, before = chr(ord("a") + i), chr(ord("a") + i - 1)
        lines.append(f"{name}: &{name} [" + ",".join([f"*{before}"] * width) + "]")
    return "\n".join(lines) + "\n" + tail


def merged_mappings(levels: int) -> str:
    """Mappings that are merged (`<<`) nine times each: PyYAML copies their pairs while it loads."""
    lines = ["a: &a {k: 1}"]
    for i in range(1, levels):
        name, before = chr(ord("a") + i), chr(ord("a") + i - 1)
        lines.append(f"{name}: &{name} {{<<: [" + ",".join([f"*{before}"] * 9) + "]}")
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("text", [nested_aliases(10), nested_aliases(26, 3), merged_mappings(10)])
def test_aliases_within_aliases_are_refused_at_once(tmp_path: Path, reader: Callable[[Path], Any], text: str) -> None:
    path = tmp_path / "file.yaml"
    path.write_text(text)
    start = time.monotonic()
    with pytest.raises(ValueError, match="its aliases stand for more than 100000 values"):
        reader(path)
    assert time.monotonic() - start < 10


def test_a_value_within_itself_is_refused(tmp_path: Path) -> None:
    for text in ("a: &a [1, *a]", "a: &a {b: [*a]}"):
        (tmp_path / "file.yaml").write_text(text)
        with pytest.raises(ValueError, match="nested too deeply"):
            read_structured(tmp_path / "file.yaml", "file")


def test_ordinary_aliases_are_read(tmp_path: Path) -> None:
    path = tmp_path / "file.yaml"
    path.write_text("base: &base {rows: 1, cols: 2}\nother: {<<: *base, cols: 3}\nlist: [*base, *base]\n")
    assert read_structured(path, "file") == {
        "base": {"rows": 1, "cols": 2},
        "other": {"rows": 1, "cols": 3},
        "list": [{"rows": 1, "cols": 2}] * 2,
    }
    path.write_text(nested_aliases(4))
    assert len(read_structured(path, "file")["d"]) == 9


def test_long_files_without_aliases_are_read(tmp_path: Path) -> None:
    path = tmp_path / "file.yaml"
    path.write_text("a: [" + ",".join(["1"] * 110_000) + "]")
    assert len(read_structured(path, "file")["a"]) == 110_000


def test_a_byte_order_mark_is_no_json(tmp_path: Path) -> None:
    (tmp_path / "p.json").write_bytes(b'\xef\xbb\xbf{"fc": [4, 4]}')
    with pytest.raises(ValueError, match=r"p\.json: not valid JSON: begins with a byte order mark"):
        cimq.Policy.load(tmp_path / "p.json")
    # YAML allows one (5.2 of its specification).
    (tmp_path / "p.yaml").write_bytes(b"\xef\xbb\xbfrows: 3")
    assert read_structured(tmp_path / "p.yaml", "file") == {"rows": 3}
