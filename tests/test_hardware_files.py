"""cimq.hardware from files and from any content: read, written, and what is refused."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from cimq.hardware import (
    Hardware,
    Timing,
    resolve,
)

PAPER = Hardware.preset("paper")

plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
PATHS = [key for key in PAPER.to_dict() if key != "name"]


def machine_or_reason(make: Callable[[], Hardware]) -> tuple[Hardware | None, str]:
    """The machine, or None and the message of the ValueError; anything else fails the test."""
    try:
        return make(), ""
    except ValueError as error:
        return None, str(error)


@settings(max_examples=300)
@given(st.dictionaries(st.sampled_from(PATHS) | st.text(max_size=6), plain, max_size=3))
def test_any_content_is_a_machine_or_a_value_error(fields: dict[str, Any]) -> None:
    made, reason = machine_or_reason(lambda: Hardware.from_dict(fields))
    assert reason.startswith("hardware") if made is None else Hardware.from_json(made.to_json()) == made


@settings(max_examples=200)
@given(st.binary(max_size=60) | st.text(max_size=60).map(str.encode), st.sampled_from(["json", "yaml"]))
def test_any_file_is_a_machine_or_a_sentence(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, suffix: str
) -> None:
    path = tmp_path_factory.getbasetemp() / f"any.{suffix}"
    path.write_bytes(content)
    made, reason = machine_or_reason(lambda: Hardware.from_file(path))
    assert str(path) in reason if made is None else Hardware.from_json(made.to_json()) == made


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_file_with_base_and_name(tmp_path: Path) -> None:
    hw = Hardware.from_file(
        write(tmp_path / "lab.yaml", "base: paper-2b\nadc: {bits: 6}\ntiming: {mvm_time_us: 1e-1}\n")
    )
    assert (hw.name, hw.cell_bits, hw.adc.bits) == ("lab", 2, 6)
    assert hw.timing == Timing(56.0, 0.1)
    assert hw.source("timing.mvm_time_us") is None
    assert hw.source("timing.write_time_us")
    assert Hardware.from_file(write(tmp_path / "a.json", '{"rows": 64, "name": "n"}')) == Hardware(name="n", rows=64)


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("t.json", '{"rows": 12', "not valid JSON"),
        ("t.json", '{"rows": NaN}', "NaN is not a number that JSON knows"),
        ("t.json", '{"rows": 1, "rows": 2}', "key 'rows' is given twice"),
        ("t.json", '{"timing": {"mvm_time_us": 1e400}}', "must be a finite number, got inf"),
        ("t.json", "[" * 100_000, "nested too deeply|not valid JSON"),
        ("t.json", '{"adc": ' * 100 + "1" + "}" * 100, "nested too deeply"),
        ("t.json", "3", "holds fields with values, got int"),
        ("t.json", '{"rows": ' + "1" * 5000 + "}", "rows must be|Exceeds the limit"),
        ("t.yaml", "rows: 1\nrows: 2\n", r"key 'rows' is given twice \(line 2\)"),
        ("t.yaml", "rows: !!python/object/apply:os.getcwd []", "not valid YAML: could not determine a constructor"),
        ("t.yaml", "rows: [1, 2", "not valid YAML"),
        ("t.yaml", "timing: {mvm_time_us: 1e400}", "must be a finite number, got inf"),
        ("t.yaml", "timing: {mvm_time_us: .nan}", "must be a finite number, got nan"),
        ("t.yaml", "a: " + "[" * 3000 + "]" * 3000, "nested too deeply"),
        ("t.yaml", "a: &a [1, *a]", "nested too deeply"),
        ("t.yaml", "", "holds fields with values, got NoneType"),
        ("t.yaml", "rows: 2020-01-01", "rows must be a plain value"),
        ("t.yaml", "rows: 0x10000000", "rows must be an integer from 1 to 65536, got 268435456"),
        ("t.yaml", "? [1, 2]\n: 3\n", "key|unhashable|found"),
    ],
)
def test_damaged_files_are_named(tmp_path: Path, name: str, text: str, reason: str) -> None:
    path = write(tmp_path / name, text)
    with pytest.raises(ValueError, match=reason) as caught:
        Hardware.from_file(path)
    assert str(path) in str(caught.value)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"hardware file .*none\.yaml does not exist"):
        Hardware.from_file(tmp_path / "none.yaml")
    with pytest.raises(ValueError, match="is not a file"):
        Hardware.from_file(tmp_path)
    (tmp_path / "b.yaml").write_bytes(b"rows: \xff")
    with pytest.raises(ValueError, match="is not UTF-8 text"):
        Hardware.from_file(tmp_path / "b.yaml")
    with open(tmp_path / "big.json", "wb") as file:
        file.truncate(65 * 1024 * 1024)
    with pytest.raises(ValueError, match="more than the"):
        Hardware.from_file(tmp_path / "big.json")


def test_save_is_readable_atomic_and_knows_its_formats(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    PAPER.save(tmp_path / "p.yaml")
    assert yaml.safe_load((tmp_path / "p.yaml").read_text())["timing"]["mvm_time_us"] == 1.4
    umask = os.umask(0o022)
    os.umask(umask)
    assert stat.S_IMODE((tmp_path / "p.yaml").stat().st_mode) == 0o666 & ~umask
    with pytest.raises(ValueError, match=r"saved as \.json, \.yaml or \.yml, got 'p\.txt'"):
        PAPER.save(tmp_path / "p.txt")

    def fail(*_: Any) -> None:
        raise OSError("disk full")

    before = (tmp_path / "p.yaml").read_text()
    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        PAPER.replace(rows=2).save(tmp_path / "p.yaml")
    assert (tmp_path / "p.yaml").read_text() == before
    assert [path.name for path in tmp_path.iterdir()] == ["p.yaml"]


def test_wrong_python_types_are_type_errors() -> None:
    with pytest.raises(TypeError, match="takes the name of a preset, got int"):
        Hardware.preset(3)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="takes a mapping of fields, got list"):
        Hardware.from_dict([])  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="takes a text, got dict"):
        Hardware.from_json({})  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="must be a Hardware, a preset's name or a file, got int"):
        resolve(3)  # type: ignore[arg-type]


def test_resolve(tmp_path: Path) -> None:
    PAPER.save(tmp_path / "p.json")
    for given_as in (PAPER, "paper", PAPER.to_json(), tmp_path / "p.json", str(tmp_path / "p.json")):
        assert resolve(given_as) == PAPER
