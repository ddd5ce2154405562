"""benchmarks/ops/cuda_static.py: what it reads out of a log of nvcc, and that it fails where it must."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from scripts import load_script

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "ops" / "cuda_static.py"

# As nvcc 13.0 prints it; the first line of a kernel without spills and without shared memory of fixed size.
ENTRY = """\
ptxas info    : Compiling entry function '{name}' for '{chip}'
ptxas info    : Function properties for {name}
    {stack} bytes stack frame, {spilled} bytes spill stores, {spilled} bytes spill loads
ptxas info    : Used {registers} registers, used 0 barriers{shared}, 448 bytes cmem[0]
ptxas info    : Compile time = 95.835 ms
"""
NAMESPACE = "_ZN4cimq7kernels4cuda49_GLOBAL__N__a178ddd5_16_fake_quantize_cu_88cd045e"
FORWARD = NAMESPACE + "21fake_quantize_forwardIfLb1EEEvPKfS4_Pf"
PASS = NAMESPACE + "27fake_quantize_backward_passIfLi32EEEvPKf"
SUMS = NAMESPACE + "28fake_quantize_scale_gradientIfEEvPKd"
INTEGERS = NAMESPACE + "15quantize_valuesIfaLb1EEEvPKf"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    return load_script(SCRIPT, "cuda_static")


def entry(name: str, chip: str, *, registers: int = 32, spilled: int = 0, shared: str = "") -> str:
    return ENTRY.format(name=name, chip=chip, registers=registers, spilled=spilled, stack=spilled, shared=shared)


def whole_log(script: ModuleType) -> str:
    """All instances on all chips; the other kernels of LAUNCHES by names without a template."""
    ours = {"fake_quantize_forward": FORWARD, "fake_quantize_backward_pass": PASS}
    ours |= {"fake_quantize_scale_gradient": SUMS, "quantize_values": INTEGERS}
    names = [ours.get(name, f"_Z{len(name)}{name}v") for name in script.LAUNCHES]
    return "".join(entry(name, chip) for name in names for chip in script.CHIPS)


def run(tmp_path: Path, log: str) -> subprocess.CompletedProcess[str]:
    (tmp_path / "log").write_text(log)
    command = [sys.executable, str(SCRIPT), str(tmp_path / "log")]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_a_log_becomes_rows(script: ModuleType) -> None:
    log = entry(FORWARD, "sm_80", registers=20) + entry(PASS, "sm_120", spilled=8, shared=", 1024 bytes smem")
    first, second = script.rows_of(log)
    assert (first.kernel, first.architecture, first.registers) == ("fake_quantize_forward<float, true>", "sm_80", 20)
    assert (first.shared_bytes, first.spill_bytes, first.stack_bytes) == (0, 0, 0)
    assert (second.kernel, second.function) == ("fake_quantize_backward_pass<float, 32>", "fake_quantize_backward_pass")
    assert (second.shared_bytes, second.spill_bytes, second.stack_bytes) == (1024 + 64, 16, 8)


def test_values_of_enumerations_in_names(script: ModuleType) -> None:
    name = "void a::b::product<false, (a::b::Converter)1, a::Matrix>(a::Arguments, a::Matrix)"
    assert script.short_name(name) == "product<false, Converter 1, Matrix>"


@pytest.mark.parametrize(
    ("chip", "registers", "shared", "threads", "share"),
    [
        ("sm_80", 32, 0, 256, 1.0),  # 8 blocks of 8 warps: all 64
        ("sm_80", 33, 0, 256, 0.75),  # 1280 registers a warp: 51 warps, of which 6 blocks
        ("sm_80", 128, 0, 256, 0.25),  # 16 warps
        ("sm_86", 255, 0, 256, 1 / 6),  # 8 warps of 48
        ("sm_86", 32, 0, 32, 1 / 3),  # 16 blocks of one warp
        ("sm_86", 32, 49 * 1024, 256, 1 / 3),  # two blocks of 50 KiB in 100 KiB: 16 warps of 48
        ("sm_90", 64, 99 * 1024, 512, 0.5),  # two blocks of 100 KiB in 228 KiB
    ],
)
def test_occupancy(script: ModuleType, chip: str, registers: int, shared: int, threads: int, share: float) -> None:
    assert script.occupancy(chip, registers, shared, threads) == pytest.approx(share)


def test_a_whole_log_passes(script: ModuleType, tmp_path: Path) -> None:
    done = run(tmp_path, whole_log(script))
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 1 + len(script.LAUNCHES) * len(script.CHIPS)
    assert "instructions are not counted" in done.stderr


def test_a_main_kernel_that_spills_fails(script: ModuleType, tmp_path: Path) -> None:
    log = whole_log(script)
    done = run(tmp_path, log + entry(FORWARD, "sm_90", spilled=4))
    assert done.returncode == 1
    assert "fake_quantize_forward<float, true> spills 8 bytes on sm_90" in done.stderr
    assert run(tmp_path, log + entry(SUMS, "sm_90", spilled=4)).returncode == 0  # not a main kernel


def test_a_kernel_that_is_missing_or_unknown_fails(script: ModuleType, tmp_path: Path) -> None:
    done = run(tmp_path, whole_log(script).replace("for 'sm_120'", "for 'sm_90'"))
    assert done.returncode == 1
    assert "quantize_values was not compiled for sm_120" in done.stderr
    done = run(tmp_path, whole_log(script) + entry("_Z5otherv", "sm_80"))
    assert done.returncode == 1
    assert "how is other launched? Enter it in LAUNCHES" in done.stderr
