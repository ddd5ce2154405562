"""What a conversion takes, and a converter is large, at other bits than those that a machine's numbers are for.

A machine gives energy and area of its converters at its own `adc.bits`. Those of a layer with other bits follow by the
ratio of two entries of one table: converters that compare bit by bit (SAR), 32 nm, 1.2 GS/s, whose share of the
capacitive DAC grows with 2^bits (Saberi et al., IEEE TCAS-I 58(8), 2011), scaled from the 8-bit converter of ISAAC
(Shafiee et al., ISCA 2016, doi 10.1109/ISCA.2016.12). The values are those in the comments of `isaac.py` in
Accelergy-Project/hwcomponents-library (MIT). They end at 4 and 10 bits, and so does what is scaled here.
"""

from __future__ import annotations

from collections.abc import Mapping

from cimq.hardware import Hardware
from cimq.layer_machine import layer_hardware
from cimq.policy_rows import LayerMachine

SAR_ENERGY_PJ = {4: 0.79, 5: 0.99, 6: 1.20, 7: 1.42, 8: 1.67, 9: 1.97, 10: 2.38}
SAR_AREA_UM2 = {4: 361.0, 5: 477.0, 6: 627.0, 7: 845.0, 8: 1200.0, 9: 1828.0, 10: 3002.0}


def energy_hardware(hardware: Hardware, machine: LayerMachine, layer: str = "") -> Hardware:
    """The machine whose energies are those of a layer: `layer_hardware` with the energy of its conversions.

    Args:
        hardware: The machine of the network.
        machine: What the layer chooses.
        layer: Its name, for errors.

    Raises:
        ValueError: As `layer_hardware`, and where the machine gives the energy of a conversion and the layer chooses
            other bits, if one of both is not 4 to 10.

    Example:
        >>> import cimq
        >>> round(energy_hardware(cimq.Hardware.preset("isaac"), LayerMachine(4)).energy.adc_energy_pj, 3)
        0.789
    """
    own = layer_hardware(hardware, machine, layer)
    energy = hardware.energy.adc_energy_pj
    if machine.adc_bits in (None, hardware.adc.bits) or not energy:
        return own
    scaled = energy * _ratio(SAR_ENERGY_PJ, "the energy of a conversion", hardware, machine.adc_bits, layer)
    return own.replace(name=own.name, energy={"adc_energy_pj": scaled})


def area_hardware(hardware: Hardware, machine: LayerMachine, layer: str = "") -> Hardware:
    """The machine that is large enough for a layer: its converters have the layer's bits where those are more.

    Raises:
        ValueError: As `energy_hardware`, of the area of a converter, for more bits than the machine's.
    """
    own = layer_hardware(hardware, machine, layer)
    area, bits = hardware.area.adc_area_um2, hardware.adc.bits
    if machine.adc_bits is None or bits is None or machine.adc_bits <= bits or not area:
        return own
    scaled = area * _ratio(SAR_AREA_UM2, "the area of a converter", hardware, machine.adc_bits, layer)
    return own.replace(name=own.name, area={"adc_area_um2": scaled})


def _ratio(table: Mapping[int, float], what: str, hardware: Hardware, bits: int | None, layer: str) -> float:
    own = hardware.adc.bits
    if bits is None or own is None or bits not in table or own not in table:
        where = f"layer {layer!r}" if layer else "a layer"
        raise ValueError(
            f"{where} has {bits}-bit converters and hardware {hardware.name!r} those of {own} bits: how {what} "
            f"changes is known for {min(table)} to {max(table)} bits (docs/numbers.md); choose others, or give "
            "hardware without it"
        )
    return table[bits] / table[own]
