"""Coverage-guided fuzzing of the reader of ONNX models: `make fuzz-onnx` (atheris, which brings libFuzzer to Python).

    python tests/onnx_import/fuzz_onnx.py CORPUS_DIR -runs=N

Begins with the models of tests/onnx_import/data. Most changes keep the file a model: fields change their numbers, names
and operators change places, nodes are lost or doubled. Whatever a file holds, it is refused with a ValueError that
names it, or becomes a network that the executor loads and runs.
"""

from __future__ import annotations

import contextlib
import random
import sys
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import atheris
import numpy as np
import onnx
from google.protobuf.message import DecodeError, Message

with atheris.instrument_imports(include=["cimq.bundle.onnx_import", "cimq.bundle.network"]):
    import cimq
    from cimq.bundle.onnx_import import read_onnx

_NUMBERS = [0, 1, -1, 2, 3, 7, 255, 256, 65535, 2**31 - 1, -(2**31), 2**62, -(2**63), 1 << 20]
_FLOATS = [0.0, -1.0, 1e30, -1e30, float("nan"), float("inf"), 1e-45]
_LARGEST = 200_000  # bytes of a network that is run


def _messages(message: Message) -> Iterator[Message]:
    yield message
    for field, value in message.ListFields():
        if field.message_type is not None:
            for part in value if field.is_repeated else [value]:
                yield from _messages(part)


def _change_scalar(field: Any, value: Any, rng: random.Random, names: list[Any]) -> Any:
    if field.enum_type is not None:
        return rng.choice([v.number for v in field.enum_type.values])
    if isinstance(value, float):
        return rng.choice([*_FLOATS, value * 2, -value])
    if isinstance(value, int):
        near = rng.choice([value + 1, value - 1, value * 2, *_NUMBERS])
        low, high = (-(2**31), 2**31 - 1) if field.cpp_type == field.CPPTYPE_INT32 else (-(2**63), 2**63 - 1)
        if field.cpp_type in (field.CPPTYPE_UINT32, field.CPPTYPE_UINT64):
            low = 0
        return min(max(near, low), high)
    if field.type == field.TYPE_STRING:  # one that is no UTF-8 is read as bytes, and cannot be written as such
        texts = [name for name in names if isinstance(name, str)]
        return rng.choice(texts) if texts else ""
    same = [name for name in names if isinstance(name, bytes)]
    if isinstance(value, bytes) and value and rng.random() < 0.7:
        changed = bytearray(value)
        changed[rng.randrange(len(changed))] = rng.randrange(256)
        return bytes(changed if rng.random() < 0.8 else changed[: rng.randrange(len(changed))])
    return rng.choice(same) if same else value


def _change(model: Message, rng: random.Random) -> None:
    """One field of one message within changes."""
    message = rng.choice(list(_messages(model)))
    fields = message.ListFields()
    if not fields:
        return
    field, value = rng.choice(fields)
    names = [v for m in _messages(model) for _, v in m.ListFields() if isinstance(v, (str, bytes)) and len(v) < 200]
    if not field.is_repeated:
        if field.message_type is None:
            setattr(message, field.name, _change_scalar(field, value, rng, names))
        elif rng.random() < 0.1:
            message.ClearField(field.name)
        return
    at = rng.randrange(len(value))
    kind = rng.random()
    if kind < 0.2:
        del value[at]
    elif kind < 0.3 and field.message_type is not None:
        value.add().CopyFrom(value[at])
    elif kind < 0.4 and field.message_type is None:
        value.append(value[at])
    elif field.message_type is None:
        value[at] = _change_scalar(field, value[at], rng, names)


def mutate(data: bytes, max_size: int, seed: int) -> bytes:
    """A changed model; plain bytes where the data is none, and sometimes all the same."""
    rng = random.Random(seed)
    model = onnx.ModelProto()
    try:
        model.ParseFromString(data)
    except DecodeError:
        return atheris.Mutate(data, len(data))  # type: ignore[no-any-return]
    if rng.random() < 0.1:
        return atheris.Mutate(data, max_size)  # type: ignore[no-any-return]
    for _ in range(rng.randrange(1, 4)):
        # A text that is no UTF-8 can be read and not be written again.
        with contextlib.suppress(UnicodeDecodeError):
            _change(model, rng)
    changed = model.SerializeToString()
    return changed if len(changed) <= max_size else data


def check(data: bytes, folder: Path) -> bool:
    """Whether the data is taken as a model."""
    path = folder / "model.onnx"
    path.write_bytes(data)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            network = read_onnx(path)
        except ValueError as error:
            if not str(error).startswith(f"ONNX model {path}: "):
                raise RuntimeError("a refusal that does not name the file") from error
            return False
        if len(network.weights()) > _LARGEST or np.prod(network.input_shape) > 10_000:
            return True
        try:
            executor = cimq.load_onnx(path, max_operations=10_000_000)
            executor.run(np.zeros((1, *network.input_shape), np.float32))
        except ValueError:
            return True  # read, and named by the executor: beyond its bounds
    return True


def main() -> None:
    seeds = Path(__file__).with_name("data")
    corpus = Path(sys.argv[1])
    corpus.mkdir(parents=True, exist_ok=True)
    for file in seeds.glob("*.onnx"):
        (corpus / file.name).write_bytes(file.read_bytes())
    with tempfile.TemporaryDirectory() as folder:
        atheris.Setup(
            [*sys.argv, "-max_len=100000"],
            lambda data: check(data, Path(folder)) and None,
            custom_mutator=mutate,
        )
        atheris.Fuzz()


if __name__ == "__main__":
    main()
