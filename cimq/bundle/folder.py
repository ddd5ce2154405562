"""Folders, manifests and zips of bundles: written completely or not at all, read with suspicion."""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import json
import os
import platform
import stat
import sys
import tempfile
import time
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import torch

from cimq.atomic_files import write_bytes_atomically, write_text_atomically
from cimq.version import __version__

MEDIA_TYPES = {
    ".json": "application/json",
    ".jsonl": "application/jsonl",
    ".onnx": "application/onnx",
    ".safetensors": "application/vnd.safetensors",
}
MAX_ZIP_BYTES = 4 * 1024**3
MAX_ZIP_FILES = 1024
# What a zip of a few kilobytes may become: weights of one bit and mostly zeros pack less than a hundredfold, deflated
# zeros a thousandfold.
SMALL_ZIP_BYTES = 256 * 1024**2
MAX_ZIP_RATIO = 200
_BLOCK = 1 << 20
_RENAME_EXCHANGE = 2
_AT_FDCWD = -100


def file_entry(folder: Path, name: str) -> dict[str, Any]:
    """The manifest's entry of one file."""
    digest = hashlib.sha256()
    path = folder / name
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return {
        "path": name,
        "bytes": path.stat().st_size,
        "sha256": digest.hexdigest(),
        "media_type": MEDIA_TYPES.get(path.suffix, "application/octet-stream"),
    }


def producer() -> dict[str, str]:
    """What made a bundle: cimq and the libraries that its content depends on."""
    import onnx

    return {
        "name": "cimq",
        "version": __version__,
        "torch": torch.__version__,
        "onnx": str(onnx.__version__),
        "python": platform.python_version(),
    }


def write_manifest(folder: Path, names: list[str], extra: dict[str, Any]) -> None:
    """Writes manifest.json for the files `names` of `folder`; `extra` adds descriptive keys."""
    epoch = int(os.environ.get("SOURCE_DATE_EPOCH") or time.time())
    manifest = {
        "schema": "cimq.bundle",
        "version": "1.0.0",
        "producer": producer(),
        "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(epoch)),
        "required_extensions": [],
        **extra,
        "files": [file_entry(folder, name) for name in sorted(names)],
    }
    write_text_atomically(folder / "manifest.json", json.dumps(manifest, indent=1) + "\n")


def replace_in_bundle(
    folder: Path, name: str, content: bytes, extra: dict[str, Any], manifest: dict[str, Any] | None = None
) -> None:
    """Puts one file into an existing bundle, which is valid at every moment.

    `manifest` is the content of manifest.json where it has been read and verified; `extra` adds descriptive keys.

    The old file leaves the manifest, then the new one takes its place, then it enters the manifest: each step is one
    rename.
    """
    path = folder / "manifest.json"
    if manifest is None:
        manifest = json.loads(path.read_text())
    assert manifest is not None
    others = [entry for entry in manifest["files"] if entry["path"] != name]
    if len(others) < len(manifest["files"]):
        write_text_atomically(path, json.dumps(manifest | {"files": others}, indent=1) + "\n")
    write_bytes_atomically(folder / name, content)
    files = sorted([*others, file_entry(folder, name)], key=lambda entry: str(entry["path"]))
    write_text_atomically(path, json.dumps(manifest | extra | {"files": files}, indent=1) + "\n")


@contextlib.contextmanager
def new_bundle(target: Path, overwrite: bool) -> Iterator[Path]:
    """A temporary folder beside `target` that becomes `target` (or a zip there) at the end of the block.

    Where `target` is a link, what it leads to is made or replaced and the link stays.

    Raises:
        FileExistsError: If `target` exists and `overwrite` is false, or it is neither a bundle nor an empty folder.
    """
    if target.is_symlink():
        target = Path(os.path.realpath(target))
    _check_target(target, overwrite)
    with _beside(target) as outer:
        made = Path(outer) / "bundle"
        made.mkdir()
        yield made
        _check_target(target, overwrite)
        if target.suffix == ".zip":
            packed = Path(outer) / "bundle.zip"
            _pack(made, packed)
            os.replace(packed, target)
        else:
            _move_folder(made, target, Path(outer) / "old")


@contextlib.contextmanager
def new_folder(target: Path, command: str) -> Iterator[Path]:
    """A temporary folder beside `target` that becomes `target` at the end of the block; `command` begins messages.

    Raises:
        FileExistsError: If `target` is there and no empty folder.
    """
    _check_empty(target, command)
    target = Path(os.path.realpath(target))
    with _beside(target) as outer:
        made = Path(outer) / "made"
        made.mkdir()
        yield made
        _check_empty(target, command)
        os.replace(made, target)  # an empty folder gives way


