"""The check of `make lint` that modules do not import each other in circles."""

import subprocess
import sys
from pathlib import Path

CHECK = Path(__file__).resolve().parents[2] / ".ci" / "check_imports.py"


def run_on(package):
    done = subprocess.run([sys.executable, CHECK, package], capture_output=True, text=True, check=False)
    assert done.stderr == ""
    return done.returncode, done.stdout.splitlines()


def write(folder, **modules):
    package = folder / "house"
    for name, text in {"__init__": "", **modules}.items():
        path = package.joinpath(*name.split("__in__")).with_suffix(".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return package


def test_a_package_that_imports_one_way_passes(tmp_path):
    package = write(
        tmp_path,
        floor="import json",
        wall="from house import floor\nfrom house.floor import json",
        roof="import house.wall\n\ndef build():\n    import json",
    )
    assert run_on(package) == (0, [])


def test_a_circle_is_found_however_long_and_however_it_is_imported(tmp_path):
    package = write(
        tmp_path,
        floor="from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from house.rooms.attic import Beam",
        wall="from house import floor",
        rooms__in__attic="from house import wall",
    )
    assert run_on(package) == (1, ["circle of imports: house.floor <-> house.rooms.attic <-> house.wall"])


def test_an_import_that_hides_in_a_function_is_found(tmp_path):
    package = write(tmp_path, floor="", wall="class Wall:\n    def stand(self):\n        from house import floor\n")
    status, lines = run_on(package)
    assert (status, len(lines)) == (1, 1)
    assert lines[0].startswith("house/wall.py:3: house.floor is imported inside a function")


def test_production_code_that_imports_the_specification_is_found(tmp_path):
    borrowing = "from house.ops.spec import rules"
    package = write(
        tmp_path, ops__in__spec__in__rules="", ops__in__spec__in__products=borrowing, ops__in__crossbar=borrowing,
        ops__in__ranges=borrowing,
    )  # fmt: skip
    status, lines = run_on(package)
    assert (status, len(lines)) == (1, 1)
    assert lines[0].startswith("house/ops/ranges.py:1: house.ops.spec.rules is the specification")


def test_the_package_itself_passes():
    assert run_on(CHECK.parents[1] / "cimq") == (0, [])
