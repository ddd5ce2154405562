"""Policies: bits of weights and activations for every layer."""

from __future__ import annotations

import io
import json
import numbers
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from cimq.atomic_files import write_bytes_atomically, write_text_atomically
from cimq.structured_files import parse_json, read_structured

MIN_BITS = 1
MAX_BITS = 8
_SCHEMA = "cimq.policy"
_VERSION = "1.0.0"
_NPY_MAGIC = b"\x93NUMPY"
_MAX_NPY_BYTES = 16 * 1024 * 1024


class LayerBits(NamedTuple):
    """Bits of one layer.

    Attributes:
        weight_bits: 1 to 8.
        act_bits: Bits of its input, 1 to 8.
    """

    weight_bits: int
    act_bits: int


class Policy:
    """An ordered mapping from layer name to `LayerBits`, in module order. Immutable.

    A policy may still lack names: `uniform` holds one pair for any model, `from_pairs` (and CIM-AQ's files) hold pairs
    by position. `bind(names)` gives both their names; functions that take a model do it themselves.

    Args:
        layers: Layer name -> (weight bits, activation bits), in module order.

    Raises:
        ValueError: For bits outside 1..8, or no layer at all; names the layer.

    Example:
        >>> policy = Policy({"conv1": (8, 8), "fc": (4, 5)})
        >>> policy["fc"].act_bits, policy.pairs()
        (5, [(8, 8), (4, 5)])
    """

    __slots__ = ("_bits", "_names", "_uniform")

    def __init__(self, layers: Mapping[str, tuple[int, int] | LayerBits]) -> None:
        if not isinstance(layers, Mapping):
            raise TypeError(f"Policy takes a mapping of layer name -> (w, a), got {type(layers).__name__}")
        for name in layers:
            if not isinstance(name, str) or not name:
                raise ValueError(f"policy: a layer name must be a text, got {name!r}")
        self._set([_layer_bits(pair, f"layer {name!r}") for name, pair in layers.items()], tuple(layers), False)

    @classmethod
    def uniform(cls, weight_bits: int, act_bits: int) -> Policy:
        """The same bits for every layer of any model.

        Example:
            >>> Policy.uniform(4, 6)["whatever"]
            LayerBits(weight_bits=4, act_bits=6)
        """
        return cls._make([_layer_bits((weight_bits, act_bits), "uniform")], None, True)

    @classmethod
    def from_pairs(cls, pairs: Iterable[Sequence[int]]) -> Policy:
        """Bits by position: the i-th pair is for the i-th quantisable layer in module order.

        Example:
            >>> Policy.from_pairs([(8, 8), (4, 5)]).bind(["conv1", "fc"])["fc"].weight_bits
            4
        """
        return cls._make([_layer_bits(pair, f"row {index}") for index, pair in enumerate(pairs)], None, False)

    @classmethod
    def load(cls, path: str | Path) -> Policy:
        """Reads what `save` wrote, or a CIM-AQ policy.

        Args:
            path: `.json`: the schema of `save`, a plain `{"name": [w, a]}`, or a list of `[w, a]` rows.
                `.npy`: CIM-AQ's integer array [layers, 2] of (weight bits, activation bits) rows.

        Raises:
            FileNotFoundError: If there is no such file.
            ValueError: If it is damaged or holds no policy; begins with the path.
        """
        path = Path(path)
        try:
            if path.suffix == ".npy":
                return cls._from_npy(path)
            if path.suffix == ".json":
                return cls._from_plain(read_structured(path, "policy file"))
            raise ValueError("a policy is a .json or a .npy file")
        except ValueError as error:
            text = str(error)
            raise ValueError(text if str(path) in text else f"policy file {path}: {text}") from None

    @classmethod
    def from_json(cls, text: str) -> Policy:
        """The policy that the text of a .json file holds, as `load` reads it.

        Raises:
            ValueError: If it holds no policy.

        Example:
            >>> Policy.from_json('{"fc": [4, 5]}')["fc"].act_bits
            5
        """
        return cls._from_plain(parse_json(text))

    def save(self, path: str | Path) -> None:
        """Writes `.json` (with names) or `.npy` (CIM-AQ's int64 rows); the file appears complete or not at all.

        Raises:
            ValueError: For another suffix, or a uniform policy as .npy (it has no rows before `bind`).
        """
        path = Path(path)
        if path.suffix == ".json":
            write_text_atomically(path, json.dumps(self.to_dict(), indent=1) + "\n")
        elif path.suffix == ".npy":
            buffer = io.BytesIO()
            np.save(buffer, np.asarray(self.pairs(), dtype=np.int64), allow_pickle=False)
            write_bytes_atomically(path, buffer.getvalue())
        else:
            raise ValueError(f"a policy is saved as .json or .npy, got {path.name!r}")

    def to_dict(self) -> dict[str, Any]:
        """The plain values that `save` writes as JSON."""
        head: dict[str, Any] = {"schema": _SCHEMA, "version": _VERSION}
        if self._uniform:
            return {**head, "uniform": self._bits[0]._asdict()}
        names: Sequence[str | None] = self._names if self._names is not None else [None] * len(self._bits)
        rows = [
            ({} if name is None else {"name": name}) | bits._asdict()
            for name, bits in zip(names, self._bits, strict=True)
        ]
        return {**head, "layers": rows}

    def bind(self, names: Sequence[str], first_last_bits: int | None = None) -> Policy:
        """The policy with one entry for each of these layers.

        Args:
            names: Layers in module order. A named policy must hold exactly these; their order is taken from here.
            first_last_bits: Bits (weights and activations) that the first and last layer get instead.

        Raises:
            ValueError: If the layers do not match; names the missing and the unknown ones.

        Example:
            >>> Policy.uniform(4, 4).bind(["a", "b", "c"], first_last_bits=8).pairs()
            [(8, 8), (4, 4), (8, 8)]
        """
        names = list(names)
        if len(set(names)) != len(names):
            raise ValueError(f"policy: layer names must differ, got {names}")
        if self._names is not None:
            _check_same_layers(names, self._names)
            bits = [self[name] for name in names]
        elif self._uniform:
            bits = self._bits * len(names)
        elif len(names) != len(self._bits):
            raise ValueError(f"policy: {len(self._bits)} rows of bits do not fit {len(names)} layers")
        else:
            bits = list(self._bits)
        if first_last_bits is not None and bits:
            outer = _layer_bits((first_last_bits, first_last_bits), "first_last_bits")
            bits[0] = bits[-1] = outer
        return Policy(dict(zip(names, bits, strict=True)))

    def replace(self, layers: Mapping[str, tuple[int, int]]) -> Policy:
        """A copy with other bits for some of its layers.

        Raises:
            ValueError: For a layer that it does not have.
        """
        if self._names is None:
            raise ValueError("policy: it has no layer names yet; use bind(names) first")
        unknown = [name for name in layers if name not in self._names]
        if unknown:
            raise ValueError(f"policy: no layer {', '.join(map(repr, unknown))}; there are: {', '.join(self._names)}")
        return Policy({**dict(self.items()), **layers})

    @property
    def is_uniform(self) -> bool:
        """True for a policy made by `uniform` and not bound."""
        return self._uniform

    @property
    def names(self) -> tuple[str, ...] | None:
        """Layer names in module order, None before `bind`."""
        return self._names

    def pairs(self) -> list[tuple[int, int]]:
        """(weight bits, activation bits) of every layer in module order.

        Raises:
            ValueError: For a uniform policy that is not bound.
        """
        if self._uniform:
            raise ValueError("policy: a uniform policy has no rows; use bind(names) first")
        return [(bits.weight_bits, bits.act_bits) for bits in self._bits]

    def keys(self) -> tuple[str, ...]:
        """Layer names in module order."""
        return tuple(self)

    def values(self) -> tuple[LayerBits, ...]:
        """Bits in module order."""
        self.pairs()
        return tuple(self._bits)

    def items(self) -> tuple[tuple[str, LayerBits], ...]:
        """(name, bits) in module order."""
        return tuple(zip(self, self._bits, strict=True))

    def __getitem__(self, key: str | int) -> LayerBits:
        if self._uniform:
            return self._bits[0]
        if isinstance(key, int):
            return self._bits[key]
        if self._names is None:
            raise ValueError(f"policy: it has no layer names yet (asked for {key!r}); use bind(names) first")
        if key not in self._names:
            raise KeyError(f"policy: no layer {key!r}; there are: {', '.join(self._names)}")
        return self._bits[self._names.index(key)]

    def __contains__(self, key: object) -> bool:
        return self._uniform or (self._names is not None and key in self._names)

    def __iter__(self) -> Iterator[str]:
        if self._names is None:
            raise ValueError("policy: it has no layer names yet; use bind(names) first")
        return iter(self._names)

    def __len__(self) -> int:
        return len(self.pairs())

    def __bool__(self) -> bool:
        return True

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Policy) and self._state() == other._state()

    def __hash__(self) -> int:
        return hash(self._state())

    def __repr__(self) -> str:
        if self._uniform:
            return f"Policy.uniform({self._bits[0].weight_bits}, {self._bits[0].act_bits})"
        return (
            f"Policy.from_pairs({self.pairs()})"
            if self._names is None
            else f"Policy({dict(zip(self, self.pairs(), strict=True))})"
        )

    def _state(self) -> tuple[Any, ...]:
        return tuple(self._bits), self._names, self._uniform

    def _set(self, bits: list[LayerBits], names: tuple[str, ...] | None, uniform: bool) -> None:
        if not bits:
            raise ValueError("policy: it must hold at least one layer")
        self._bits, self._names, self._uniform = bits, names, uniform

    @classmethod
    def _make(cls, bits: list[LayerBits], names: tuple[str, ...] | None, uniform: bool) -> Policy:
        policy = cls.__new__(cls)
        policy._set(bits, names, uniform)
        return policy

    @classmethod
    def _from_npy(cls, path: Path) -> Policy:
        if not path.is_file():
            raise FileNotFoundError(f"policy file {path} does not exist")
        if path.stat().st_size > _MAX_NPY_BYTES:
            raise ValueError(f"it has {path.stat().st_size} bytes, far more than a policy")
        with path.open("rb") as file:
            if file.read(len(_NPY_MAGIC)) != _NPY_MAGIC:
                raise ValueError("not a readable .npy of integers: it does not begin as a .npy file does")
        try:
            # Mapped: a header that claims more than the file holds is refused before memory is taken.
            array = np.load(path, allow_pickle=False, mmap_mode="r")
        except (ValueError, EOFError, OSError, SyntaxError, TypeError, MemoryError, OverflowError) as error:
            raise ValueError(f"not a readable .npy of integers: {error}") from None
        if array.ndim != 2 or array.shape[1] != 2 or not np.issubdtype(array.dtype, np.integer):
            raise ValueError(f"it must hold integers [layers, 2], got {array.dtype} {list(array.shape)}")
        return cls.from_pairs(array.tolist())

    @classmethod
    def _from_plain(cls, content: Any) -> Policy:
        if isinstance(content, list):
            return cls.from_pairs(content)
        if not isinstance(content, dict):
            raise ValueError(f"it must hold an object or a list of [w, a] rows, got {type(content).__name__}")
        if not isinstance(content.get("schema"), str):
            return cls(content)
        if content["schema"] != _SCHEMA:
            raise ValueError(f"schema must be {_SCHEMA!r}, got {content['schema']!r}")
        version = content.get("version")
        if not isinstance(version, str) or version.split(".")[0] != _VERSION.split(".")[0]:
            raise ValueError(f"version must be {_VERSION.split('.')[0]}.x.y, got {version!r}")
        unknown = set(content) - {"schema", "version", "uniform", "layers"}
        if unknown or ("uniform" in content) == ("layers" in content):
            raise ValueError(
                f"it must hold schema, version and one of uniform, layers; got {', '.join(sorted(content))}"
            )
        if "uniform" in content:
            return cls.uniform(*_row(content["uniform"], "uniform", named=False)[1])
        if not isinstance(content["layers"], list):
            raise ValueError(f"layers must be a list, got {type(content['layers']).__name__}")
        rows = [_row(row, f"layers[{index}]", named=True) for index, row in enumerate(content["layers"])]
        names = [name for name, _ in rows if name is not None]
        if names and len(names) != len(rows):
            raise ValueError("either all layers have a name or none")
        if len(set(names)) != len(names):
            raise ValueError(f"layer {next(name for name in names if names.count(name) > 1)!r} is given twice")
        return (
            cls(dict(zip(names, (pair for _, pair in rows), strict=True)))
            if names
            else cls.from_pairs(pair for _, pair in rows)
        )