def _beside(target: Path) -> tempfile.TemporaryDirectory[str]:
    """A temporary folder on the same file system, from which what was made can be renamed to `target`."""
    target.parent.mkdir(parents=True, exist_ok=True)
    return tempfile.TemporaryDirectory(prefix=f".{target.name}.", dir=target.parent)


def _check_empty(target: Path, command: str) -> None:
    if not os.path.lexists(target):
        return
    if not target.is_dir():
        raise FileExistsError(f"{command}: {target} must be a folder, but it is something else")
    if any(target.iterdir()):
        raise FileExistsError(f"{command}: the folder {target} must be empty; remove what is in it, or name another")


def _check_target(target: Path, overwrite: bool) -> None:
    if not target.exists():
        return
    if not overwrite:
        raise FileExistsError(f"export: {target} exists; pass overwrite=True to replace it")
    if target.suffix == ".zip" and target.is_file():
        return
    if not target.is_dir() and not target.is_file():
        raise FileExistsError(f"export: {target} is a pipe or device, which a bundle cannot replace")
    if not target.is_dir() or (any(target.iterdir()) and not (target / "manifest.json").is_file()):
        # A mistyped path must not cost somebody their folder.
        raise FileExistsError(f"export: {target} is not a bundle, so it is not overwritten")


def _move_folder(made: Path, target: Path, old: Path) -> None:
    if not target.exists():
        os.rename(made, target)
    elif not _exchange(made, target):
        # Two renames: for a moment there is no bundle, but never half of one.
        os.rename(target, old)
        try:
            os.rename(made, target)
        except OSError:
            os.rename(old, target)
            raise


def _exchange(a: Path, b: Path) -> bool:
    """Swaps two folders in one step where the system can (Linux renameat2)."""
    if sys.platform != "linux":
        return False
    function = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if function is None:
        return False
    return bool(function(_AT_FDCWD, os.fsencode(a), _AT_FDCWD, os.fsencode(b), _RENAME_EXCHANGE) == 0)


def _pack(folder: Path, path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(folder.rglob("*")):
            archive.write(file, file.relative_to(folder))


def extract_zip(path: Path, to: Path, max_bytes: int = MAX_ZIP_BYTES) -> Path:
    """Extracts a zipped bundle and returns the folder that holds its manifest.

    Raises:
        ValueError: If it is damaged, has entries outside its own folder, links, encrypted or repeated entries, or is
            larger than `max_bytes` when extracted: as it states, and as it turns out. The same holds for more than
            200 times the size of the zip beyond 256 MiB.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            max_bytes = min(max_bytes, max(SMALL_ZIP_BYTES, MAX_ZIP_RATIO * path.stat().st_size))
            _check_entries(path, entries, max_bytes)
            left = max_bytes
            for entry in entries:
                if not entry.is_dir():
                    left = _extract_one(archive, entry, to, left)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, OSError) as error:
        raise ValueError(f"{path}: cannot be read as a zip ({error})") from None
    found = [to, *(child for child in sorted(to.iterdir()) if child.is_dir())]
    for folder in found:
        if (folder / "manifest.json").is_file():
            return folder
    raise ValueError(f"{path}: holds no manifest.json, so it is not a bundle")


def _check_entries(path: Path, entries: list[zipfile.ZipInfo], max_bytes: int) -> None:
    if len(entries) > MAX_ZIP_FILES:
        raise ValueError(f"{path}: has {len(entries)} entries, at most {MAX_ZIP_FILES} are expected")
    if sum(entry.file_size for entry in entries) > max_bytes:
        raise ValueError(f"{path}: would take more than {max_bytes} bytes when extracted")
    seen: set[str] = set()
    for entry in entries:
        name = entry.filename
        parts = PurePosixPath(name).parts
        if not parts or name.startswith("/") or ".." in parts or "\\" in name or ":" in name or "\0" in name:
            raise ValueError(f"{path}: the entry {name!r} leads out of the bundle")
        if stat.S_ISLNK(entry.external_attr >> 16):
            raise ValueError(f"{path}: the entry {name!r} is a link")
        if entry.flag_bits & 1:
            raise ValueError(f"{path}: the entry {name!r} is encrypted")
        if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            # LZMA takes the memory that the file states, bzip2 expands without a bound worth the name.
            raise ValueError(f"{path}: the entry {name!r} is neither stored nor deflated")
        if name in seen:
            raise ValueError(f"{path}: the entry {name!r} is there twice")
        seen.add(name)


def _extract_one(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, to: Path, left: int) -> int:
    target = to.joinpath(*PurePosixPath(entry.filename).parts)
    target.parent.mkdir(parents=True, exist_ok=True)
    with archive.open(entry) as source, target.open("xb") as sink:
        while block := source.read(_BLOCK):
            left -= len(block)  # what is there, not what the entry says
            if left < 0:
                raise ValueError(f"{archive.filename}: takes more bytes than it states")
            sink.write(block)
    return left
