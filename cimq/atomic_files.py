"""Writing of files so that readers see all of a file or the one before it, whatever interrupts the writing."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, cast

# Names of what a process was given open: a link there may lead to a regular file, which is the shell's, not ours.
_GIVEN_OPEN = ("/dev/stdin", "/dev/stdout", "/dev/stderr", "/dev/fd/", "/proc/")
_NAME_SHOWN = 32  # characters of the target's name in that of the temporary file, which must not become too long


@contextlib.contextmanager
def atomic_file(path: str | Path) -> Iterator[BinaryIO]:
    """A binary file to write to, which takes the place of `path` when the block ends without an error.

    What is written goes to a temporary file beside the target, which is renamed at the end; after an error it is
    removed and the file that was there stays as it was. A link stays and what it leads to is replaced. What is no
    regular file (a pipe, a device) is never replaced: it is written into, and an error then leaves what was written.

    Args:
        path: The file. An existing one keeps its permissions.

    Raises:
        OSError: If the file cannot be written (no such folder, no permission, no space left, it is a folder): of the
            subclass that tells why, with the name of the target and not of a temporary file. A writer that hides the
            cause in an error of its own (`torch.save`) is no exception.

    Example:
        >>> import pathlib, tempfile
        >>> target = pathlib.Path(tempfile.mkdtemp(), "numbers.bin")
        >>> with atomic_file(target) as file:
        ...     _ = file.write(bytes(3))
        >>> target.read_bytes()
        b'\\x00\\x00\\x00'
    """
    path = Path(path)
    with _naming(path):
        before = _status(path)
        if before is not None and stat.S_ISDIR(before.st_mode):
            raise _error(errno.EISDIR)
    if _is_written_into(path, before):
        with _naming(path):
            # Without truncation, and at the end: what stands behind a name of /proc may be a file with other content.
            descriptor = os.open(path, os.O_WRONLY | os.O_APPEND)
        with _written(path, descriptor) as file:
            yield file
        return
    with _naming(path):
        target = Path(os.path.realpath(path))
        descriptor, temporary = tempfile.mkstemp(prefix=f".{target.name[:_NAME_SHOWN]}.", dir=target.parent)
    try:
        with _written(path, descriptor) as file:
            yield file
        with _naming(path):
            # mkstemp makes files that only the owner reads; a result has the permissions of any other file.
            os.chmod(temporary, 0o666 & ~_umask() if before is None else before.st_mode & 0o777)
            os.replace(temporary, target)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise


def write_bytes_atomically(path: str | Path, content: bytes) -> None:
    """Writes a file as `atomic_file` does.

    Raises:
        OSError: As `atomic_file`.
    """
    with atomic_file(path) as file:
        file.write(content)


def write_text_atomically(path: str | Path, text: str) -> None:
    """As `write_bytes_atomically`, for text in UTF-8."""
    write_bytes_atomically(path, text.encode("utf-8"))


def remove_unfinished(path: str | Path) -> None:
    """Removes temporary files that writers of `path` left when they were killed; nobody may be writing it now.

    Args:
        path: The file; its name may be a pattern, as in "runs/*.pt".
    """
    path = Path(path)
    for left in path.parent.glob(f".{path.name[:_NAME_SHOWN]}.????????"):
        left.unlink(missing_ok=True)


def check_writable(path: str | Path) -> None:
    """Finds out, before long work, whether `path` can be written to; creates its folder and nothing else.

    Raises:
        OSError: If it is a folder, or its folder cannot be made or written to; names `path`.

    Example:
        >>> import tempfile
        >>> check_writable(f"{tempfile.mkdtemp()}/runs/first/checkpoint.pt")
    """
    path = Path(path)
    with _naming(path):
        before = _status(path)
        if before is not None and stat.S_ISDIR(before.st_mode):
            raise _error(errno.EISDIR)
        if _is_written_into(path, before):
            if not os.access(path, os.W_OK):
                raise _error(errno.EACCES)
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        if not os.access(Path(os.path.realpath(path)).parent, os.W_OK | os.X_OK):
            raise _error(errno.EACCES)


def _is_written_into(path: Path, before: os.stat_result | None) -> bool:
    if before is None:
        return False
    return not stat.S_ISREG(before.st_mode) or os.path.abspath(path).startswith(_GIVEN_OPEN)


def _error(number: int) -> OSError:
    return OSError(number, os.strerror(number))


def _status(path: Path) -> os.stat_result | None:
    try:
        return os.stat(path)
    except FileNotFoundError:
        return None


@contextlib.contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Errors of the system name `path`, whatever file they came from."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror or str(error), str(path)) from None


@contextlib.contextmanager
def _written(path: Path, descriptor: int) -> Iterator[BinaryIO]:
    """The open file, closed at the end; what the system refused meanwhile is raised by the name of `path`."""
    raw = _Descriptor(descriptor)
    file = io.BufferedWriter(raw)
    try:
        yield cast("BinaryIO", file)
        file.close()
    except Exception as error:
        if raw.refused is not None:
            raise OSError(raw.refused.errno, os.strerror(raw.refused.errno or 0), str(path)) from error
        raise
    finally:
        with contextlib.suppress(OSError):  # what is left in the buffer cannot be written any more
            file.close()


class _Descriptor(io.RawIOBase):
    """Writes to a descriptor and keeps the error of the system, which some writers replace by one of their own.

    It has no `fileno`, so that no writer goes past it.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self.refused: OSError | None = None

    def writable(self) -> bool:
        return True

    def write(self, content: Any, /) -> int:
        try:
            return os.write(self._descriptor, content)
        except OSError as error:
            self.refused = error
            raise

    def close(self) -> None:
        if not self.closed:
            super().close()
            os.close(self._descriptor)


def _umask() -> int:
    # There is no way to read it without setting it.
    mask = os.umask(0o022)
    os.umask(mask)
    return mask
