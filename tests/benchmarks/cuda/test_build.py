"""The build stage: what is missing is named, what came with the tree is used where it fits, nvcc's output is judged."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import _build
import cuda_static
import pytest
from _build import Build, Chip, kernels_outcome, unfit
from _commands import Ran
from _record import ABSENT, DONE, FAILED, OUT_OF_TIME

HOPPER = Chip("NVIDIA H100 80GB HBM3", 9, 0)
ENTRY = """\
ptxas info    : Compiling entry function '_Z{length}{name}v' for '{chip}'
    0 bytes stack frame, {spilled} bytes spill stores, 0 bytes spill loads
ptxas info    : Used 32 registers, used 0 barriers, 448 bytes cmem[0]
"""


def log_of(chips: list[str], *, spilled: int = 0) -> str:
    names = list(cuda_static.LAUNCHES)
    return "".join(
        ENTRY.format(name=name, length=len(name), chip=chip, spilled=spilled) for name in names for chip in chips
    )


@pytest.mark.parametrize(
    ("architectures", "fits"),
    [
        ("90", True),
        ("90-real", True),
        ("80-real 86-real 89-real 90 120", True),
        ("80-real 86-real", False),
        ("80", True),  # its PTX
        ("90-virtual", True),
        ("120", False),
        ("100-real", False),
    ],
)
def test_whether_an_extension_has_code_for_a_chip(architectures: str, fits: bool) -> None:
    built = {"cuda": f"on (nvcc 13.0.88, architectures {architectures})", "cuda_available": True}
    assert (unfit(built, HOPPER) == "") is fits
    if not fits:
        assert "no code for sm_90" in unfit(built, HOPPER)


def test_code_for_an_earlier_chip_of_the_same_major_number_runs() -> None:
    built = {"cuda": "on (nvcc 13.0.88, architectures 80-real)", "cuda_available": True}
    assert unfit(built, Chip("NVIDIA A40", 8, 6)) == ""
    built["cuda"] = "on (nvcc 13.0.88, architectures 89-real)"
    assert "no code for sm_86" in unfit(built, Chip("NVIDIA A40", 8, 6))


def test_an_extension_without_cuda_does_not_fit() -> None:
    assert "no CUDA code: off (no nvcc found)" in unfit(
        {"cuda": "off (no nvcc found)", "cuda_available": False}, HOPPER
    )
    assert "finds no CUDA device" in unfit({"cuda": "on (nvcc 13, architectures 90)", "cuda_available": False}, HOPPER)


def build_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str, missing: list[str]) -> Build:
    (tmp_path / "cimq").mkdir(exist_ok=True)
    monkeypatch.setattr(_build, "ROOT", tmp_path)
    monkeypatch.setattr(_build, "missing_for_build", lambda: missing)
    return Build(HOPPER, mode, tmp_path)


def test_without_a_compiler_the_extension_of_the_tree_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build = build_in(tmp_path, monkeypatch, "auto", ["nvcc: of the CUDA toolkit, on PATH"])
    part = next(build.parts())
    none = part.run(100)
    assert (none.status, "missing are nvcc" in none.note, "the tree has no extension" in none.note) == (
        ABSENT,
        True,
        True,
    )
    (tmp_path / "cimq" / "_C.cpython-312-x86_64-linux-gnu.so").write_bytes(b"code")
    prebuilt = part.run(100)
    assert prebuilt.status == DONE
    assert prebuilt.values == {"prebuilt": {"_C.cpython-312-x86_64-linux-gnu.so": "5694d08a2e53"}}  # sha256 of b"code"
    demanded = next(build_in(tmp_path, monkeypatch, "always", ["nvcc: of the CUDA toolkit, on PATH"]).parts())
    assert demanded.run(100).status == FAILED


def test_cpp_tests_need_a_build_and_catch2(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build = build_in(tmp_path, monkeypatch, "auto", [])
    part = list(build.parts())[-1]
    monkeypatch.setenv("CATCH2_INCLUDE", str(tmp_path))
    assert part.run(100).status == ABSENT  # neither
    build.build_folder.mkdir()
    (build.build_folder / "CMakeCache.txt").touch()
    assert part.run(100).status == ABSENT  # no Catch2
    (tmp_path / "catch2").mkdir()
    (tmp_path / "catch2" / "catch.hpp").touch()
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "cmake").write_text('#!/bin/sh\necho "$@"\nexit ${STATUS:-0}\n')
    (tools / "cmake").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}:/usr/bin:/bin")
    assert part.run(100).status == DONE
    assert f"--build {build.build_folder} --target all" in (tmp_path / "build-tests.log").read_text()
    monkeypatch.setenv("STATUS", "2")
    assert part.run(100).status == FAILED


def test_never_does_not_build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    outcome = next(build_in(tmp_path, monkeypatch, "never", []).parts()).run(100)
    assert (outcome.status, outcome.note.split(";")[0]) == (ABSENT, "asked for")


def test_what_nvcc_says_of_the_kernels_is_kept_and_judged() -> None:
    good = kernels_outcome(log_of(["sm_90"]), ["sm_90"], None)
    assert good.status == DONE
    assert {row["kernel"] for row in good.values["kernels"]} == set(cuda_static.LAUNCHES)
    spilled = kernels_outcome(log_of(["sm_90"], spilled=8), ["sm_90"], None)
    assert spilled.status == FAILED
    assert "crossbar_product spills 8 bytes on sm_90" in spilled.note
    assert len(spilled.values["kernels"]) == len(cuda_static.LAUNCHES)
    absent = kernels_outcome(log_of(["sm_90"]), ["sm_80", "sm_90"], None)
    assert (absent.status, "crossbar_product was not compiled for sm_80" in absent.note) == (FAILED, True)
    unknown = kernels_outcome(ENTRY.format(name="other", length=5, chip="sm_90", spilled=0), ["sm_90"], None)
    assert (unknown.status, "how is other launched?" in unknown.note) == (FAILED, True)


@pytest.mark.parametrize("script", ["exit 1", "echo nothing of a kernel"])
def test_a_disassembler_that_fails_leaves_the_rest(tmp_path: Path, script: str) -> None:
    (tmp_path / "cuobjdump").write_text(f"#!/bin/sh\n{script}\n")
    (tmp_path / "cuobjdump").chmod(0o755)
    (tmp_path / "kernel.o").touch()
    outcome = kernels_outcome(log_of(["sm_90"]), ["sm_90"], tmp_path, tmp_path)
    assert outcome.status == DONE
    assert "instructions were not counted: cuobjdump" in outcome.note
    assert outcome.values["kernels"][0]["registers"] == 32


@pytest.mark.parametrize(
    ("ran", "status"),
    [
        ([Ran(0, ""), Ran(0, log_of(["sm_90"]))], DONE),
        ([Ran(1, "CMake Error")], FAILED),
        ([Ran(0, ""), Ran(None, "half of it")], OUT_OF_TIME),
        ([Ran(0, ""), Ran(0, "ninja: no work to do.")], FAILED),  # nothing was compiled: the table is of no sources
    ],
)
def test_how_a_build_ends(tmp_path: Path, ran: list[Ran], status: str) -> None:
    answers = iter(ran)

    def run(*arguments: Any, **named: Any) -> Ran:
        return next(answers)

    commands = [["cmake", "-S", "."], ["cmake", "--build", "."]]
    outcome = _build.compiled(commands, 60, tmp_path / "log", ["sm_90"], tmp_path, run=run)
    assert outcome.status == status


def test_what_a_build_needs_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setitem(_build.PACKAGES, "no_such_module", "no-such-package==1")
    missing = "\n".join(_build.missing_for_build())
    for name in ("nvcc", "cmake", "a C++20 compiler", "no-such-package==1"):
        assert name in missing
