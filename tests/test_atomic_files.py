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
import torch

import cimq
from cimq.atomic_files import (
    atomic_file,
    check_writable,
    remove_unfinished,
    write_bytes_atomically,
    write_text_atomically,
)

FOLDER = Path(__file__).parent  # of child processes: beside the sources they would import those


def test_replaces_a_file_and_leaves_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    write_text_atomically(target, "one")
    assert stat.S_IMODE(target.stat().st_mode) == 0o666 & ~_umask()
    target.chmod(0o640)
    write_text_atomically(str(target), "zwölf")
    assert target.read_text("utf-8") == "zwölf"
    assert stat.S_IMODE(target.stat().st_mode) == 0o640
    assert os.listdir(tmp_path) == ["a.txt"]


def test_an_error_within_keeps_what_was_there(tmp_path: Path) -> None:
    target = tmp_path / "a.bin"
    target.write_bytes(b"before")

    def write() -> None:
        with atomic_file(target) as file:
            file.write(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write()
    assert target.read_bytes() == b"before"
    assert os.listdir(tmp_path) == ["a.bin"]


def test_what_killed_writers_left_is_removed_and_nothing_else(tmp_path: Path) -> None:
    script = "import os, sys\nfrom cimq.atomic_files import atomic_file\nwith atomic_file(sys.argv[1]): os._exit(1)"
    for name in ("a.pt", "b.pt", "c.bin"):
        subprocess.run([sys.executable, "-c", script, str(tmp_path / name)], cwd=FOLDER, check=False)
    write_text_atomically(tmp_path / "a.pt", "whole")
    (tmp_path / ".hidden").touch()
    assert len(os.listdir(tmp_path)) == 5
    remove_unfinished(tmp_path / "c.bin")
    assert len(os.listdir(tmp_path)) == 4
    remove_unfinished(tmp_path / "*.pt")
    assert sorted(os.listdir(tmp_path)) == [".hidden", "a.pt"]


def test_a_link_stays_and_what_it_leads_to_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    for name, before in (("there.bin", b"before"), ("not yet.bin", None)):
        target, link = tmp_path / "data" / name, tmp_path / f"link to {name}"
        if before is not None:
            target.write_bytes(before)
        link.symlink_to(target)
        write_bytes_atomically(link, b"after")
        assert link.is_symlink()
        assert target.read_bytes() == b"after"
    assert sorted(os.listdir(tmp_path / "data")) == ["not yet.bin", "there.bin"]


def test_a_pipe_is_written_into(tmp_path: Path) -> None:
    pipe, got = tmp_path / "pipe", []
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: got.append(pipe.read_bytes()))
    reader.start()
    write_bytes_atomically(pipe, bytes(range(256)) * 1000)
    reader.join()
    assert got == [bytes(range(256)) * 1000]
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    assert os.listdir(tmp_path) == ["pipe"]


def test_devices_are_written_into() -> None:
    write_bytes_atomically("/dev/null", b"gone")
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)
    with pytest.raises(OSError, match="No space left on device: '/dev/full'"):
        write_bytes_atomically("/dev/full", b"too much")
    assert stat.S_ISCHR(os.stat("/dev/full").st_mode)


def test_standard_output_is_written_into_wherever_it_leads(tmp_path: Path) -> None:
    script = "from cimq.atomic_files import write_text_atomically as w; w('/dev/stdout', 'two ')"
    with (tmp_path / "out.txt").open("ab") as out:
        out.write(b"one ")
        out.flush()
        subprocess.run([sys.executable, "-c", script], cwd=FOLDER, stdout=out, check=True)
    assert (tmp_path / "out.txt").read_text() == "one two "
    assert subprocess.run([sys.executable, "-c", script], cwd=FOLDER, capture_output=True, check=True).stdout == b"two "
    assert os.listdir(tmp_path) == ["out.txt"]


def test_errors_name_the_target(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path, error in (
        (tmp_path / "missing" / "a.txt", FileNotFoundError),
        (tmp_path / "file" / "a.txt", NotADirectoryError),
        (tmp_path, IsADirectoryError),
        (tmp_path / ("n" * 300), OSError),
    ):
        with pytest.raises(error) as raised:
            write_text_atomically(path, "")
        assert raised.value.filename == str(path)
        assert str(path) in str(raised.value)
    assert os.listdir(tmp_path) == ["file"]
    write_text_atomically(tmp_path / ("n" * 255), "the longest name that there is")


@pytest.mark.parametrize(
    "save",
    [
        lambda path: cimq.Policy.uniform(4, 4).save(path),
        lambda path: cimq.Policy({"a": (4, 4)}).save(path.with_suffix(".npy")),
        lambda path: cimq.Hardware.preset("paper").save(path),
        lambda path: cimq.Hardware.preset("paper").save(path.with_suffix(".yaml")),
    ],
)
def test_writers_name_the_users_file(tmp_path: Path, save: Callable[[Path], None]) -> None:
    with pytest.raises(FileNotFoundError, match=r"/missing/mine\.") as raised:
        save(tmp_path / "missing" / "mine.json")
    assert Path(raised.value.filename).stem == "mine"


# Writers that replace the system's error by one of their own (torch) or go past the file object (NumPy).
_WRITERS: dict[str, Callable[..., None]] = {
    "bytes": lambda file: file.write(bytes(1 << 20)),
    "torch": lambda file: torch.save({"a": torch.zeros(1 << 20)}, file),
    "numpy": lambda file: np.save(file, np.zeros(1 << 18)),
}


@pytest.mark.parametrize("writer", _WRITERS)
def test_no_space_left(tmp_path: Path, writer: str) -> None:
    """A limit on the size of files stands for a full disk: the system refuses a write, part of it being there."""
    target = tmp_path / "a.bin"
    target.write_bytes(b"before")
    pid = os.fork()
    if pid == 0:
        import resource

        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, 1 << 16))
        try:
            with atomic_file(target) as file:
                _WRITERS[writer](file)
            os._exit(1)
        except OSError as error:
            os._exit(0 if error.errno == 27 and error.filename == str(target) else 2)
        except BaseException:
            os._exit(3)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert target.read_bytes() == b"before"
    assert os.listdir(tmp_path) == ["a.bin"]


def test_whether_a_file_can_be_written_is_known_before(tmp_path: Path) -> None:
    check_writable(tmp_path / "new" / "folder" / "a.txt")
    assert os.listdir(tmp_path / "new" / "folder") == []
    check_writable("/dev/null")
    (tmp_path / "file").write_text("")
    check_writable(tmp_path / "file")
    for path, error in ((tmp_path / "file" / "a.txt", NotADirectoryError), (tmp_path / "new", IsADirectoryError)):
        with pytest.raises(error) as raised:
            check_writable(path)
        assert raised.value.filename == str(path)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
