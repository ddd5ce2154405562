"""How a machine and a layer are described to analog-cim-sim: its JSON keys, and how large a matrix it takes at once.

What its keys mean: src/helper/config.cpp of https://github.com/rpelke/analog-cim-sim.
"""

from __future__ import annotations

import dataclasses
import json
from typing import Any

from cimq.bundle.programs import CompiledLayer
from cimq.hardware import Hardware
from cimq.mapping import act_range, mapping_facts

_OFFSET = "offset"


@dataclasses.dataclass(frozen=True)
class SimulatedLayer:
    """A layer as the simulator gets it.

    Attributes:
        config: Keys for update_config.
        shift: What is added to its quantised inputs, which this mode takes unsigned only.
    """

    config: dict[str, Any]
    shift: int

    @property
    def tile(self) -> tuple[int, int]:
        """Outputs and inputs that one writing holds."""
        return self.config["M"], self.config["N"]

    @property
    def text(self) -> str:
        """The keys as JSON."""
        return json.dumps(self.config)


def machine_keys(hardware: Hardware) -> dict[str, Any]:
    """Keys that all layers share.

    A machine that loses nothing is `digital_only`. Of others the simulator knows: a converter of `adc.bits` bits over
    the full scale of the array (`SYM_RANGE_ADC` after a pair is subtracted, `POS_RANGE_ONLY_ADC` with `offset`).

    Raises:
        ValueError: For what its integer modes do not have; names the field.
    """
    if hardware.lossless:
        return {"digital_only": True, "verbose": False}
    _refuse_unknown(hardware)
    cell = hardware.cell
    low, high = cell.g_min_microsiemens, cell.g_max_microsiemens
    if low is None and cell.hrs_ohm is not None and cell.lrs_ohm is not None:
        low, high = 1e6 / cell.hrs_ohm, 1e6 / cell.lrs_ohm
    if low is None or high is None or low <= 0:
        raise ValueError(
            "emit_c: analog-cim-sim needs a current above 0 in both states of a cell: give the hardware "
            "cell.g_min_microsiemens and cell.g_max_microsiemens (or cell.hrs_ohm and cell.lrs_ohm), g_min above 0"
        )
    return {
        "digital_only": False,
        "verbose": False,
        # Microampere at 1 V. Only the ratio enters the result.
        "HRS": low,
        "LRS": high,
        "adc_type": "POS_RANGE_ONLY_ADC" if hardware.mapping == _OFFSET else "SYM_RANGE_ADC",
        "resolution": hardware.adc.bits,
        "adc_calib_mode": "MAX",
        # Asked for by versions of the simulator before calibration came: a factor of the range, and no noise.
        "alpha": 1.0,
        "HRS_NOISE": 0.0,
        "LRS_NOISE": 0.0,
    }


def _refuse_unknown(hardware: Hardware) -> None:
    adc = hardware.adc
    wrong = None
    if hardware.varies:
        wrong = "cells that vary, which its integer modes do not have"
    elif hardware.wires.word_line_ohm or hardware.wires.bit_line_ohm:
        wrong = "wires, which it models by keys of its own (parasitics, w_res, V_read): put those into config.json"
    elif adc.bits is not None and adc.range != "full_scale":
        wrong = f"adc.range '{adc.range}': its converters span the full scale of the array"
    elif hardware.dac_bits != 1:
        wrong = f"dac_bits {hardware.dac_bits}: it applies one bit at a time"
    elif hardware.mapping == "differential_column" and adc.placement != "differential":
        wrong = f"adc.placement '{adc.placement}': it converts the difference of a pair"
    elif hardware.fractional:
        wrong = "drift and means of programmed levels, which its integer modes do not have"
    if wrong is not None:
        raise ValueError(
            f"emit_c: analog-cim-sim cannot be told of {wrong}; emit for a machine without (hardware=, --hardware)"
        )


def simulated_layer(hardware: Hardware, layer: CompiledLayer, act_signed: bool) -> SimulatedLayer:
    """Keys of a layer.

    Raises:
        ValueError: If the cells of one output do not fit the columns of a crossbar; the simulator has them in one.
    """
    facts = mapping_facts(hardware)
    if hardware.mapping == _OFFSET:
        # Digits are those of w + 2^(W_BIT - 1); the top cell may hold fewer. +1 needs two bits.
        weight_bits = max(layer.weight_bits, 2)
        slices = max(layer.slices, -(-weight_bits // hardware.cell_bits))
        split = [weight_bits - (slices - 1) * hardware.cell_bits, *[hardware.cell_bits] * (slices - 1)]
        mode = "I_UINT_W_OFFS"
        shift = -act_range(layer.act_bits, True)[0] if act_signed else 0
    else:
        # A magnitude has any number of digits: full cells, so that a level is worth the same current in all of them.
        split = [hardware.cell_bits] * layer.slices
        weight_bits = sum(split)
        mode = "I_TC_W_DIFF" if act_signed else "I_UINT_W_DIFF"
        shift = 0
    columns = facts.column_polarities * len(split)
    outputs = hardware.cols // columns
    if outputs == 0:
        raise ValueError(
            f"emit_c: the {columns} cells of an output of layer '{layer.name}' must fit the columns of a crossbar, "
            f"which has {hardware.cols}"
        )
    config = {
        "M": outputs,
        "N": facts.inputs_per_tile,
        "m_mode": mode,
        "W_BIT": weight_bits,
        "I_BIT": layer.act_bits,
        "SPLIT": split,
    }
    return SimulatedLayer(config, shift)
