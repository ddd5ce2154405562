"""ONNX files, read with suspicion: size, form, operator sets, data in other files."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import onnx
from google.protobuf.message import DecodeError

from cimq.errors import first_line

LOWEST_OPSET = 13
HIGHEST_OPSET = 25
DOMAINS = {"": "", "ai.onnx": "", "com.microsoft": "com.microsoft"}
"""Domains of operators that are known -> one name for each."""

# What protobuf can hold; also of all data in other files, which are put into the model.
_MAX_BYTES = 2**31 - 1


def read_model(path: Path) -> onnx.ModelProto:
    """The model, well-formed, with all of its data.

    Raises:
        FileNotFoundError: If there is no such file, or one that it names.
        ValueError: If it is no ONNX model, is damaged, of operator sets that are not known, too large, or has data
            outside of its folder; begins with the path.
    """
    if not path.exists():
        raise FileNotFoundError(f"ONNX model {path} does not exist")
    try:
        return _read(path)
    except ValueError as error:
        raise ValueError(f"ONNX model {path}: {error}") from None


def _read(path: Path) -> onnx.ModelProto:
    model = onnx.ModelProto()
    try:
        model.ParseFromString(_bytes_of(path, 0, None))
    except (DecodeError, RecursionError):
        raise ValueError("is no ONNX model, or is damaged") from None
    _check_texts(model)
    if not model.HasField("graph") or not model.graph.node:
        raise ValueError("has no graph, or one without nodes")
    if model.functions:
        raise ValueError(
            f"has functions of its own ({model.functions[0].name!r}); put their nodes in their place first, with "
            "onnx.inliner.inline_local_functions"
        )
    _check_opsets(model)
    tensors = list(_tensors(model.graph))
    _check_locations(path.parent, tensors)
    try:
        onnx.checker.check_model(_without_data(model))
    except (onnx.checker.ValidationError, ValueError, RuntimeError) as error:
        raise ValueError(f"is not valid ONNX: {first_line(error)}") from None
    _read_other_files(path.parent, tensors)
    return model


def _bytes_of(path: Path, offset: int, length: int | None) -> bytes:
    facts = path.stat()
    if not stat.S_ISREG(facts.st_mode):
        raise ValueError(f"{path} is not a regular file")
    length = facts.st_size - offset if length is None else length
    if offset < 0 or length < 0 or offset + length > facts.st_size:
        raise ValueError(f"{path} has {facts.st_size} bytes, but {length} at {offset} are asked for")
    if length > _MAX_BYTES:
        raise ValueError(f"{path}: {length} bytes are more than the {_MAX_BYTES} that can be read")
    with path.open("rb") as file:
        file.seek(offset)
        return file.read(length)


def _check_texts(message: Any) -> None:
    """Refuses what is no UTF-8: protobuf's readers give it as bytes where a text is promised."""
    for field, value in message.ListFields():
        if field.message_type is not None:
            for part in value if field.is_repeated else [value]:
                _check_texts(part)
        elif field.type == field.TYPE_STRING:
            for text in value if field.is_repeated else [value]:
                if not isinstance(text, str):
                    raise ValueError(f"is damaged: {field.full_name} is no text in UTF-8, but {text[:40]!r}")


def _check_opsets(model: onnx.ModelProto) -> None:
    versions = {DOMAINS[entry.domain]: entry.version for entry in model.opset_import if entry.domain in DOMAINS}
    if "" not in versions:
        raise ValueError("does not say which version of the ONNX operators it uses (opset_import)")
    if not LOWEST_OPSET <= versions[""] <= HIGHEST_OPSET:
        raise ValueError(
            f"uses opset {versions['']}; {LOWEST_OPSET} to {HIGHEST_OPSET} are known. onnx.version_converter or the "
            "exporter's opset_version can change it"
        )


def opset_of(model: onnx.ModelProto) -> int:
    """Version of the ONNX operators."""
    return next(int(entry.version) for entry in model.opset_import if DOMAINS.get(entry.domain) == "")


def _tensors(graph: Any) -> Iterator[Any]:
    """Every tensor of the graph, also those in attributes."""
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors


# ---- data in other files ----


def _other_file(tensor: Any) -> dict[str, str] | None:
    if tensor.data_location != onnx.TensorProto.EXTERNAL:
        return None
    return {entry.key: entry.value for entry in tensor.external_data}


def _check_locations(folder: Path, tensors: list[Any]) -> None:
    """Before anything is opened: every place lies in the model's folder."""
    for tensor in tensors:
        place = _other_file(tensor)
        if place is None:
            continue
        location = place.get("location", "")
        parts = PurePosixPath(location)
        absolute = parts.is_absolute() or PureWindowsPath(location).is_absolute()
        if not location or absolute or ".." in PureWindowsPath(location).parts or "\0" in location:
            raise ValueError(
                f"tensor {tensor.name!r} has its data at {location!r}; that must be a file in the folder of the model, "
                "without '..'"
            )
        file = folder / parts
        if not file.exists():
            raise ValueError(f"tensor {tensor.name!r} has its data in {location!r}, which does not exist")
        if not file.resolve().is_relative_to(folder.resolve()):
            raise ValueError(f"tensor {tensor.name!r} has its data at {location!r}, a link out of the model's folder")


def _without_data(model: onnx.ModelProto) -> onnx.ModelProto:
    """What the checker gets: it would look for the other files in the present folder."""
    if not any(_other_file(tensor) is not None for tensor in _tensors(model.graph)):
        return model
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for tensor in _tensors(copy.graph):
        if _other_file(tensor) is not None:
            tensor.ClearField("external_data")
            tensor.ClearField("data_location")
            tensor.ClearField("dims")
            tensor.data_type, tensor.raw_data = onnx.TensorProto.UINT8, b"\0"
    return copy


def _read_other_files(folder: Path, tensors: list[Any]) -> None:
    total = 0
    for tensor in tensors:
        place = _other_file(tensor)
        if place is None:
            continue
        offset, length = (_whole(tensor, place, key) for key in ("offset", "length"))
        data = _bytes_of(folder / place["location"], offset or 0, length)
        total += len(data)
        if total > _MAX_BYTES:
            raise ValueError(f"has more than {_MAX_BYTES} bytes of data in other files")
        tensor.raw_data = data
        tensor.ClearField("external_data")
        tensor.ClearField("data_location")


def _whole(tensor: Any, place: dict[str, str], key: str) -> int | None:
    text = place.get(key)
    if text is None:
        return None
    if not text.isascii() or not text.isdigit() or len(text) > 18:
        raise ValueError(f"tensor {tensor.name!r}: {key} of its data must be a whole number, got {text!r}")
    return int(text)
