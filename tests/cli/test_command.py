"""The command itself: version, help, and one sentence instead of a traceback."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from cli_commands import cimq_command, expected_by_hand, refused, table, write

import cimq


def test_info() -> None:
    result = cimq_command("info")
    assert result.exit_code == 0
    for key in ("version", "torch_built", "isa_chosen", "threads"):
        assert key in result.stdout
    facts = json.loads(cimq_command("info", "--json").stdout)
    assert facts["torch_built"] == facts["torch_running"]


def test_version() -> None:
    result = cimq_command("--version")
    assert (result.exit_code, result.stdout) == (0, f"cimq {cimq.__version__}\n")
    assert "--version" in cimq_command("--help").stdout


def test_out_of_memory_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for error, sentence in [
        (MemoryError(), "cimq: out of memory\n"),
        (MemoryError("std::bad_alloc"), "cimq: out of memory\n"),
        (MemoryError("Unable to allocate 8 GiB"), "cimq: out of memory (Unable to allocate 8 GiB)\n"),
    ]:

        def fails(*_: Any, error: MemoryError = error, **__: Any) -> None:
            raise error

        monkeypatch.setattr("cimq.load_bundle", fails)
        assert refused("run", tmp_path, "--check") == sentence


def test_messages_hold_no_control_characters(tmp_path: Path) -> None:
    sentence = refused("latency", tmp_path / "no\x1b[31m\x07\n.json")
    assert "no\\x1b[31m\\x07" in sentence
    content = table()
    content["policies"][0]["name"] = "p\x1b[2J\nq"
    printed = cimq_command("latency", write(tmp_path, content))
    assert "\x1b" not in printed.stdout
    assert len([line for line in printed.stdout.splitlines() if "p\\x1b[2J\\nq" in line]) == 3


def test_usage_errors_and_help() -> None:
    assert cimq_command("latency").exit_code == 2
    assert cimq_command("nothing").exit_code == 2
    help_text = cimq_command("--help").stdout
    for name in ("info", "latency", "search", "compile", "run", "report"):
        assert f"\n  {name} " in help_text


def test_python_dash_m(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "cimq", "latency"]
    content = table()
    content["hardware"]["crossbars"] = 4
    done = subprocess.run(
        [*command, str(write(tmp_path, content)), "--json"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout)["p"] == expected_by_hand()
    assert done.stderr.startswith("cimq: warning: hardware 'custom' has 4 crossbars, but the closed-form latency")
    done = subprocess.run([*command, "nowhere.json"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "cimq: policy table nowhere.json does not exist\n"


def test_traceback_on_request(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CIMQ_TRACEBACK", "1")
    result = cimq_command("latency", "nowhere.json")
    assert isinstance(result.exception, FileNotFoundError)


# ---- search configurations ----
