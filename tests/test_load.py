"""cimq._load: what importing says when the build and the installation do not fit."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import cimq
from cimq import _load

PACKAGE = Path(cimq.__file__).parent
REBUILD = "pip install --no-build-isolation -e ."


def copy_package(tmp_path: Path, **changed: Any) -> Path:
    """A copy of what importing needs, its build record changed; without the compiled module."""
    copy = tmp_path / "cimq"
    copy.mkdir()
    for name in ("__init__.py", "version.py", "_load.py", "errors.py"):
        shutil.copy(PACKAGE / name, copy)
    record = json.loads((PACKAGE / "_build_record.json").read_text()) | changed
    (copy / "_build_record.json").write_text(json.dumps(record))
    return copy


def import_error(package: Path) -> str:
    """Last line that `import cimq` prints in a fresh process, which must fail with an exception and not die."""
    done = subprocess.run(
        [sys.executable, "-c", "import cimq"],
        env={**os.environ, "PYTHONPATH": str(package.parent)},
        cwd=package.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    return done.stderr.strip().splitlines()[-1]


def test_other_torch_is_one_sentence_with_the_command(tmp_path: Path) -> None:
    message = import_error(copy_package(tmp_path, torch_version="2.99.0+cu999"))
    assert message == (
        f"ImportError: cimq was built against torch 2.99.0+cu999, but torch {torch.__version__} is installed: "
        f"rebuild with `{REBUILD}`."
    )


def test_missing_record(tmp_path: Path) -> None:
    package = copy_package(tmp_path)
    (package / "_build_record.json").unlink()
    assert import_error(package) == f"ImportError: cimq's extension is not built: run `{REBUILD}` in its source folder."


def test_missing_module(tmp_path: Path) -> None:
    message = import_error(copy_package(tmp_path))
    assert f"is missing for this Python {sys.version.split()[0]}: rebuild with `{REBUILD}`." in message
    assert "circular" not in message


def test_module_that_does_not_load(tmp_path: Path) -> None:
    package = copy_package(tmp_path)
    module = next(PACKAGE.glob("_C.*.so"))
    (package / module.name).write_bytes(b"not a shared library")
    message = import_error(package)
    assert message.startswith("ImportError: cimq's extension (built against torch")
    assert message.endswith(f"Rebuild with `{REBUILD}`.")


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"torch_version": 3}', '{"torch_version'])
def test_damaged_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str) -> None:
    (tmp_path / "_build_record.json").write_text(content)
    monkeypatch.setattr(_load, "_PACKAGE", tmp_path)
    with pytest.raises(ImportError, match=r"_build_record\.json is damaged: rebuild with"):
        _load.build_record()


def test_the_fitting_torch_is_accepted() -> None:
    _load.check_torch_version("2.13.0+cpu", "2.13.0+cpu")
    with pytest.raises(ImportError, match=r"built against torch 2\.13\.0\+cpu, but torch 2\.13\.1\+cpu"):
        _load.check_torch_version("2.13.0+cpu", "2.13.1+cpu")
    _load.load()
