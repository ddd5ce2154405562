"""What a row of a policy chooses: bits of weights and activations, and where asked for ADC bits and a mapping.

Rows are those of `cimq.Policy.rows`: (w, a), longer where a layer is not as the machine. Two rows that mean the same
are equal, so that a policy has one form.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from cimq.cost_model.component_energy import energy_hardware
from cimq.hardware import Hardware
from cimq.layer_machine import layer_hardware
from cimq.policy_rows import AS_THE_MACHINE, MAPPINGS, MAX_ADC_BITS, LayerBits, LayerMachine, short_row

Row = tuple[Any, ...]
Pairs = tuple[Row, ...]

WEIGHTS, ACTIVATIONS = 0, 1


class Axes:
    """The axes of a search space.

    Attributes:
        names: Of the axes, "weights" and "activations" first.
        adc_bits: Bits of converters that may be chosen, ascending; empty without that axis.
        mappings: Mappings that may be chosen, the machine's own first; empty without that axis.
        plain: What a layer has that is to be as the machine, as far as that may be chosen.

    Args:
        hardware: The machine.
        adc_bits: Smallest and largest bits of a converter; None: no such axis.
        mappings: Names; None: no such axis.

    Example:
        >>> axes = Axes(Hardware.preset("isaac"), adc_bits=(4, 8), mappings=None)
        >>> axes.values((4, 5)), axes.row((4, 5, 6)), axes.row((4, 5, 8))
        ((4, 5, 8), (4, 5, 6), (4, 5))
    """

    def __init__(
        self, hardware: Hardware, adc_bits: tuple[int, int] | None = None, mappings: Sequence[str] | None = None
    ) -> None:
        self._hardware = hardware
        low, high = adc_bits or (1, 0)
        self.adc_bits = tuple(range(low, high + 1))
        self.mappings = tuple(sorted(mappings or (), key=lambda name: (name != hardware.mapping, MAPPINGS.index(name))))
        self.names = ("weights", "activations", *["ADC bits"][: len(self.adc_bits)], *["mapping"][: len(self.mappings)])
        own = hardware.adc.bits
        self.plain = LayerMachine(
            None if own in self.adc_bits or not self.adc_bits else self.adc_bits[-1],
            None if hardware.mapping in self.mappings or not self.mappings else self.mappings[0],
        )

    @property
    def mapping_axis(self) -> int:
        """Position of the axis whose choices have no order; -1 without it."""
        return len(self.names) - 1 if self.mappings else -1

    def machines(self) -> list[LayerMachine]:
        """Everything that a layer may choose of the machine, in the form of rows; as the machine always first."""
        found = [AS_THE_MACHINE]
        for adc_bits in self.adc_bits or (None,):
            found += [self._short(adc_bits, mapping) for mapping in self.mappings or (None,)]
        return list(dict.fromkeys(found))

    def chosen_machines(self) -> list[LayerMachine]:
        """Those that may be chosen: as the machine among them only where it may."""
        choices = [
            self._short(bits, mapping) for bits in self.adc_bits or (None,) for mapping in self.mappings or (None,)
        ]
        return list(dict.fromkeys(choices))

    def machine(self, row: Row) -> LayerMachine:
        """What a row chooses of the machine."""
        return LayerMachine(*row[2:])

    def values(self, row: Row) -> Row:
        """The value of every axis."""
        adc_bits, mapping = self.machine(row)
        values: list[Any] = [row[0], row[1]]
        if self.adc_bits:
            values.append(self._hardware.adc.bits if adc_bits is None else adc_bits)
        if self.mappings:
            values.append(mapping or self._hardware.mapping)
        return tuple(values)

    def row(self, values: Sequence[Any]) -> Row:
        """The row with these values of the axes."""
        left = list(values[2:])
        adc_bits = left.pop(0) if self.adc_bits else None
        return self.with_machine(values[0], values[1], self._short(adc_bits, left.pop(0) if self.mappings else None))

    def with_machine(self, weight_bits: int, act_bits: int, machine: LayerMachine) -> Row:
        """The row with these bits and choices."""
        return short_row(LayerBits(weight_bits, act_bits), machine)

    def options(self, widths: Sequence[int]) -> list[tuple[Any, ...]]:
        """Of every axis all values that a row can have, those of the machine included; `widths` are those of bits."""
        found: list[tuple[Any, ...]] = [tuple(widths), tuple(widths)]
        if self.adc_bits:
            found.append(tuple(sorted({*self.adc_bits, self._hardware.adc.bits or self.adc_bits[-1]})))
        if self.mappings:
            found.append(tuple(dict.fromkeys((self._hardware.mapping, *self.mappings))))
        return found

    def is_lossless(self, row: Row) -> bool:
        """Whether the layer's product is the digital one: whatever else it chose would give the same."""
        return layer_hardware(self._hardware, self.machine(row)).lossless

    def distance(self, row: Row, other: Row) -> float:
        """How many bits two rows differ by; another mapping counts as one."""
        both = zip(self.values(row), self.values(other), strict=True)
        return sum(float(a != b) if isinstance(a, str) else abs(a - b) for a, b in both)

    def _short(self, adc_bits: int | None, mapping: str | None) -> LayerMachine:
        return LayerMachine(
            None if adc_bits == self._hardware.adc.bits else adc_bits,
            None if mapping == self._hardware.mapping else mapping,
        )