def _layer_bits(pair: Any, where: str) -> LayerBits:
    if isinstance(pair, (str, bytes)) or not isinstance(pair, Sequence) or len(pair) != 2:
        raise ValueError(f"policy: {where} must be a pair (weight bits, activation bits), got {pair!r}")
    checked = []
    for key, value in zip(LayerBits._fields, pair, strict=True):
        if isinstance(value, (bool, np.bool_)) or not isinstance(value, numbers.Integral):
            raise ValueError(f"policy: {where}: {key} must be an integer from {MIN_BITS} to {MAX_BITS}, got {value!r}")
        if not MIN_BITS <= int(value) <= MAX_BITS:
            raise ValueError(f"policy: {where}: {key} must be an integer from {MIN_BITS} to {MAX_BITS}, got {value}")
        checked.append(int(value))
    return LayerBits(*checked)


def _row(row: Any, where: str, *, named: bool) -> tuple[str | None, tuple[Any, Any]]:
    allowed = {"name", *LayerBits._fields} if named else set(LayerBits._fields)
    if not isinstance(row, dict) or not set(LayerBits._fields) <= set(row) <= allowed:
        raise ValueError(f"{where} must be an object with weight_bits and act_bits{' and name' * named}, got {row!r}")
    name = row.get("name")
    if "name" in row and not isinstance(name, str):
        raise ValueError(f"{where}.name must be a text, got {name!r}")
    return name, (row["weight_bits"], row["act_bits"])


def _check_same_layers(wanted: Sequence[str], present: Sequence[str]) -> None:
    missing = [name for name in wanted if name not in present]
    unknown = [name for name in present if name not in wanted]
    if missing or unknown:
        parts = [
            f"{what} {', '.join(map(repr, names))}" for what, names in (("lacks", missing), ("has", unknown)) if names
        ]
        raise ValueError(f"policy: it does not fit the layers of the model: it {' and '.join(parts)}")
