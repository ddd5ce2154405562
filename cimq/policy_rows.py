"""What a policy says about one layer: its bits, and what it chooses of the machine."""

from __future__ import annotations

import numbers
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

MIN_BITS = 1
MAX_BITS = 8
MAX_ADC_BITS = 16
MAPPINGS = ("differential_column", "differential_row", "offset")


class LayerBits(NamedTuple):
    """Bits of one layer.

    Attributes:
        weight_bits: 1 to 8.
        act_bits: Bits of its input, 1 to 8.
    """

    weight_bits: int
    act_bits: int


class LayerMachine(NamedTuple):
    """What one layer has otherwise than the machine says; None: as the machine.

    Attributes:
        adc_bits: Bits that its conversions have, 1 to 16.
        mapping: How its weights are stored, one of `MAPPINGS`.
    """

    adc_bits: int | None = None
    mapping: str | None = None

    def given(self) -> dict[str, Any]:
        """What differs from the machine, by name."""
        return {key: value for key, value in self._asdict().items() if value is not None}

    def __str__(self) -> str:
        parts = [] if self.adc_bits is None else [f"{self.adc_bits}-bit converters"]
        return ", ".join(parts if self.mapping is None else [*parts, self.mapping]) or "as the machine"


AS_THE_MACHINE = LayerMachine()
KEYS = (*LayerBits._fields, *LayerMachine._fields)
Row = tuple[LayerBits, LayerMachine]


def checked_row(values: Any, where: str) -> Row:
    """A row that was given as (w, a), (w, a, ADC bits) or (w, a, ADC bits, mapping).

    Args:
        values: The row.
        where: What an error calls it.

    Raises:
        ValueError: For other lengths and for values that are not possible; names them.

    Example:
        >>> checked_row((4, 5), "layer 'fc'")[0].act_bits, checked_row((4, 5, 6), "layer 'fc'")[1].adc_bits
        (5, 6)
    """
    if isinstance(values, (str, bytes)) or not isinstance(values, Sequence) or not 2 <= len(values) <= len(KEYS):
        raise ValueError(
            f"policy: {where} must be a pair (weight bits, activation bits), got {values!r}; ADC bits and a mapping "
            "may follow where they differ from the machine's"
        )
    bits = LayerBits(
        *(_integer(value, where, key, MAX_BITS) for key, value in zip(LayerBits._fields, values, strict=False))
    )
    return bits, checked_machine(LayerMachine(*values[2:]), where)


def checked_machine(machine: LayerMachine, where: str) -> LayerMachine:
    """The choice, its number an int.

    Raises:
        ValueError: For ADC bits outside 1..16 and unknown mappings; begins with "policy: " and `where`.
    """
    adc_bits, mapping = machine
    if adc_bits is not None:
        adc_bits = _integer(adc_bits, where, "adc_bits", MAX_ADC_BITS, "null or ")
    if mapping is not None and mapping not in MAPPINGS:
        raise ValueError(f"policy: {where}: mapping must be null or one of {', '.join(MAPPINGS)}, got {mapping!r}")
    return LayerMachine(adc_bits, mapping)


def short_row(bits: LayerBits, machine: LayerMachine) -> tuple[Any, ...]:
    """The shortest form that `checked_row` takes: the pair alone where the layer is as the machine.

    Example:
        >>> short_row(LayerBits(4, 5), LayerMachine(None, "offset")), short_row(LayerBits(4, 5), LayerMachine())
        ((4, 5, None, 'offset'), (4, 5))
    """
    if machine.mapping is not None:
        return (*bits, *machine)
    return (*bits,) if machine.adc_bits is None else (*bits, machine.adc_bits)


def plain_row(bits: LayerBits, machine: LayerMachine) -> dict[str, Any]:
    """The form of files: names and values."""
    return bits._asdict() | machine.given()


def row_of_plain(row: Any, where: str, *, named: bool) -> tuple[str | None, tuple[Any, ...]]:
    """Name (None where the row has none) and values, not checked yet, of the form of files.

    Raises:
        ValueError: For another form; names it.
    """
    allowed = {"name", *KEYS} if named else set(KEYS)
    if not isinstance(row, Mapping) or not set(LayerBits._fields) <= set(row) <= allowed:
        raise ValueError(
            f"{where} must be an object with weight_bits and act_bits{' and name' * named}, got {row!r}; adc_bits and "
            "mapping may be there too, where they differ from the machine's"
        )
    name = row.get("name")
    if "name" in row and not isinstance(name, str):
        raise ValueError(f"{where}.name must be a text, got {name!r}")
    return name, tuple(row.get(key) for key in KEYS)


def checked_names(names: Iterable[Any]) -> Iterator[str]:
    """The names of layers.

    Raises:
        ValueError: For what is no name.
    """
    for name in names:
        if not isinstance(name, str) or not name:
            raise ValueError(f"policy: a layer name must be a text, got {name!r}")
        yield name


def check_same_names(wanted: Sequence[str], present: Sequence[str]) -> None:
    """Refuses a policy for other layers than those of a model.

    Raises:
        ValueError: Naming the missing and the unknown ones.
    """
    missing = [name for name in wanted if name not in present]
    unknown = [name for name in present if name not in wanted]
    if missing or unknown:
        parts = [
            f"{what} {', '.join(map(repr, names))}" for what, names in (("lacks", missing), ("has", unknown)) if names
        ]
        raise ValueError(f"policy: it does not fit the layers of the model: it {' and '.join(parts)}")


def _integer(value: Any, where: str, key: str, largest: int, also: str = "") -> int:
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, numbers.Integral):
        raise ValueError(f"policy: {where}: {key} must be {also}an integer from {MIN_BITS} to {largest}, got {value!r}")
    if not MIN_BITS <= int(value) <= largest:
        raise ValueError(f"policy: {where}: {key} must be {also}an integer from {MIN_BITS} to {largest}, got {value}")
    return int(value)
