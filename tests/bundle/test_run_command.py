"""`cimq run` and `cimq-run`: threads, bounds, and where the output goes."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from bundle_nets import write_handmade

import cimq

FOLDER = Path(__file__).parent  # of child processes: beside the sources they would import those
Done = subprocess.CompletedProcess[str]


def python_command(*arguments: object, **environment: str) -> Done:
    return _run([sys.executable, "-m", "cimq", "run"], arguments, environment)


def native_command(*arguments: object, **environment: str) -> Done:
    program = Path(cimq.__file__).parent / "bin" / "cimq-run"
    if not program.exists():
        pytest.skip("cimq-run was not built")
    return _run([str(program)], arguments, environment)


def _run(command: list[str], arguments: tuple[object, ...], environment: dict[str, str]) -> Done:
    return subprocess.run(
        [*command, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        cwd=FOLDER,
        env=os.environ | environment,
    )


COMMANDS = [python_command, native_command]


@pytest.fixture
def bundle_path(tmp_path: Path) -> Path:
    np.save(tmp_path / "x.npy", np.ones((2, 4), np.float32))
    return write_handmade(tmp_path / "net.cimq")


def threads_of(bundle: Path, prefix: str = "", **environment: str) -> int:
    code = f"import os; {prefix}\nimport cimq; print(cimq.load_bundle({str(bundle)!r}).threads)"
    plain = {key: value for key, value in os.environ.items() if key != "OMP_NUM_THREADS"}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=FOLDER, capture_output=True, text=True, check=True, env=plain | environment
    )
    return int(done.stdout)


def test_threads_follow_the_environment_and_the_processors(bundle_path: Path) -> None:
    assert threads_of(bundle_path, OMP_NUM_THREADS="1") == 1
    assert threads_of(bundle_path, OMP_NUM_THREADS="3") == 3
    assert threads_of(bundle_path, OMP_NUM_THREADS="4,2") == 4
    assert cimq.load_bundle(bundle_path, threads=5).threads == 5
    if hasattr(os, "sched_setaffinity"):
        allowed = os.sched_getaffinity(0)
        assert threads_of(bundle_path) == len(allowed)
        assert threads_of(bundle_path, f"os.sched_setaffinity(0, {{{min(allowed)}}})") == 1


@pytest.mark.parametrize("command", COMMANDS)
def test_threads_and_bounds_are_options(bundle_path: Path, command: Callable[..., Done]) -> None:
    for option in ("--threads", "--max-operations", "--max-working-bytes"):
        assert option in command("--help").stdout
        assert command(bundle_path, "--check", option, 0).returncode == 2
        assert command(bundle_path, "--check", option, "many").returncode == 2
    assert command(bundle_path, "--check", "--threads", 3).returncode == 0
    # 12 products, 2 * 3 for the ReLU, two samples.
    done = command(bundle_path, "--check", "--max-operations", 35)
    assert done.returncode == 2
    assert "checking its sample asks for 36 operations (2 samples), more than 35" in done.stderr
    assert command(bundle_path, "--check", "--max-operations", 36).returncode == 0
    done = command(bundle_path, "--check", "--max-working-bytes", 10)
    assert done.returncode == 2
    assert "more than 10" in done.stderr


def test_the_native_command_says_its_version() -> None:
    done = native_command("--version")
    assert (done.returncode, done.stdout) == (0, f"cimq-run {cimq.__version__}\n")


@pytest.mark.parametrize("command", COMMANDS)
def test_output_goes_through_links_and_into_pipes(
    bundle_path: Path, tmp_path: Path, command: Callable[..., Done]
) -> None:
    wanted = cimq.load_bundle(bundle_path).run(np.ones((2, 4), np.float32))
    os.symlink("far.npy", tmp_path / "link.npy")
    done = command(bundle_path, "--input", tmp_path / "x.npy", "--output", tmp_path / "link.npy")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "link.npy").is_symlink()
    assert np.array_equal(np.load(tmp_path / "far.npy"), wanted)

    pipe, got = tmp_path / "pipe", []
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: got.append(pipe.read_bytes()))
    reader.start()
    done = command(bundle_path, "--input", tmp_path / "x.npy", "--output", pipe)
    assert done.returncode == 0, done.stderr
    reader.join(timeout=60)
    assert stat.S_ISFIFO(os.lstat(pipe).st_mode)
    assert got == [(tmp_path / "far.npy").read_bytes()]

    done = command(bundle_path, "--input", tmp_path / "x.npy", "--output", os.devnull)
    assert done.returncode == 0, done.stderr
    assert stat.S_ISCHR(os.lstat(os.devnull).st_mode)


@pytest.mark.parametrize("command", COMMANDS)
def test_output_that_cannot_be_written(bundle_path: Path, tmp_path: Path, command: Callable[..., Done]) -> None:
    x, missing = tmp_path / "x.npy", tmp_path / "none" / "y.npy"
    done = command(bundle_path, "--input", x, "--output", missing)
    assert done.returncode == 2
    assert str(missing) in done.stderr
    assert "No such file or directory" in done.stderr
    assert ".tmp" not in done.stderr
    assert len(done.stderr.splitlines()) == 1
    if Path("/dev/full").exists():
        done = command(bundle_path, "--input", x, "--output", "/dev/full")
        assert done.returncode == 2
        assert "/dev/full" in done.stderr
        assert "No space left on device" in done.stderr
        with open("/dev/full", "w") as full:
            program = Path(cimq.__file__).parent / "bin" / "cimq-run"
            if program.exists():
                checked = subprocess.run([str(program), str(bundle_path), "--check"], stdout=full, check=False)
                assert checked.returncode == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["net.cimq", "x.npy"]
