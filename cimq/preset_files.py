"""The hardware presets as files: their names and what they hold."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cimq import _C
from cimq.structured_files import read_structured

_FOLDER = Path(__file__).with_name("hardware_presets")


def preset_names() -> list[str]:
    """Names of the machines that ship with cimq."""
    return sorted(path.stem for path in _FOLDER.glob("*.yaml"))


def read_preset(name: str) -> dict[str, Any]:
    """The fields that a preset's file gives.

    Raises:
        TypeError: If the name is no text.
        ValueError: If there is no such preset; names the nearest.
    """
    if not isinstance(name, str):
        raise TypeError(f"Hardware.preset takes the name of a preset, got {type(name).__name__}")
    names = preset_names()
    if name not in names:
        near = _C.nearest_word(name, names)
        hint = f" (did you mean {near!r}?)" if near else ""
        raise ValueError(f"there is no hardware preset {name!r}{hint}; there are: {', '.join(names)}")
    fields: dict[str, Any] = read_structured(_FOLDER / f"{name}.yaml", "hardware preset")
    return fields


def with_base(fields: dict[str, Any]) -> dict[str, Any]:
    """Fields with those of the presets that they are based on underneath."""
    base = fields.get("base")
    own = {key: value for key, value in fields.items() if key != "base"}
    return own if base is None else merged(with_base(read_preset(base)), own)


def merged(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """`over` on top of `base`; mappings are merged, everything else is replaced.

    A mapping that names another `model` replaces the old one, whose fields mean nothing to it.
    """
    result = dict(base)
    for key, value in over.items():
        old = result.get(key)
        if (
            isinstance(old, dict)
            and isinstance(value, dict)
            and value.get("model", old.get("model")) == old.get("model")
        ):
            result[key] = merged(old, value)
        else:
            result[key] = value
    return result
