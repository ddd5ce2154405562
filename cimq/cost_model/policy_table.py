"""Files that hold a machine, the layers of some networks and policies for them, and their latencies."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from cimq import _C
from cimq.cost_model.closed_form import LatencyReport, closed_form, closed_form_machine
from cimq.cost_model.shapes import LayerShape
from cimq.hardware import Hardware, resolve
from cimq.policy import Policy
from cimq.policy_rows import MAPPINGS
from cimq.structured_files import read_structured

_SIZES = ("outputs", "inputs", "invocations")
_LAYER_KEYS = (*_SIZES, "repeats", "name", "kind")
_POLICY_KEYS = ("name", "model", "cell_bits", "policy")
_TABLE_KEYS = ("hardware", "layers", "policies")
# Keys of a flat `hardware` and where they are in the schema of cimq.Hardware.
_FLAT = {"write_time_us": "timing", "mvm_time_us": "timing", "crossbars": "resources"}


@dataclasses.dataclass(frozen=True)
class TableEntry:
    """One policy of a table.

    Attributes:
        name: Unique in the table.
        hardware: Machine with the cell bits that the policy was made for.
        shapes: Layers of its model in module order.
        policy: Bits of these layers.
    """

    name: str
    hardware: Hardware
    shapes: tuple[LayerShape, ...]
    policy: Policy

    def latencies(self) -> dict[str, LatencyReport]:
        """Closed-form latency under each of the three mappings; `sign_magnitude` counts where there is a pair.

        A layer whose policy chooses a mapping has that in all three.
        """
        reports = {}
        for mapping in MAPPINGS:
            signs = {"sign_magnitude": False} if mapping == "offset" else {}
            machine = self.hardware.replace(name=self.hardware.name, **{"mapping": mapping, **signs})
            bits = self.policy.bind([shape.name for shape in self.shapes])
            reports[mapping] = closed_form(self.shapes, bits.values(), closed_form_machine(machine), bits.machines())
        return reports


def read_policy_table(path: str | Path) -> list[TableEntry]:
    """Reads a table of policies.

    Args:
        path: JSON or YAML with
            `hardware`: rows, cols, dac_bits, write_time_us, mvm_time_us, adc (null or bits), crossbars; or the fields
            of `cimq.Hardware`; or the name of a preset;
            `layers`: model -> list of {outputs, inputs, invocations, repeats, kind, name};
            `policies`: list of {name, model, policy: [[w, a], ...]} (rows as in `cimq.Policy`), and cell_bits where the
            hardware's do not hold.
            Policies and the table itself may carry further keys (notes, expected results).

    Returns:
        The policies in the file's order.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: For anything that is missing, unknown or impossible; begins with the path.
    """
    content = read_structured(path, "policy table")
    try:
        content = _object(content, "the table", _TABLE_KEYS, required=_TABLE_KEYS)
        hardware = _hardware(content["hardware"])
        models = {str(model): _shapes(str(model), rows) for model, rows in _object(content["layers"], "layers").items()}
        if not isinstance(content["policies"], list) or not content["policies"]:
            raise ValueError("policies must be a list of at least one policy")
        entries = [_entry(index, item, hardware, models) for index, item in enumerate(content["policies"])]
        names = [entry.name for entry in entries]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"policy {name!r} is given twice")
        return entries
    except ValueError as error:
        raise ValueError(f"policy table {path}: {error}") from None


def _hardware(content: Any) -> Hardware:
    if isinstance(content, str):
        return resolve(content)
    fields = dict(_object(content, "hardware"))
    for key, group in _FLAT.items():
        if key not in fields:
            continue
        inner = fields.setdefault(group, {})
        if not isinstance(inner, dict) or key in inner:
            raise ValueError(f"hardware: {key} and {group}.{key} are both given")
        fields[group] = {**inner, key: fields.pop(key)}
    if isinstance(fields.get("adc"), int):
        fields["adc"] = {"bits": fields["adc"]}
    return Hardware.from_dict(fields)


def _shapes(model: str, rows: Any) -> tuple[LayerShape, ...]:
    if not isinstance(rows, list) or not rows:
        raise ValueError(f"layers.{model} must be a list of at least one layer")
    shapes = []
    for index, row in enumerate(rows):
        where = f"layers.{model}[{index}]"
        fields = _object(row, where, _LAYER_KEYS, required=_SIZES, strict=True)
        for key in ("name", "kind"):
            if not isinstance(fields.get(key, ""), str):
                raise ValueError(f"{where}.{key} must be a text, got {json.dumps(fields[key])}")
        defaults = {"name": f"{model}.{index}", "kind": "layer"}
        shapes.append(LayerShape(**{**defaults, **fields}))
    return tuple(shapes)


def _entry(index: int, item: Any, hardware: Hardware, models: Mapping[str, tuple[LayerShape, ...]]) -> TableEntry:
    fields = _object(item, f"policies[{index}]", _POLICY_KEYS, required=("name", "model", "policy"))
    name, model = fields["name"], fields["model"]
    if not isinstance(name, str) or not name:
        raise ValueError(f"policies[{index}].name must be a text, got {json.dumps(name)}")
    if not isinstance(model, str) or model not in models:
        raise ValueError(f"policy {name!r}: model must be one of {', '.join(models)}, got {json.dumps(model)}")
    if not isinstance(fields["policy"], list):
        raise ValueError(f"policy {name!r}: policy must be a list of [w, a] rows")
    try:
        policy = Policy.from_pairs(fields["policy"]).bind([shape.name for shape in models[model]])
        machine = hardware.replace(name=hardware.name, cell_bits=fields.get("cell_bits", hardware.cell_bits))
    except ValueError as error:
        raise ValueError(f"policy {name!r}: {error}") from None
    return TableEntry(name, machine, models[model], policy)


def _object(
    content: Any, where: str, known: Iterable[str] = (), *, required: Iterable[str] = (), strict: bool = False
) -> dict[str, Any]:
    """`content` if it is an object with the required keys and no misspelt one (`strict`: no unknown one)."""
    if not isinstance(content, dict):
        raise ValueError(f"{where} must be an object with keys, got {type(content).__name__}")
    known = list(known)
    for key in set(content) - set(known) if known else ():
        near = _C.nearest_word(str(key), known)
        if near and near not in content:
            raise ValueError(f"{where}: unknown key {key!r} (did you mean {near!r}?)")
        if strict:
            raise ValueError(f"{where}: unknown key {key!r}; allowed: {', '.join(known)}")
    missing = [key for key in required if key not in content]
    if missing:
        raise ValueError(f"{where} lacks {', '.join(missing)}")
    return content