def check_axes(
    hardware: Hardware, objective: str, adc_bits: tuple[int, int] | None, mappings: Iterable[str] | None
) -> None:
    """Refuses axes that a search cannot have.

    Raises:
        ValueError: For impossible ADC bits or mappings; for ADC bits on a machine with ideal converters, or with an
            objective that they do not change; and for converters with learned steps.
    """
    if adc_bits is not None:
        given = tuple(adc_bits) if isinstance(adc_bits, Sequence) else ()
        whole = len(given) == 2 and all(isinstance(bits, int) and not isinstance(bits, bool) for bits in given)
        if not whole or not 1 <= given[0] <= given[1] <= MAX_ADC_BITS:
            raise ValueError(
                "search: adc_bits must be None or (smallest, largest) with 1 <= smallest <= largest <= "
                f"{MAX_ADC_BITS}, got {adc_bits!r}"
            )
        if hardware.adc.bits is None:
            raise ValueError(
                f"search: adc_bits={given} needs a machine with converters, and those of {hardware.name!r} are ideal "
                "(adc.bits null)"
            )
        if objective == "latency":
            raise ValueError(
                f"search: adc_bits={given} needs objective='energy' or 'energy_delay': the closed-form latency has no "
                "time of a conversion, so that with objective='latency' the most bits would always be best"
            )
        if not hardware.energy.adc_energy_pj:
            raise ValueError(
                f"search: adc_bits={given} needs a machine that gives the energy of a conversion, and "
                f"energy.adc_energy_pj of {hardware.name!r} is {hardware.energy.adc_energy_pj}: the most bits would "
                "always be best"
            )
        _check_energies_known(hardware, given)
    if mappings is not None:
        names = list(mappings) if isinstance(mappings, Sequence) and not isinstance(mappings, str) else []
        if not names or len(set(names)) != len(names) or set(names) - set(MAPPINGS):
            raise ValueError(
                f"search: mappings must be None or a list of different names of {', '.join(MAPPINGS)}, got {mappings!r}"
            )
    if (adc_bits is not None or mappings is not None) and hardware.adc.bits and hardware.adc.range == "learned":
        raise ValueError(
            "search: adc_bits and mappings need converters whose steps are not learned (adc.range is 'learned'): every "
            "choice has steps of its own, which one set of weights cannot be trained with; search with adc.range "
            "'calibrated'"
        )


def _check_energies_known(hardware: Hardware, given: tuple[int, ...]) -> None:
    for bits in range(given[0], given[1] + 1):
        try:
            energy_hardware(hardware, LayerMachine(bits))
        except ValueError as error:
            raise ValueError(f"search: adc_bits={given}: {error}") from None


def check_axes_of_programs(adc_bits: tuple[int, int] | None, mappings: Iterable[str] | None) -> None:
    """Refuses axes beside a pipeline.

    Raises:
        ValueError: If there are any.
    """
    if adc_bits is not None or mappings is not None:
        raise ValueError(
            "search: adc_bits and mappings need pipeline='closed_form': the time of a program is that of the machine's "
            "own converters and mapping in every layer"
        )
