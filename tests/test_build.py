"""The build definition: which CUDA configurations are accepted, and what the refusals say."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[1]
BIN = Path(sys.executable).parent


def configure(
    tmp_path: Path, *definitions: str, path: str | None = None, architectures: str | None = None
) -> subprocess.CompletedProcess[str]:
    """Configures a build folder of its own; nothing is compiled beyond CMake's compiler checks."""
    cmake = shutil.which("cmake", path=f"{BIN}:{os.environ['PATH']}")
    if cmake is None:
        pytest.skip("CMake is not installed")
    environment = dict(os.environ)
    environment.pop("CUDACXX", None)
    environment.pop("TORCH_CUDA_ARCH_LIST", None)
    if architectures is not None:
        environment["TORCH_CUDA_ARCH_LIST"] = architectures
    if path is not None:
        environment["PATH"] = path
    command = [cmake, "-S", str(ROOT), "-B", str(tmp_path / "build"), f"-DPython_EXECUTABLE={sys.executable}"]
    return subprocess.run([*command, *definitions], capture_output=True, text=True, env=environment, check=False)


def flat(text: str) -> str:
    """CMake wraps its messages; compare without line breaks."""
    return " ".join(text.split())


def path_without_nvcc(tmp_path: Path) -> str:
    """A PATH on which the tools that a CPU build needs are found, but no nvcc."""
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ["c++", "g++", "cc", "gcc", "ld", "as", "ar", "ranlib", "make", "ninja", "uname", "sh", "nm", "strip"]:
        found = shutil.which(name, path=f"{BIN}:{os.environ['PATH']}")
        if found:
            (tools / name).symlink_to(found)
    return str(tools)


def test_unknown_cuda_choice_is_refused(tmp_path: Path) -> None:
    result = configure(tmp_path, "-DCIMQ_CUDA=maybe")
    assert result.returncode != 0
    assert "CIMQ_CUDA must be auto, on or off, got 'maybe'" in flat(result.stderr)


@pytest.mark.skipif(torch.version.cuda is not None, reason="needs a CPU build of torch")
def test_cuda_on_needs_a_cuda_torch(tmp_path: Path) -> None:
    result = configure(tmp_path, "-DCIMQ_CUDA=on")
    assert result.returncode != 0
    assert "CIMQ_CUDA=on needs a CUDA build of PyTorch" in flat(result.stderr)


@pytest.mark.skipif(torch.version.cuda is None, reason="needs a CUDA build of torch")
def test_cuda_on_needs_nvcc(tmp_path: Path) -> None:
    result = configure(tmp_path, "-DCIMQ_CUDA=on", path=path_without_nvcc(tmp_path))
    assert result.returncode != 0
    assert "CIMQ_CUDA=on needs nvcc" in flat(result.stderr)


@pytest.mark.skipif(torch.version.cuda is None, reason="needs a CUDA build of torch")
def test_cuda_torch_without_nvcc_builds_cpu_ops_and_says_so(tmp_path: Path) -> None:
    result = configure(tmp_path, path=path_without_nvcc(tmp_path))
    assert result.returncode == 0, result.stderr
    assert flat(result.stdout).count("no nvcc was found: building the CPU ops only") == 1


def test_torch_free_configuration(tmp_path: Path) -> None:
    result = configure(tmp_path, "-DCIMQ_TORCH=OFF")
    assert result.returncode == 0, result.stderr
    assert "torch none" in flat(result.stdout)


@pytest.mark.parametrize(
    ("architectures", "text"),
    [
        ("8.0 Ampere", "TORCH_CUDA_ARCH_LIST must be a list like '8.0 9.0+PTX', got 'Ampere' in it"),
        ("7.5;8.0", "the CUDA kernels need compute capability 8.0 or later, got '7.5' in TORCH_CUDA_ARCH_LIST"),
    ],
)
def test_architectures_that_kernels_cannot_have_are_refused(tmp_path: Path, architectures: str, text: str) -> None:
    result = configure(tmp_path, "-DCIMQ_TORCH=OFF", "-DCIMQ_CUDA=on", architectures=architectures)
    assert result.returncode != 0
    assert text in flat(result.stderr)


@pytest.mark.skipif(shutil.which("nvcc") is None, reason="needs nvcc")
def test_the_kernels_alone_are_configured_without_torch(tmp_path: Path) -> None:
    result = configure(tmp_path, "-DCIMQ_TORCH=OFF", "-DCIMQ_CUDA=on", architectures="8.6 9.0+PTX")
    assert result.returncode == 0, result.stderr
    assert "torch none, CUDA on" in flat(result.stdout)
    assert "architectures 86-real;90)" in flat(result.stdout)
