"""Description of a crossbar machine: one schema for Python, C++, YAML and JSON.

The schema itself (keys, types, ranges, rules between fields) is written once, in csrc/common/hardware.cpp;
every description made here is checked by it. Units are in the field names.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, cast

from cimq import _C
from cimq.atomic_files import write_text_atomically
from cimq.cell import Cell, Drift, Programming, ReadNoise, StuckAt, Wires, cell_from_plain
from cimq.machine_fields import Adc, Area, Energy, Resources, Timing
from cimq.preset_files import merged, preset_names, read_preset
from cimq.structured_files import plain_value, read_structured, yaml_text

__all__ = [
    "Adc",
    "Area",
    "Cell",
    "Drift",
    "Energy",
    "Hardware",
    "Programming",
    "ReadNoise",
    "Resources",
    "StuckAt",
    "Timing",
    "Wires",
    "presets",
    "resolve",
]


_GROUPS: dict[str, type[Any]] = {
    "adc": Adc,
    "wires": Wires,
    "timing": Timing,
    "resources": Resources,
    "energy": Energy,
    "area": Area,
}


@dataclasses.dataclass(frozen=True)
class Hardware:
    """A crossbar machine. Immutable and hashable; the defaults are the numbers of the preset `paper`.

    Attributes:
        name: Shown in reports.
        rows: Word lines (inputs) of a crossbar.
        cols: Bit lines (outputs) of a crossbar.
        cell_bits: A cell has 2^cell_bits levels, 1 to 8.
        dac_bits: An input driver has 2^dac_bits levels, 1 to 8.
        mapping: "differential_column", "differential_row" or "offset".
        sign_magnitude: A differential pair stores a w-bit weight in w-1 magnitude bits.
        adc: Converter.
        cell: Memory cell and its variation (`cimq.cell`).
        wires: Resistance of word and bit lines.
        timing: Write and MVM time.
        resources: Crossbars and other limits.
        energy: Energy per event.
        area: Area per component.
        sources: Pairs (dotted field, where its value comes from), a note that equality ignores. A mapping is taken too.

    Raises:
        ValueError: For an impossible value; names the key, the value and what is allowed.

    Example:
        >>> hw = Hardware.preset("paper").replace(cell_bits=2, adc={"bits": 8})
        >>> hw.adc.bits, hw.adc.range
        (8, 'full_scale')
    """

    name: str = "custom"
    rows: int = 256
    cols: int = 256
    cell_bits: int = 4
    dac_bits: int = 1
    mapping: str = "differential_column"
    sign_magnitude: bool = False
    adc: Adc = dataclasses.field(default_factory=Adc)
    cell: Cell = dataclasses.field(default_factory=Cell)
    wires: Wires = dataclasses.field(default_factory=Wires)
    timing: Timing = dataclasses.field(default_factory=Timing)
    resources: Resources = dataclasses.field(default_factory=Resources)
    energy: Energy = dataclasses.field(default_factory=Energy)
    area: Area = dataclasses.field(default_factory=Area)
    sources: tuple[tuple[str, str], ...] = dataclasses.field(default=(), compare=False)

    def __post_init__(self) -> None:
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        if not isinstance(self.sources, Mapping):
            fields["sources"] = dict(self.sources)
        canonical = _C.canonical_hardware(json.dumps(plain_value(fields, "hardware")))
        # What C++ read back is what this object holds: numbers are Python's own, groups given as dict are dataclasses.
        for name, value in json.loads(canonical).items():
            object.__setattr__(self, name, _field_from_plain(name, value))
        object.__setattr__(self, "_canonical", canonical)
        object.__setattr__(self, "_varies", _C.hardware_varies(canonical))
        object.__setattr__(self, "_fractional", _C.hardware_fractional(canonical))
        object.__setattr__(self, "_lossless", _C.hardware_lossless(canonical))

    @property
    def varies(self) -> bool:
        """Whether two chips of this machine, or two accesses of one chip, can differ."""
        return bool(self.__dict__["_varies"])

    @property
    def fractional(self) -> bool:
        """Whether cells or currents need not be whole level steps: they are then held in 1/256 level."""
        return bool(self.__dict__["_fractional"])

    @property
    def lossless(self) -> bool:
        """Whether every product on this machine is the digital one: cells are exact, and converters lose nothing.

        True only where that holds for every layer; the crossbar operators find the other cases by themselves.
        """
        return bool(self.__dict__["_lossless"])

    @classmethod
    def preset(cls, name: str) -> Hardware:
        """The machine that ships with cimq under this name (see `cimq.presets()`).

        Raises:
            ValueError: If there is no such preset; names the nearest.
        """
        return _shipped(name) if cls is Hardware and isinstance(name, str) else cls.from_dict(read_preset(name))

    @classmethod
    def from_dict(cls, description: Mapping[str, Any]) -> Hardware:
        """Makes a machine from nested mappings, as they stand in a file.

        Args:
            description: Fields of the schema. `base` names a preset whose fields are overridden; without it, missing
                fields take the defaults (the numbers of `paper`).

        Raises:
            TypeError: If it is no mapping.
            ValueError: For an unknown key (with the nearest known one), a wrong type or an impossible value.

        Example:
            >>> Hardware.from_dict({"base": "paper-2b", "rows": 128}).cell_bits
            2
        """
        if not isinstance(description, Mapping):
            raise TypeError(f"Hardware.from_dict takes a mapping of fields, got {type(description).__name__}")
        fields = cast("dict[str, Any]", plain_value(description, "hardware"))
        base_name = fields.pop("base", None)
        if base_name is None:
            return cls._from_plain(fields)
        if not isinstance(base_name, str):
            raise ValueError(f"hardware: base must be the name of a preset ({', '.join(presets())}), got {base_name!r}")
        fields.setdefault("name", "custom")
        return cls.preset(base_name)._merged(fields)

    @classmethod
    def from_json(cls, text: str) -> Hardware:
        """Makes a machine from the text that `to_json` gave.

        Raises:
            ValueError: As `from_dict`, or if it is no JSON.
        """
        if not isinstance(text, str):
            raise TypeError(f"Hardware.from_json takes a text, got {type(text).__name__}")
        return cls._from_plain(json.loads(_C.canonical_hardware(text)))

    @classmethod
    def from_file(cls, path: str | Path) -> Hardware:
        """Reads a .yaml, .yml or .json file; see `from_dict` for its fields. Without `name` the file's stem is taken.

        Raises:
            FileNotFoundError: If there is no such file.
            ValueError: If the file is damaged or a field is wrong; begins with the file's name.
        """
        path = Path(path)
        description = read_structured(path, "hardware file")
        if not isinstance(description, dict):
            raise ValueError(f"{path}: a hardware file holds fields with values, got {type(description).__name__}")
        try:
            return cls.from_dict({"name": path.stem or "custom", **description})
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None

    def replace(self, **fields: Any) -> Hardware:
        """A copy with other values; the source of a changed value is forgotten, and so is the name if not given.

        Args:
            **fields: Fields of Hardware. A nested field takes a dataclass (replaces it) or a mapping (merged into it).

        Raises:
            ValueError: As the constructor.

        Example:
            >>> Hardware.preset("paper").replace(timing={"write_time_us": 10.0}).timing.mvm_time_us
            1.4
        """
        plain = cast("dict[str, Any]", plain_value(fields, "hardware"))
        for name, value in fields.items():
            if name == "sources" and not isinstance(value, Mapping):
                plain[name] = dict(value)
        return self._merged(plain)

    def source(self, field: str) -> str | None:
        """Where the value of a field, e.g. "timing.mvm_time_us", comes from; None if not recorded."""
        return dict(self.sources).get(field)

    def to_dict(self) -> dict[str, Any]:
        """All fields as nested dicts of plain values, in the schema's order."""
        plain = cast("dict[str, Any]", json.loads(self.to_json()))
        for name, group in _GROUPS.items():  # to_json leaves out what came to the schema later and is not given
            plain[name] = {field.name: plain[name].get(field.name) for field in dataclasses.fields(group)}
        return plain

    def to_json(self) -> str:
        """Canonical JSON, ordered, one line. What the C++ side parses; equal machines give equal text."""
        return cast(str, self.__dict__["_canonical"])

    def save(self, path: str | Path) -> None:
        """Writes .json, .yaml or .yml; the file appears complete or not at all.

        Raises:
            ValueError: For another suffix.
        """
        path = Path(path)
        if path.suffix == ".json":
            write_text_atomically(path, json.dumps(self.to_dict(), indent=2) + "\n")
        elif path.suffix in (".yaml", ".yml"):
            # Escaped: written out, characters such as U+0085 would come back as line breaks.
            write_text_atomically(path, yaml_text(self.to_dict()))
        else:
            raise ValueError(f"hardware is saved as .json, .yaml or .yml, got {path.name!r}")

    def weight_slices(self, weight_bits: int) -> int:
        """Cells per weight, n_w = ceil(w/c), or max(1, ceil((w-1)/c)) with sign_magnitude."""
        return _C.weight_slices(self.to_json(), weight_bits)

    def input_digits(self, act_bits: int) -> int:
        """Input cycles per activation, n_x = ceil(a/d)."""
        return _C.input_digits(self.to_json(), act_bits)

    @classmethod
    def _from_plain(cls, fields: dict[str, Any]) -> Hardware:
        # C++ first: it knows the keys; the constructor would answer an unknown one with Python's own words.
        complete: dict[str, Any] = json.loads(_C.canonical_hardware(json.dumps(fields)))
        return cls(**complete)

    def _merged(self, fields: dict[str, Any]) -> Hardware:
        before = self.to_dict()
        sources = before.pop("sources")
        new_sources = fields.pop("sources", {})
        complete = merged(before, fields)
        changed = _changed_paths(before, complete)
        if changed - {"name"} and "name" not in fields:
            complete["name"] = "custom"
        kept = {path: text for path, text in sources.items() if path not in changed}
        complete["sources"] = {**kept, **new_sources} if isinstance(new_sources, dict) else new_sources
        return type(self)._from_plain(complete)


