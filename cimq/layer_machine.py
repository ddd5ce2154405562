"""The machine of one layer: that of the network, with what the policy chooses for the layer.

A mapping is a way to store weights in the same crossbars, and bits of a converter that compares bit by bit (SAR) are
comparisons that it makes: a layer may do with fewer, or with another mapping, on one and the same machine. The rule is
in csrc/common/layer_machine.h.
"""

from __future__ import annotations

from functools import lru_cache

from cimq import _C
from cimq.hardware import Hardware
from cimq.policy_rows import AS_THE_MACHINE, LayerMachine


def layer_hardware(hardware: Hardware, machine: LayerMachine, layer: str = "") -> Hardware:
    """The machine that a layer computes with: `hardware` itself where the layer chooses nothing.

    `sign_magnitude` says how a pair of cells holds a sign; a layer with the mapping offset has no pair, and not that
    field. Energies and times stay those of the machine (`cimq.cost_model.component_energy.energy_hardware`
    scales them).

    Args:
        hardware: The machine of the network.
        machine: What the layer chooses.
        layer: Its name, for errors.

    Raises:
        ValueError: For ADC bits on a machine with ideal converters, and for a choice that the machine cannot have;
            names the layer.

    Example:
        >>> import cimq
        >>> isaac = cimq.Hardware.preset("isaac")
        >>> layer_hardware(isaac, LayerMachine(6, "offset")).adc.bits, isaac.adc.bits
        (6, 8)
    """
    return hardware if machine == AS_THE_MACHINE else _changed(hardware, machine, layer)


def training_layer_hardware(hardware: Hardware, machine: LayerMachine, layer: str = "") -> Hardware:
    """`layer_hardware` for a machine that only training computes with, whose converters may be ideal on purpose."""
    return layer_hardware(hardware, machine._replace(adc_bits=None) if hardware.adc.bits is None else machine, layer)


def differing(hardware: Hardware, machine: LayerMachine) -> LayerMachine:
    """What of a layer's choice is not what the machine of the network has anyway.

    Example:
        >>> import cimq
        >>> differing(cimq.Hardware.preset("isaac"), LayerMachine(8, "differential_column"))
        LayerMachine(adc_bits=None, mapping='differential_column')
    """
    return LayerMachine(
        None if machine.adc_bits == hardware.adc.bits else machine.adc_bits,
        None if machine.mapping == hardware.mapping else machine.mapping,
    )


@lru_cache(maxsize=1024)
def _changed(hardware: Hardware, machine: LayerMachine, layer: str) -> Hardware:
    return Hardware.from_json(_C.layer_hardware(hardware.to_json(), machine, layer))
