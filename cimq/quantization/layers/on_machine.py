"""The machine of a quantised layer, and its converters' ranges where those come from data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cimq.hardware import Hardware
from cimq.layer_machine import layer_hardware, training_layer_hardware
from cimq.policy_rows import AS_THE_MACHINE, MAPPINGS, LayerMachine
from cimq.quantization.quantisers.adc_ranges import (
    AdcSample,
    check_same_ranges,
    empty_ranges,
    empty_steps,
    find_range,
    learns_steps,
    needs_ranges,
    range_shape,
)
from cimq.torch_tools.host_values import ReadOnHost, on_host


class OnMachine(ReadOnHost):
    """What a quantised layer knows of its machine; `LayerScales` has the scales that ranges are found with.

    Attributes:
        network_hardware: The machine of the network.
        layer_machine: What this layer has otherwise.
        hardware: Both together: what it computes with.
        training_hardware: The same of the machine that training computes with; None: `hardware`.
    """

    layer_name: str
    weight_bits: int
    act_bits: int
    act_signed: bool | None
    act_scales: nn.Parameter
    network_hardware: Hardware
    layer_machine: LayerMachine = AS_THE_MACHINE
    hardware: Hardware
    training_hardware: Hardware | None
    adc_lsb: nn.Parameter | None
    adc_ranges: Tensor  # see adc_ranges.empty_ranges; in the state_dict where the range comes from data
    adc_machine: Tensor  # int64 [2]: what layer_machine the ranges are for; in the state_dict where one is chosen
    noise_step: Tensor  # int64 []: training steps on chips of their own; in the state_dict where cells vary
    _network_training_hardware: Hardware | None
    _scales_hardware: Hardware  # what new weight scales are searched for
    _adc_sample: AdcSample | None
    # Ranges and steps of other choices. Each belongs to its converters and cells: none serves another.
    _other_ranges: dict[LayerMachine, tuple[Tensor, nn.Parameter | None]]

    def set_hardware(
        self, hardware: Hardware, training_hardware: Hardware | None = None, machine: LayerMachine | None = None
    ) -> None:
        """Moves the layer to another machine; converter ranges that come from data are worked out anew.

        Args:
            hardware: The machine of the network.
            training_hardware: What training computes with instead.
            machine: What the layer chooses of it; None: as before.

        Raises:
            ValueError: For a training machine whose converter's range comes from data and differs, and for a choice
                that the machine cannot have.
        """
        self._take_machines(hardware, training_hardware, self.layer_machine if machine is None else machine)
        self.note_scales_machine()
        varies = any(machine is not None and machine.varies for machine in (self.hardware, self.training_hardware))
        noise_step = torch.zeros((), dtype=torch.int64, device=self.act_scales.device) if varies else None
        self.register_buffer("noise_step", noise_step)
        self._other_ranges = {}
        self._make_ranges()
        if hasattr(self, "weight_bits"):
            self.ensure_adc_range()

    def check_machine(self, machine: LayerMachine) -> None:
        """Refuses a choice that the layer's machine cannot have.

        Raises:
            ValueError: Naming the layer.
        """
        layer_hardware(self.network_hardware, machine, self.layer_name)

    def note_scales_machine(self) -> None:
        """From now on weight scales are searched for the present machine.

        Not for the one at the time of every search: what a policy finds would depend on those that came before it.
        """
        self._scales_hardware = self.training_hardware or self.hardware

    def _set_machine(self, machine: LayerMachine) -> None:
        """Another choice on the same machine; ranges and steps found for it before are there again."""
        if machine == self.layer_machine:
            return
        before = self.layer_machine
        self._take_machines(self.network_hardware, self._network_training_hardware, machine)
        if needs_ranges(self.hardware):
            self._other_ranges[before] = (self.adc_ranges, self.adc_lsb)
            self._make_ranges(self._other_ranges.pop(machine, None))

    def _take_machines(self, hardware: Hardware, training: Hardware | None, machine: LayerMachine) -> None:
        own = layer_hardware(hardware, machine, self.layer_name)
        own_training = None if training is None else training_layer_hardware(training, machine, self.layer_name)
        if own_training is not None:
            check_same_ranges(own, own_training)
        self.network_hardware, self._network_training_hardware, self.layer_machine = hardware, training, machine
        self.hardware, self.training_hardware = own, own_training

    def _make_ranges(self, known: tuple[Tensor, nn.Parameter | None] | None = None) -> None:
        """Ranges and steps of the present machine: those that are known, else empty ones."""
        device, trained = self.act_scales.device, self.act_scales.requires_grad
        ranges: Tensor | None = None
        steps: nn.Parameter | None = None
        if known is not None:
            ranges, steps = known[0].to(device), known[1]
            if steps is not None:
                steps.data = steps.data.to(device)
        elif needs_ranges(self.hardware):
            shape = range_shape(self.hardware, self._range_outputs())
            ranges = empty_ranges(device, shape)
            steps = nn.Parameter(empty_steps(device, shape), trained) if learns_steps(self.hardware) else None
        chosen = needs_ranges(self.hardware) and self.layer_machine != AS_THE_MACHINE
        self.register_parameter("adc_lsb", steps)
        self.register_buffer("adc_ranges", ranges)
        self.register_buffer("adc_machine", self._machine_code().to(device) if chosen else None)

    def _machine_code(self) -> Tensor:
        adc_bits, mapping = self.layer_machine
        return torch.tensor([adc_bits or 0, -1 if mapping is None else MAPPINGS.index(mapping)])

    def _check_ranges_read(self, state_dict: Mapping[str, Any], prefix: str) -> None:
        """Refuses ranges that were read and are those of another choice."""
        self._other_ranges.clear()  # of the scales of before
        if prefix + "adc_ranges" not in state_dict or not needs_ranges(self.hardware):
            return
        adc_bits, mapping = (int(value) for value in state_dict.get(prefix + "adc_machine", (0, -1)))
        read = LayerMachine(adc_bits or None, None if mapping < 0 else MAPPINGS[mapping])
        if read == self.layer_machine:
            return
        self._make_ranges()
        raise ValueError(
            f"layer {self.layer_name!r}: the converter ranges of this state are for {read}, and the layer has "
            f"{self.layer_machine}; call cimq.set_policy with the policy of the state before"
        )

    @torch.no_grad()
    def ensure_adc_range(self) -> None:
        """Finds the converter's range for the present bits, where it comes from data and the data are there."""
        if not needs_ranges(self.hardware) or self._adc_sample is None or self.act_signed is None:
            return
        entry = self.adc_ranges[self.weight_bits - 1, self.act_bits - 1]
        if float(on_host(self.adc_ranges)[self.weight_bits - 1, self.act_bits - 1, 1].flatten()[0]) > 0:
            return
        bits = (self.weight_bits, self.act_bits, bool(self.act_signed))
        x_q, w_q, call = self._range_operands(self._adc_sample)
        method = self._adc_sample.method
        entry.copy_(find_range(x_q, w_q, self.hardware, *bits, call, method, tuple(entry.shape[1:])))
        if self.adc_lsb is not None:
            self.adc_lsb[self.weight_bits - 1, self.act_bits - 1].copy_(entry[1])

    def forget_other_ranges(self) -> None:
        """Finds the ranges of other choices than the present one anew when they are asked for; learned steps stay."""
        if self.adc_lsb is None:
            self._other_ranges.clear()

    @torch.no_grad()
    def forget_adc_ranges(self) -> None:
        """Marks all converter ranges as not calibrated."""
        self._other_ranges.clear()
        if needs_ranges(self.hardware):
            self.adc_ranges.zero_()

    def _range_operands(self, sample: AdcSample) -> tuple[Tensor, Tensor, dict[str, Any]]:
        """Integers of a sample, those of the weight, and the geometry, as `ops.calibrate_adc` takes them."""
        x_q, call, zero = self.quantize_input(sample.x.to(self.act_scales.device)), sample.call, self.act_zero
        if zero is not None and "padding" in call:  # the number 0 is the integer -zero
            left_right = call["padding"][: 2 * (x_q.dim() - 2)]
            x_q, call = F.pad(x_q, left_right, value=-int(zero)), {**call, "padding": (0, 0, 0, 0)}
        return x_q, self.integer_weight(), call

    def _range_outputs(self) -> int | None:
        """Outputs whose columns can have converter ranges of their own."""
        raise NotImplementedError

    @property
    def act_zero(self) -> Tensor | None:
        """Zero point of the input at the present bits."""
        raise NotImplementedError

    def quantize_input(self, x: Tensor) -> Tensor:
        """The integers that the crossbar gets."""
        raise NotImplementedError

    def integer_weight(self, weight: Tensor | None = None) -> Tensor:
        """The weight as integers."""
        raise NotImplementedError
