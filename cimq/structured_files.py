"""Reading of small YAML and JSON files, and their text, with errors that a user can act on."""

from __future__ import annotations

import dataclasses
import json
import math
import numbers
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

_MAX_BYTES = 64 * 1024 * 1024
_MAX_DEPTH = 64
_MAX_ALIASED = 100_000
_BYTE_ORDER_MARK = "\ufeff"
_EXPONENT = re.compile(r"^[-+]?[0-9]+(?:\.[0-9]*)?[eE][-+]?[0-9]+$")


def read_structured(path: str | Path, what: str) -> Any:
    """Content of a .json, .yaml or .yml file as plain Python values.

    Args:
        path: The file. Read as JSON if its name ends in .json, as YAML otherwise (never with Python objects).
        what: How messages call it, e.g. "hardware file".

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is a folder, too large, not UTF-8, damaged, gives a key twice, is JSON behind a byte order
            mark, or is YAML whose aliases (`*name`) stand for more than 100,000 values; begins with the path.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"{what} {path} does not exist")
    if not path.is_file():
        raise ValueError(f"{what} {path} is not a file")
    if path.stat().st_size > _MAX_BYTES:
        raise ValueError(f"{what} {path} has {path.stat().st_size} bytes, more than the {_MAX_BYTES} that one may have")
    try:
        text = path.read_text(encoding="utf-8")
        return parse_json(text) if path.suffix == ".json" else yaml.load(text, Loader=_UniqueKeyLoader)
    except RecursionError:
        raise ValueError(f"{what} {path} is nested too deeply") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"{what} {path} is not UTF-8 text: {error}") from None
    except yaml.YAMLError as error:
        raise ValueError(f"{what} {path} is not valid YAML: {_one_line(str(error))}") from None
    except ValueError as error:
        raise ValueError(f"{what} {path}: {error}") from None


def plain_value(value: Any, path: str, depth: int = 0) -> Any:
    """`value` as dicts, lists, str, int, float, bool and None, ready for JSON.

    Args:
        value: Nested mappings, sequences, dataclasses and numbers (numpy's too).
        path: How messages call it.
        depth: Nesting so far.

    Raises:
        ValueError: For NaN or infinity, keys that are no text, nesting beyond 64 levels, or another type.
    """
    if depth > _MAX_DEPTH:
        raise ValueError(f"{path.split('.', maxsplit=1)[0]} is nested too deeply (more than {_MAX_DEPTH} levels)")
    if value is None or isinstance(value, (str, bool)):
        return value
    if isinstance(value, numbers.Integral):
        return int(value)
    if isinstance(value, numbers.Real):
        number = float(value)
        if not math.isfinite(number):
            raise ValueError(f"{path} must be a finite number, got {number}")
        return number
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise ValueError(f"{path} has a key that is no text: {key!r}")
        return {str(key): plain_value(item, f"{path}.{key}", depth + 1) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain_value(item, f"{path}[{index}]", depth + 1) for index, item in enumerate(value)]
    raise ValueError(f"{path} must be a plain value (number, text, true/false, null), got {type(value).__name__}")


def parse_json(text: str) -> Any:
    """The value of JSON text.

    Raises:
        ValueError: If it is not valid, gives a key twice, or begins with a byte order mark.
    """
    if text.startswith(_BYTE_ORDER_MARK):
        raise ValueError("not valid JSON: begins with a byte order mark")
    try:
        return json.loads(text, object_pairs_hook=_unique_pairs, parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        raise ValueError(f"not valid JSON: {error}") from None


def _unique_pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for key, value in pairs:
        if key in made:
            raise ValueError(f"key {key!r} is given twice")
        made[key] = value
    return made


def _refuse_constant(text: str) -> Any:
    raise ValueError(f"{text} is not a number that JSON knows")


class _UniqueKeyLoader(yaml.SafeLoader):
    """SafeLoader (no Python tags) that refuses a key given twice, which YAML forbids and PyYAML lets pass.

    It also refuses aliases within aliases that stand for more values than anybody could have meant: ten lines can stand
    for 9^10, over which everything that walks through the result hangs (and merging, `<<`, does so while loading).
    """

    def get_single_node(self) -> yaml.Node | None:
        root: yaml.Node | None = super().get_single_node()
        sizes: dict[int, int] = {}
        if root is not None and _written_out(root, sizes) > max(len(sizes), _MAX_ALIASED):
            raise ValueError(f"its aliases stand for more than {_MAX_ALIASED} values")
        return root

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key_node, _ in node.value:
            if isinstance(key_node, yaml.ScalarNode) and key_node.tag != "tag:yaml.org,2002:merge":
                if key_node.value in seen:
                    line = key_node.start_mark.line + 1
                    raise ValueError(f"key {key_node.value!r} is given twice (line {line})")
                seen.add(key_node.value)
        return super().construct_mapping(node, deep)


def _written_out(node: yaml.Node, sizes: dict[int, int]) -> int:
    """Nodes of `node` with every alias written out; `sizes` keeps those of the nodes that were seen."""
    known = sizes.get(id(node))
    if known is not None:
        if known == 0:
            raise ValueError("is nested too deeply: a value contains itself")
        return known
    sizes[id(node)] = 0  # being counted
    children: list[yaml.Node] = []
    if isinstance(node, yaml.SequenceNode):
        children = node.value
    elif isinstance(node, yaml.MappingNode):
        children = [part for pair in node.value for part in pair]
    sizes[id(node)] = total = 1 + sum(_written_out(child, sizes) for child in children)
    return total


class _Dumper(yaml.SafeDumper):
    """Quotes what the loader would take for a number."""


# YAML 1.1 reads 1e400 and 1e-3 (no dot) as text; JSON and people mean numbers.
for _rules in (_UniqueKeyLoader, _Dumper):
    _rules.add_implicit_resolver("tag:yaml.org,2002:float", _EXPONENT, list("-+0123456789"))


def yaml_text(value: Any) -> str:
    """Plain values as YAML that `read_structured` reads back as the same values."""
    text: str = yaml.dump(value, Dumper=_Dumper, sort_keys=False)
    return text


def _one_line(text: str) -> str:
    return " ".join(text.split())