def presets() -> list[str]:
    """Names of the machines that ship with cimq.

    Example:
        >>> presets()[:2]
        ['isaac', 'paper']
    """
    return preset_names()


@cache
def _shipped(name: str) -> Hardware:
    """A preset, read once: operators are called with its name again and again, and machines never change."""
    return Hardware.from_dict(read_preset(name))


def resolve(hardware: Hardware | str | Path) -> Hardware:
    """The machine meant by a Hardware, the name of a preset, a canonical JSON text or the path of a file.

    Raises:
        TypeError: For anything else.
        ValueError: If a text is neither a preset nor a file, or the description is wrong.
    """
    if isinstance(hardware, Hardware):
        return hardware
    if isinstance(hardware, Path):
        return Hardware.from_file(hardware)
    if not isinstance(hardware, str):
        raise TypeError(f"hardware must be a Hardware, a preset's name or a file, got {type(hardware).__name__}")
    if hardware.lstrip().startswith("{"):
        return Hardware.from_json(hardware)
    if Path(hardware).suffix in (".json", ".yaml", ".yml"):
        return Hardware.from_file(hardware)
    return Hardware.preset(hardware)


def _field_from_plain(name: str, value: Any) -> Any:
    if name == "sources":
        return tuple(value.items())
    if name == "cell":
        return cell_from_plain(value)
    return _GROUPS[name](**value) if name in _GROUPS else value


def _changed_paths(before: Any, after: Any, prefix: str = "") -> set[str]:
    """Dotted paths of leaves whose value differs."""
    if not isinstance(before, dict):
        return set() if before == after and type(before) is type(after) else {prefix}
    after = after if isinstance(after, dict) else {}
    inner = f"{prefix}." if prefix else ""
    return {path for key in before for path in _changed_paths(before[key], after.get(key), f"{inner}{key}")}
