"""Scales, bits, signs and converter ranges of a quantised layer: made, loaded, forgotten; and its integers."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from cimq.mapping import MAX_BITS, act_range
from cimq.policy_rows import AS_THE_MACHINE, LayerMachine
from cimq.quantization.layers.on_machine import OnMachine
from cimq.quantization.quantisers.cell_moments import weight_moments
from cimq.quantization.quantisers.kinds import calibrated_input, calibrated_weight, input_quantiser, weight_quantiser
from cimq.quantization.quantisers.lsq import Lsq
from cimq.quantization.quantisers.lsq_offset import zero_point
from cimq.quantization.quantisers.quantiser import Quantiser
from cimq.quantization.quantisers.scale_search import SMALLEST_SCALE
from cimq.torch_tools.recomputed import recompute

# What a quantised layer adds to the state_dict (some of it only on some machines).
_STATE = (
    "weight_scales", "act_scales", "act_offsets", "act_signed_state", "adc_lsb", "adc_ranges", "adc_machine",
    "noise_step",
)  # fmt: skip

# Values of act_signed_state beside 0 and 1.
_UNKNOWN, _LEFT_FP32 = 2, 3


class LayerScales(OnMachine):
    """What a quantised layer knows beside its weight; `QuantLayer` describes the attributes and computes with them."""

    _weight_title = "weight"  # in messages

    weight: Tensor
    bias: Any
    weight_scales: nn.Parameter
    act_offsets: nn.Parameter | None
    left_fp32: bool
    act_signed_state: Tensor  # uint8 []: 0 unsigned, 1 signed, 2 unknown, 3 left in fp32; in the state_dict
    _scaled_widths: set[int]  # changed in place: layers with a tied weight share it

    @property
    def weight_scale(self) -> Tensor:
        """Scale of every output channel at the present weight bits, [O]."""
        return self._weight_scale().expand(self.weight.shape[0])

    @property
    def act_scale(self) -> Tensor:
        """Scale of the input at the present activation bits, []."""
        return _scale_row(self.act_scales, self.act_bits)

    def _weight_scale(self) -> Tensor:
        """[O], or [1] per tensor."""
        return _scale_row(self.weight_scales, self.weight_bits)

    def input_quantiser(self) -> Quantiser:
        """The quantiser of the input at the present bits.

        Raises:
            ValueError: As `act_limits`.
        """
        self.act_limits()
        return input_quantiser(self.act_scale, self.act_bits, bool(self.act_signed), self._act_offset())

    def weight_quantiser(self) -> Lsq:
        """The quantiser of the weight at the present bits."""
        return weight_quantiser(self._weight_scale(), self.weight_bits)

    def _act_offset(self) -> Tensor | None:
        return None if self.act_offsets is None else self.act_offsets[self.act_bits - 1]

    def operands(self) -> tuple[Tensor, Tensor | None]:
        """Weight and bias of the product: of a layer with a forward of its own those that this computes."""
        bias: Tensor | None = self.bias
        return self.weight, bias

    def _make_scales(self, per_channel: bool, act_offset: bool) -> None:
        """Adds scales of all widths, none of them known yet."""
        self.act_signed = None
        self.left_fp32 = False
        self._adc_sample = None
        self._scaled_widths = set()
        rows, device, trained = self._weight_facts()
        zeros = functools.partial(torch.zeros, device=device, dtype=torch.float32)  # whatever the default dtype
        self.weight_scales = nn.Parameter(zeros(MAX_BITS, rows if per_channel else 1), trained)
        self.act_scales = nn.Parameter(zeros(MAX_BITS), trained)
        offsets = nn.Parameter(zeros(MAX_BITS), trained) if act_offset else None
        self.register_parameter("act_offsets", offsets)
        self.register_buffer("act_signed_state", torch.tensor(2, dtype=torch.uint8, device=device))

    def _weight_facts(self) -> tuple[int, torch.device, bool]:
        """Outputs, device, and whether it is trained."""
        weight = self.weight
        trained = weight.requires_grad
        if not isinstance(weight, nn.Parameter):  # computed from others: pruning masks, parametrizations
            trained = any(p.requires_grad for name, p in self.named_parameters() if name != "bias")
        return weight.shape[0], weight.device, trained

    def _range_outputs(self) -> int | None:
        """Outputs whose columns can have converter ranges of their own."""
        return self.weight.shape[0]

    def share_weight_scales(self, other: LayerScales) -> None:
        """Takes the scales of `other`, whose weight this layer has: one weight has one set of integers."""
        self.weight_scales = other.weight_scales
        self._scaled_widths = other._scaled_widths

    def set_bits(self, weight_bits: int, act_bits: int, machine: LayerMachine = AS_THE_MACHINE) -> None:
        """Switches to other bits, and what the layer chooses of its machine.

        The weight scale of a width that is new to this layer is searched now.
        """
        self._set_machine(machine)
        self.ensure_weight_scale(weight_bits)
        self.weight_bits = weight_bits
        self.act_bits = act_bits
        self.ensure_adc_range()

    @torch.no_grad()
    def ensure_weight_scale(self, bits: int) -> None:
        """Searches the best weight scale for the machine's cells, unless this width has one."""
        if bits in self._scaled_widths:
            return
        recompute(self)
        self._search_weight_scale(bits, self.operands()[0].reshape(self.weight_scales.shape[1], -1))

    def _search_weight_scale(self, bits: int, values: Tensor) -> None:
        moments = weight_moments(self._scales_hardware, bits)
        self.weight_scales[bits - 1].copy_(calibrated_weight(values, bits, moments).scale)
        self._scaled_widths.add(bits)

    @torch.no_grad()
    def calibrate_weight(self) -> None:
        """Searches the scales of all widths that have been used anew, for the present machine."""
        self.note_scales_machine()
        widths = set(self._scaled_widths) | {self.weight_bits}
        self._scaled_widths.clear()
        for bits in sorted(widths):
            self.ensure_weight_scale(bits)
        self._scaled_widths.update(widths)

    @torch.no_grad()
    def calibrate_input(self, values: Tensor, signed: bool, method: str) -> None:
        """Scales of all widths for a sample [1, n] of the input, with both ends of its range in it."""
        has_offset = self.act_offsets is not None
        found = [calibrated_input(values, bits, signed, has_offset, method) for bits in range(1, MAX_BITS + 1)]
        zeros = torch.stack([q.zero for q in found if q.zero is not None]) if has_offset else None
        self.set_act_scales(torch.stack([q.scale for q in found]), signed and not has_offset, zeros)

    @torch.no_grad()
    def set_act_scales(self, scales: Tensor, signed: bool, offsets: Tensor | None = None) -> None:
        """Scales of all widths, float [8], whether the input has a sign, and zero points [8] where it has those."""
        self.act_scales.copy_(scales.reshape(MAX_BITS))
        if self.act_offsets is not None and offsets is not None:
            self.act_offsets.copy_(offsets.reshape(MAX_BITS))
        self._set_act_signed(signed)

    def _set_act_signed(self, signed: bool | None) -> None:
        self.act_signed = signed
        self.left_fp32 = False
        self.act_signed_state.fill_(_UNKNOWN if signed is None else int(signed))

    def leave_fp32(self) -> None:
        """The layer computes in fp32, and is none of the quantised layers, until it is calibrated."""
        self.act_signed = None
        self.left_fp32 = True
        self.act_signed_state.fill_(_LEFT_FP32)

    @property
    def act_zero(self) -> Tensor | None:
        """Zero point z of the input at the present bits, int32 []; None for a layer without offsets."""
        offset = self._act_offset()
        return None if offset is None else zero_point(offset, self.act_bits)

    @torch.no_grad()
    def quantize_input(self, x: Tensor) -> Tensor:
        """The integers that the crossbar gets, uint8 or int8.

        Raises:
            ValueError: Before calibration, and for values that are not finite; names the layer.
        """
        quantiser = self.input_quantiser()
        try:
            return quantiser.integers(x)
        except ValueError as error:
            raise ValueError(f"layer {self.layer_name!r}: {error}") from None

    def act_limits(self) -> tuple[int, int]:
        """Smallest and largest integer that the crossbar gets.

        Raises:
            ValueError: Before calibration, and for scales that are not float32.
        """
        if self.act_scales.dtype != torch.float32:
            raise ValueError(
                f"layer {self.layer_name!r} has scales in {self.act_scales.dtype}; a prepared model stays float32: "
                "instead of half(), double() or to(dtype) use torch.autocast, or finetune(..., amp=...)"
            )
        if self.act_signed is None:
            raise ValueError(
                f"layer {self.layer_name!r} has no activation scale yet; call cimq.calibrate(model, loader) first"
            )
        return act_range(self.act_bits, self.act_signed)

    def missed(self, missing: list[str], state_dict: Mapping[str, Any], prefix: str) -> list[str]:
        """A state without any scales is that of an fp32 model, which has all that it should."""
        own = [prefix + key for key in _STATE]
        given = any(key in state_dict for key in own)
        return [key for key in super().missed(missing, state_dict, prefix) if key not in own or given]

    @torch.no_grad()
    def was_read(self, state_dict: Mapping[str, Any], prefix: str) -> None:
        """Takes up what the scales say, or forgets them where there are other weights without any."""
        super().was_read(state_dict, prefix)
        self._check_ranges_read(state_dict, prefix)
        if any(prefix + key in state_dict for key in _STATE):
            state = int(self.act_signed_state)
            self.act_signed = bool(state) if state < _UNKNOWN else None
            self.left_fp32 = state == _LEFT_FP32
            self._scaled_widths.clear()
            # Rows of widths that have no scales are 0; training may drive single scales to 0 or below.
            self._scaled_widths.update(b + 1 for b, row in enumerate(self.weight_scales) if bool((row != 0).any()))
        elif any(key.startswith(prefix) and "weight" in key for key in state_dict):
            self.forget_scales()
        self.ensure_weight_scale(self.weight_bits)

    @torch.no_grad()
    def forget_scales(self) -> None:
        """For other weights about whose scales nothing is known: they are searched anew, calibration is asked for."""
        self._scaled_widths.clear()
        self.weight_scales.zero_()
        self.act_scales.zero_()
        if self.act_offsets is not None:
            self.act_offsets.zero_()
        self._set_act_signed(None)
        self._adc_sample = None
        self.forget_adc_ranges()

    @torch.no_grad()
    def integer_weight(self, weight: Tensor | None = None) -> Tensor:
        """The weight as int8, in the layout of `weight`."""
        weight = self.operands()[0] if weight is None else weight
        try:
            return self.weight_quantiser().integers(weight)
        except ValueError as error:
            raise ValueError(f"layer {self.layer_name!r}, {self._weight_title}: {error}") from None


def _scale_row(scales: Tensor, bits: int) -> Tensor:
    """max(scales[bits - 1], smallest) with the gradient of the row alone: what training drove to zero can come back."""
    row: Tensor = torch.ops.cimq.scale_row(scales, bits - 1, SMALLEST_SCALE)
    return row
