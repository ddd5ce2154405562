"""What a crossbar machine itself takes: area by component, and power while all of its crossbars multiply.

Both follow from the hardware description alone. What is counted is in csrc/compiler/cost/area.h and docs/machines.md.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from cimq import _C
from cimq.hardware import Hardware, resolve
from cimq.policy import LayerMachine, Policy


@dataclasses.dataclass(frozen=True)
class MachineParts:
    """A quantity of a machine by component.

    Attributes:
        parts: The components that the machine describes.
        total: Their sum.
        missing: Components that it does not describe; they count as 0.
        crossbars: Crossbars that were counted.
    """

    parts: Mapping[str, float]
    total: float
    missing: tuple[str, ...]
    crossbars: int

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {**dataclasses.asdict(self), "missing": list(self.missing)}


def machine_area(
    hardware: Hardware | str | Path, crossbars: int | None = None, policy: Policy | str | Path | None = None
) -> MachineParts:
    """Area of a machine in square micrometres.

    Args:
        hardware: Machine, preset or file.
        crossbars: How many crossbars to count. None: those of the machine.
        policy: What layers choose of the machine, or its file: every part is as large as the machine's own, and as the
            layer that takes most of it needs (a converter has the most bits of all, and there is one for each line of
            the mapping that converts most). A machine that is built for fewer bits says so itself (`adc.bits`). None:
            as the machine.

    Raises:
        ValueError: If the machine has crossbars without limit and `crossbars` is not given, it cannot have what a layer
            chooses, or the area of a converter of so many bits is not known.

    Example:
        >>> tile = Hardware.preset("isaac").replace(resources={"crossbars": 96, "buffer_bytes": 65536 + 12 * 2304})
        >>> round(machine_area(tile).total / 1e6, 3)  # square millimetres
        0.369
    """
    machine = resolve(hardware)
    count = _crossbars_of(machine, crossbars)
    if policy is None:
        return area_for_layers(machine, count, ())
    policy = policy if isinstance(policy, Policy) else Policy.load(policy)
    return area_for_layers(machine, count, policy.distinct_machines())


def area_for_layers(machine: Hardware, crossbars: int, choices: Iterable[LayerMachine]) -> MachineParts:
    """The area of a machine with so many crossbars that is large enough for layers with these choices.

    Raises:
        ValueError: As `machine_area`.
    """
    areas = _C.machine_area(machine.to_json(), crossbars, sorted(set(choices), key=str))
    return _by_part(_C.AREA_PARTS, areas, crossbars)


def busy_power(hardware: Hardware | str | Path, crossbars: int | None = None) -> MachineParts:
    """Power in milliwatts while all crossbars apply digit after digit; dynamic, of what `energy` describes.

    Args:
        hardware: As in `machine_area`.
        crossbars: As there.

    Raises:
        ValueError: As there.

    Example:
        >>> round(busy_power("isaac", crossbars=96).parts["mvm"], 1)
        28.8
    """
    machine = resolve(hardware)
    count = _crossbars_of(machine, crossbars)
    return _by_part(_C.POWER_PARTS, _C.machine_power(machine.to_json(), count), count)


def _crossbars_of(machine: Hardware, crossbars: int | None) -> int:
    count = machine.resources.crossbars if crossbars is None else crossbars
    if count is None:
        raise ValueError(f"hardware {machine.name!r} has crossbars without limit: give crossbars=, how many to count")
    if isinstance(count, bool) or not isinstance(count, int) or count < 1:
        raise ValueError(f"crossbars must be an integer of at least 1, got {count!r}")
    return count


def _by_part(names: Sequence[str], values: Sequence[float | None], crossbars: int) -> MachineParts:
    parts = {name: value for name, value in zip(names, values, strict=True) if value is not None}
    missing = tuple(name for name in names if name not in parts)
    return MachineParts(parts, sum(parts.values()), missing, crossbars)
