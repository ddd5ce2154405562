"""The source distribution holds the project. `make test-sdist` also builds and uses it."""

from __future__ import annotations

import shutil
import sys
import tarfile
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
import source_distribution

checkout = pytest.mark.skipif(
    shutil.which("git") is None or not (source_distribution.ROOT / ".git").exists(),
    reason="a source distribution is made from a checkout",
)


@checkout
def test_it_is_complete(tmp_path: Path) -> None:
    made = source_distribution.make(tmp_path)
    assert source_distribution.missing(made) == []
    with tarfile.open(made) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert names >= {"CMakeLists.txt", "csrc/CMakeLists.txt", "csrc/cmake/packages.cmake", "csrc/python/module.cpp"}
    assert names >= {"README.md", "LICENSE", "pyproject.toml", "setup.py", "tests/csrc/CMakeLists.txt"}
    assert names >= {"cimq/hardware_presets/paper.yaml", "cimq/report/templates/page.html.j2", "cimq/py.typed"}
    built = [name for name in names if name.endswith((".so", ".pyc", ".o")) or name.startswith(("build/", "cimq/bin"))]
    assert built == []
