"""Policies: bits of weights and activations for every layer, and what a layer chooses of the machine."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cimq.atomic_files import write_bytes_atomically, write_text_atomically
from cimq.policy_rows import (
    AS_THE_MACHINE,
    MAX_BITS,
    MIN_BITS,
    LayerBits,
    LayerMachine,
    Row,
    check_same_names,
    checked_names,
    checked_row,
    plain_row,
    row_of_plain,
    short_row,
)
from cimq.structured_files import parse_json, read_structured

__all__ = ["AS_THE_MACHINE", "MAX_BITS", "MIN_BITS", "LayerBits", "LayerMachine", "Policy"]

_SCHEMA = "cimq.policy"
_VERSION = "1.0.0"
_VERSION_OF_MACHINES = "1.1.0"  # written where a layer is not as the machine, so that other files stay what they were
_NPY_MAGIC = b"\x93NUMPY"
_MAX_NPY_BYTES = 16 * 1024 * 1024


class Policy:
    """An ordered mapping from layer name to `LayerBits`, in module order. Immutable.

    A policy may still lack names: `uniform` holds one pair for any model, `from_pairs` (and CIM-AQ's files) hold pairs
    by position. `bind(names)` gives both their names; functions that take a model do it themselves.

    A layer may also choose what it has otherwise than the machine says: the bits of its conversions and the mapping of
    its weights (`machine`). `cimq.layer_machine` says what that makes of a machine.

    Args:
        layers: Layer name -> (weight bits, activation bits), in module order; or (w, a, ADC bits), or
            (w, a, ADC bits, mapping), where None is as the machine.

    Raises:
        ValueError: For bits outside 1..8, ADC bits outside 1..16, an unknown mapping, or no layer at all; names the
            layer.

    Example:
        >>> policy = Policy({"conv1": (8, 8), "fc": (4, 5)})
        >>> policy["fc"].act_bits, policy.pairs()
        (5, [(8, 8), (4, 5)])
        >>> Policy({"conv1": (8, 8, 6), "fc": (4, 5)}).machine("conv1").adc_bits
        6
    """

    __slots__ = ("_bits", "_machines", "_names", "_uniform")

    def __init__(self, layers: Mapping[str, Sequence[Any]]) -> None:
        if not isinstance(layers, Mapping):
            raise TypeError(f"Policy takes a mapping of layer name -> (w, a), got {type(layers).__name__}")
        names = tuple(checked_names(layers))
        self._set([checked_row(row, f"layer {name!r}") for name, row in layers.items()], names, False)

    @classmethod
    def uniform(
        cls, weight_bits: int, act_bits: int, adc_bits: int | None = None, mapping: str | None = None
    ) -> Policy:
        """The same bits, and the same choice of the machine, for every layer of any model.

        Example:
            >>> Policy.uniform(4, 6)["whatever"]
            LayerBits(weight_bits=4, act_bits=6)
        """
        return cls._make([checked_row((weight_bits, act_bits, adc_bits, mapping), "uniform")], None, True)

    @classmethod
    def from_pairs(cls, pairs: Iterable[Sequence[Any]]) -> Policy:
        """Bits by position: the i-th pair (or longer row) is for the i-th quantisable layer in module order.

        Example:
            >>> Policy.from_pairs([(8, 8), (4, 5)]).bind(["conv1", "fc"])["fc"].weight_bits
            4
        """
        return cls._make([checked_row(row, f"row {index}") for index, row in enumerate(pairs)], None, False)

    @classmethod
    def load(cls, path: str | Path) -> Policy:
        """Reads what `save` wrote, or a CIM-AQ policy.

        Args:
            path: `.json`: the schema of `save`, a plain `{"name": [w, a]}`, or a list of `[w, a]` rows (also
                `[w, a, ADC bits]` and `[w, a, ADC bits, mapping]`).
                `.npy`: CIM-AQ's integer array [layers, 2] of (weight bits, activation bits) rows.

        Raises:
            TypeError: If `path` is none.
            FileNotFoundError: If there is no such file.
            ValueError: If it is damaged or holds no policy; begins with the path.
        """
        if not isinstance(path, (str, os.PathLike)):
            raise TypeError(f"a policy must be a cimq.Policy or a file, got {type(path).__name__}")
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
            ValueError: For another suffix, or for a .npy of a uniform policy (it has no rows before `bind`) or of one
                that chooses of the machine (its rows have no place for that).
        """
        path = Path(path)
        if path.suffix == ".json":
            write_text_atomically(path, json.dumps(self.to_dict(), indent=1) + "\n")
        elif path.suffix == ".npy":
            chosen = next((index for index, machine in enumerate(self._machines) if machine.given()), None)
            if chosen is not None:
                raise ValueError(
                    f"policy: a .npy holds (weight bits, activation bits) alone, and row {chosen} chooses "
                    f"{self._machines[chosen]}: save it as .json"
                )
            buffer = io.BytesIO()
            np.save(buffer, np.asarray(self.pairs(), dtype=np.int64), allow_pickle=False)
            write_bytes_atomically(path, buffer.getvalue())
        else:
            raise ValueError(f"a policy is saved as .json or .npy, got {path.name!r}")

    def to_dict(self) -> dict[str, Any]:
        """The plain values that `save` writes as JSON."""
        version = _VERSION_OF_MACHINES if self.chooses_machines else _VERSION
        head: dict[str, Any] = {"schema": _SCHEMA, "version": version}
        plain = [plain_row(*row) for row in self._rows()]
        if self._uniform:
            return {**head, "uniform": plain[0]}
        if self._names is None:
            return {**head, "layers": plain}
        return {**head, "layers": [{"name": name} | row for name, row in zip(self._names, plain, strict=True)]}

    def bind(self, names: Sequence[str], first_last_bits: int | None = None) -> Policy:
        """The policy with one entry for each of these layers.

        Args:
            names: Layers in module order. A named policy must hold exactly these; their order is taken from here.
            first_last_bits: Bits (weights and activations) that the first and last layer get instead; what they choose
                of the machine stays.

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
            check_same_names(names, self._names)
            own = dict(zip(self._names, self._rows(), strict=True))
            rows = [own[name] for name in names]
        elif self._uniform:
            rows = self._rows() * len(names)
        elif len(names) != len(self._bits):
            raise ValueError(f"policy: {len(self._bits)} rows of bits do not fit {len(names)} layers")
        else:
            rows = self._rows()
        if first_last_bits is not None and rows:
            outer, _ = checked_row((first_last_bits, first_last_bits), "first_last_bits")
            rows[0], rows[-1] = (outer, rows[0][1]), (outer, rows[-1][1])
        return self._make(rows, tuple(checked_names(names)), False)

    def replace(self, layers: Mapping[str, Sequence[Any]]) -> Policy:
        """A copy with other bits for some of its layers; a pair leaves what the layer chooses of the machine.

        Raises:
            ValueError: For a layer that it does not have.
        """
        if self._names is None:
            raise ValueError("policy: it has no layer names yet; use bind(names) first")
        unknown = [name for name in layers if name not in self._names]
        if unknown:
            raise ValueError(f"policy: no layer {', '.join(map(repr, unknown))}; there are: {', '.join(self._names)}")
        rows = dict(zip(self._names, self._rows(), strict=True))
        for name, row in layers.items():
            bits, machine = checked_row(row, f"layer {name!r}")
            rows[name] = (bits, machine if len(row) > 2 else rows[name][1])
        return self._make(list(rows.values()), self._names, False)

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

    @property
    def chooses_machines(self) -> bool:
        """Whether any layer has something otherwise than the machine says."""
        return any(machine != AS_THE_MACHINE for machine in self._machines)

    def distinct_machines(self) -> set[LayerMachine]:
        """What any layer chooses of the machine, also of a policy that is not bound."""
        return set(self._machines)

    def machines(self) -> list[LayerMachine]:
        """What every layer chooses of the machine, in module order.

        Raises:
            ValueError: For a uniform policy that is not bound.
        """
        self.pairs()
        return list(self._machines)

    def machine(self, key: str | int) -> LayerMachine:
        """What a layer chooses of the machine; layers are named as for `policy[key]`.

        Example:
            >>> Policy({"fc": (4, 4, None, "offset")}).machine("fc").mapping
            'offset'
        """
        return self._machines[self._position(key)]

    def rows(self) -> list[tuple[Any, ...]]:
        """`pairs`, longer where a layer chooses: (w, a, ADC bits) or (w, a, ADC bits, mapping). `from_pairs` takes it.

        Example:
            >>> Policy({"a": (4, 4), "b": (4, 4, 6), "c": (4, 4, None, "offset")}).rows()
            [(4, 4), (4, 4, 6), (4, 4, None, 'offset')]

        Raises:
            ValueError: For a uniform policy that is not bound.
        """
        self.pairs()
        return [short_row(*row) for row in self._rows()]

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
        return self._bits[self._position(key)]

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
            return f"Policy.uniform({', '.join(map(repr, short_row(self._bits[0], self._machines[0])))})"
        rows = self.rows()
        return f"Policy.from_pairs({rows})" if self._names is None else f"Policy({dict(zip(self, rows, strict=True))})"

    def _position(self, key: str | int) -> int:
        if self._uniform:
            return 0
        if isinstance(key, int):
            return key
        if self._names is None:
            raise ValueError(f"policy: it has no layer names yet (asked for {key!r}); use bind(names) first")
        if key not in self._names:
            raise KeyError(f"policy: no layer {key!r}; there are: {', '.join(self._names)}")
        return self._names.index(key)

    def _rows(self) -> list[Row]:
        return list(zip(self._bits, self._machines, strict=True))

    def _state(self) -> tuple[Any, ...]:
        return tuple(self._rows()), self._names, self._uniform

    def _set(self, rows: list[Row], names: tuple[str, ...] | None, uniform: bool) -> None:
        if not rows:
            raise ValueError("policy: it must hold at least one layer")
        self._bits, self._machines = [bits for bits, _ in rows], [machine for _, machine in rows]
        self._names, self._uniform = names, uniform

    @classmethod
    def _make(cls, rows: list[Row], names: tuple[str, ...] | None, uniform: bool) -> Policy:
        policy = cls.__new__(cls)
        policy._set(rows, names, uniform)
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
            return _as_old_as(version, cls.uniform(*row_of_plain(content["uniform"], "uniform", named=False)[1]))
        if not isinstance(content["layers"], list):
            raise ValueError(f"layers must be a list, got {type(content['layers']).__name__}")
        rows = [row_of_plain(row, f"layers[{index}]", named=True) for index, row in enumerate(content["layers"])]
        names = [name for name, _ in rows if name is not None]
        if names and len(names) != len(rows):
            raise ValueError("either all layers have a name or none")
        if len(set(names)) != len(names):
            raise ValueError(f"layer {next(name for name in names if names.count(name) > 1)!r} is given twice")
        values = [values for _, values in rows]
        return _as_old_as(version, cls(dict(zip(names, values, strict=True))) if names else cls.from_pairs(values))


def _as_old_as(version: str, policy: Policy) -> Policy:
    """Refuses what files of a version could not say."""
    if policy.chooses_machines and version.split(".")[1:2] == ["0"]:
        raise ValueError(f"version {version} knows no adc_bits and no mapping; they came with {_VERSION_OF_MACHINES}")
    return policy
