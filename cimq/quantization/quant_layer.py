"""What every quantised layer has: scales, bits, signs, and the two computations (training, evaluation)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from cimq import ops
from cimq.hardware import Hardware
from cimq.quantization import exact
from cimq.quantization.adc_ranges import (
    SMALLEST_STEP,
    AdcSample,
    check_adc_grad,
    check_same_ranges,
    empty_ranges,
    empty_steps,
    find_range,
    learns_steps,
    needs_ranges,
    trained_step,
)
from cimq.quantization.cell_moments import weight_moments
from cimq.quantization.exact import folded_norm
from cimq.quantization.offsets import fake_quantize_offset, quantize_offset, zero_correction, zero_point
from cimq.quantization.products import (
    fake_quantize_act,
    fold,
    integers_of_grid,
    quantize_act,
)
from cimq.quantization.quantizers import MAX_BITS, SMALLEST_SCALE, act_range, mse_scales, weight_range

# Called instead of the quantised product: (layer, input, geometry, function of the fp32 product) -> output.
Observer = Callable[["QuantLayer", Tensor, dict[str, Any], Callable[[], Tensor]], Tensor]
# Sees every crossbar product: (layer, input, weight, machine, other arguments of the operator, result).
LayerProbe = Callable[["QuantLayer", Tensor, Tensor, Hardware, dict[str, Any], Tensor], None]


_TRAINING_CHIPS = 1 << 32
# What a quantised layer adds to the state_dict (some of it only on some machines).
_STATE = ("weight_scales", "act_scales", "act_offsets", "act_signed_state", "adc_lsb", "adc_ranges", "noise_step")


class QuantLayer(nn.Module):
    """What quantised layers have in common. Made by `prepare`, not by a constructor.

    Training: input and weight are fake-quantised (LSQ), then multiplied in floating point, or by the crossbar operator
    where the hardware changes the result. Evaluation: integers, as `convert` and the executor compute them.

    Attributes:
        layer_name: Name within the prepared model: the key in a policy.
        layer_index: Position in the policy order; tells layers apart in the noise.
        weight_bits: Bits of the weight, 1 to 8; set by `set_policy`.
        act_bits: Bits of the input, 1 to 8; set by `set_policy`.
        act_signed: Whether the input is quantised with a sign; None before `calibrate`.
        hardware: The crossbar machine.
        training_hardware: The machine that training computes with; None: `hardware`.
        weight_scales: Parameter [8, O] (or [8, 1] per tensor): row w-1 is the scale of w bits; 0 where not made yet.
        act_scales: Parameter [8]: entry a-1 is the scale of a bits; 0 before `calibrate`.
        act_offsets: Parameter [8] with `prepare(..., act_offset=True)`, else None: entry a-1 rounds to the zero point z
            of a bits, x = act_scale * (q + z) with q unsigned; see cimq.quantization.offsets.
        adc_lsb: Parameter [8, 8, 8] where the converter's range is learned, else None: the step of each slice in level
            steps at w bits and a bits is entry (w-1, a-1); 0 before `calibrate`.
        adc_grad: "identity" or "clip": whether gradients pass conversions that the range clips (docs/numbers.md).
        chip_seed: Seed of the cell variation of the evaluated chip.
    """

    weight: Tensor
    bias: Any
    layer_name: str
    layer_index: int
    weight_bits: int
    act_bits: int
    act_signed: bool | None
    hardware: Hardware
    training_hardware: Hardware | None
    weight_scales: nn.Parameter
    act_scales: nn.Parameter
    act_offsets: nn.Parameter | None
    act_signed_state: Tensor  # uint8 []: 0 unsigned, 1 signed, 2 unknown; in the state_dict
    adc_lsb: nn.Parameter | None
    adc_ranges: Tensor  # see adc_ranges.empty_ranges; in the state_dict where the converter's range comes from data
    noise_step: Tensor  # int64 []: training steps on chips of their own; in the state_dict where cells vary
    _adc_sample: AdcSample | None
    _products: int  # matrix-vector products per sample, seen in calibration; 0: not seen
    chip_seed: int
    _observer: Observer | None
    _probe: LayerProbe | None
    _scaled_widths: set[int]  # changed in place: layers with a tied weight share it
    _intercepts: bool

    @property
    def weight_scale(self) -> Tensor:
        """Scale of every output channel at the present weight bits, [O]."""
        return self._weight_scale().expand(self.weight.shape[0])

    @property
    def act_scale(self) -> Tensor:
        """Scale of the input at the present activation bits, []."""
        return _ScaleFloor.apply(self.act_scales[self.act_bits - 1])  # type: ignore[no-untyped-call,no-any-return]

    def _weight_scale(self) -> Tensor:
        """[O], or [1] per tensor."""
        return _ScaleFloor.apply(self.weight_scales[self.weight_bits - 1])  # type: ignore[no-untyped-call,no-any-return]

    # ---- set-up ----

    def _attach(
        self,
        name: str,
        index: int,
        hardware: Hardware,
        per_channel: bool,
        intercepts: bool = False,
        act_offset: bool = False,
        training_hardware: Hardware | None = None,
    ) -> None:
        """Adds what a quantised layer has to a module that so far is an ordinary layer."""
        self.layer_name = name
        self.layer_index = index
        self.act_signed = None
        self.adc_grad = "identity"
        self._adc_sample = None
        self._products = 0
        self.chip_seed = 0
        self._observer = None
        self._probe = None
        self._scaled_widths = set()
        self._intercepts = intercepts
        rows, device, trained = self._weight_facts()
        self.weight_scales = nn.Parameter(torch.zeros(MAX_BITS, rows if per_channel else 1, device=device), trained)
        self.act_scales = nn.Parameter(torch.zeros(MAX_BITS, device=device), trained)
        offsets = nn.Parameter(torch.zeros(MAX_BITS, device=device), trained) if act_offset else None
        self.register_parameter("act_offsets", offsets)
        self.register_buffer("act_signed_state", torch.tensor(2, dtype=torch.uint8, device=device))
        self.set_hardware(hardware, training_hardware)

    def _weight_facts(self) -> tuple[int, torch.device, bool]:
        """Outputs, device, and whether it is trained."""
        return self.weight.shape[0], self.weight.device, self.weight.requires_grad

    def share_weight_scales(self, other: QuantLayer) -> None:
        """Takes the scales of `other`, whose weight this layer has: one weight has one set of integers."""
        self.weight_scales = other.weight_scales
        self._scaled_widths = other._scaled_widths

    def set_hardware(self, hardware: Hardware, training_hardware: Hardware | None = None) -> None:
        """Moves the layer to another machine; converter ranges that come from data are worked out anew.

        Raises:
            ValueError: For a training machine whose converter's range comes from data and differs.
        """
        if training_hardware is not None:
            check_same_ranges(hardware, training_hardware)
        self.hardware = hardware
        self.training_hardware = training_hardware
        device, trained = self.act_scales.device, self.act_scales.requires_grad
        ranges = empty_ranges(device) if needs_ranges(hardware) else None
        varies = any(machine is not None and machine.varies for machine in (hardware, training_hardware))
        noise_step = torch.zeros((), dtype=torch.int64, device=device) if varies else None
        steps = nn.Parameter(empty_steps(device), trained) if learns_steps(hardware) else None
        self.register_parameter("adc_lsb", steps)
        self.register_buffer("adc_ranges", ranges)
        self.register_buffer("noise_step", noise_step)
        if hasattr(self, "weight_bits"):
            self.ensure_adc_range()

    def set_bits(self, weight_bits: int, act_bits: int) -> None:
        """Switches to other bits; the weight scale of a width that is new to this layer is searched now."""
        self.ensure_weight_scale(weight_bits)
        self.weight_bits = weight_bits
        self.act_bits = act_bits
        self.ensure_adc_range()

    @torch.no_grad()
    def ensure_adc_range(self) -> None:
        """Finds the converter's range for the present bits, where it comes from data and the data are there."""
        if not needs_ranges(self.hardware) or self._adc_sample is None or self.act_signed is None:
            return
        entry = self.adc_ranges[self.weight_bits - 1, self.act_bits - 1]
        if float(entry[1, 0]) > 0:
            return
        bits = (self.weight_bits, self.act_bits, bool(self.act_signed))
        x_q, w_q, call = self._range_operands(self._adc_sample)
        entry.copy_(find_range(x_q, w_q, self.hardware, *bits, call, self._adc_sample.method))
        if self.adc_lsb is not None:
            self.adc_lsb[self.weight_bits - 1, self.act_bits - 1].copy_(entry[1])

    @torch.no_grad()
    def forget_adc_ranges(self) -> None:
        """Marks all converter ranges as not calibrated."""
        if needs_ranges(self.hardware):
            self.adc_ranges.zero_()

    def _range_operands(self, sample: AdcSample) -> tuple[Tensor, Tensor, dict[str, Any]]:
        """Integers of a sample, those of the weight, and the geometry, as `ops.calibrate_adc` takes them."""
        x_q, call, zero = self.quantize_input(sample.x.to(self.act_scales.device)), sample.call, self.act_zero
        if zero is not None and "padding" in call:  # the number 0 is the integer -zero
            left_right = call["padding"][: 2 * (x_q.dim() - 2)]
            x_q, call = F.pad(x_q, left_right, value=-int(zero)), {**call, "padding": (0, 0, 0, 0)}
        return x_q, self.integer_weight(), call

    @torch.no_grad()
    def ensure_weight_scale(self, bits: int, *, again: bool = False) -> None:
        """Searches the best weight scale for the machine's cells, unless this width has one (or `again`)."""
        if bits in self._scaled_widths and not again:
            return
        rows = self.weight_scales.shape[1]
        moments = weight_moments(self.training_hardware or self.hardware, bits)
        found = mse_scales(self.weight.reshape(rows, -1), *weight_range(bits), binary=bits == 1, moments=moments)
        self.weight_scales[bits - 1].copy_(found)
        self._scaled_widths.add(bits)

    @torch.no_grad()
    def set_act_scales(self, scales: Tensor, signed: bool, offsets: Tensor | None = None) -> None:
        """Scales of all widths, float [8], whether the input has a sign, and zero points [8] where it has those."""
        self.act_scales.copy_(scales.reshape(MAX_BITS))
        if self.act_offsets is not None and offsets is not None:
            self.act_offsets.copy_(offsets.reshape(MAX_BITS))
        self._set_act_signed(signed)

    def _set_act_signed(self, signed: bool | None) -> None:
        self.act_signed = signed
        self.act_signed_state.fill_(2 if signed is None else int(signed))

    @property
    def act_zero(self) -> Tensor | None:
        """Zero point z of the input at the present bits, int32 []; None for a layer without offsets."""
        return None if self.act_offsets is None else zero_point(self.act_offsets[self.act_bits - 1], self.act_bits)

    @torch.no_grad()
    def quantize_input(self, x: Tensor) -> Tensor:
        """The integers that the crossbar gets, uint8 or int8.

        Raises:
            ValueError: Before calibration, and for values that are not finite; names the layer.
        """
        limits, zero = self.act_limits(), self.act_zero
        try:
            if zero is not None:
                return quantize_offset(x, self.act_scale, zero, self.act_bits)
            return quantize_act(x, self.act_scale, *limits)
        except ValueError as error:
            raise ValueError(f"layer {self.layer_name!r}: {error}") from None

    def act_limits(self) -> tuple[int, int]:
        """Smallest and largest integer that the crossbar gets.

        Raises:
            ValueError: Before calibration.
        """
        if self.act_signed is None:
            raise ValueError(
                f"layer {self.layer_name!r} has no activation scale yet; call cimq.calibrate(model, loader) first"
            )
        return act_range(self.act_bits, self.act_signed)

    def _load_from_state_dict(
        self,
        state_dict: Any,
        prefix: str,
        local_metadata: Any,
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        own = [prefix + key for key in _STATE]
        given = [key for key in own if key in state_dict]
        missing: list[str] = []
        super()._load_from_state_dict(state_dict, prefix, local_metadata, strict, missing, unexpected_keys, error_msgs)
        missing_keys.extend(key for key in missing if key not in own or given)
        with torch.no_grad():
            if given:
                state = int(self.act_signed_state)
                self.act_signed = None if state == 2 else bool(state)
                self._scaled_widths.clear()
                self._scaled_widths.update(b + 1 for b, row in enumerate(self.weight_scales) if bool((row > 0).all()))
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

    # ---- computation ----

    def _product(self, x: Tensor, weight: Tensor, bias: Tensor | None, call: dict[str, Any]) -> Tensor:
        """The quantised product in place of conv2d / linear; `call` has stride, padding, dilation, groups."""
        if isinstance(x, fx.Proxy):
            return x.tracer.quantised_product(self, x, call)
        if self._observer is not None:
            return self._observer(self, x, call, lambda: self._float_product(x, weight, bias, call))
        limits = self.act_limits()
        if self.training:
            return self._training_product(x, weight, bias, call, limits, None)
        norm = folded_norm(self)
        with torch.no_grad(), torch.autocast(x.device.type, enabled=False):
            y = self._integer_product(x, weight, bias, call, norm)
        if not torch.is_grad_enabled():
            return y
        with torch._C.DisableTorchFunction():
            return exact.with_gradient_of(y, self._training_product, x, weight, bias, call, limits, norm)

    def _float_product(self, x: Tensor, weight: Tensor, bias: Tensor | None, call: dict[str, Any]) -> Tensor:
        raise NotImplementedError

    def _integers(
        self, x: Tensor, weight: Tensor, call: dict[str, Any], options: dict[str, Any]
    ) -> Tensor:  # pragma: no cover
        raise NotImplementedError

    def _training_product(
        self,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        call: dict[str, Any],
        limits: tuple[int, int],
        norm: nn.Module | None,
    ) -> Tensor:
        per_tensor = self.weight_scales.shape[1] == 1
        w_scale, x_scale = self._weight_scale(), self.act_scale
        if self.act_offsets is None:
            x_hat = fake_quantize_act(x, x_scale, *limits)
        else:
            x_hat = fake_quantize_offset(x, x_scale, self.act_offsets[self.act_bits - 1], self.act_bits)
        low, high = weight_range(self.weight_bits)
        w_hat = ops.fake_quantize(
            weight,
            w_scale.reshape(()) if per_tensor else w_scale,
            low,
            high,
            axis=None if per_tensor else 0,
            binary=self.weight_bits == 1,
        )
        if self._machine().lossless:
            y = self._float_product(x_hat, w_hat, bias, call)
        else:
            x_scale, w_scale = x_scale.detach(), w_scale.detach()
            column = w_scale.reshape((-1,) + (1,) * (weight.dim() - 1))
            with torch.autocast(x.device.type, enabled=False):
                x_int = integers_of_grid(x_hat.float(), x_scale)
                w_int = integers_of_grid(w_hat.float(), column)
                options = self._training_options(x, weight, call, x_scale * w_scale.mean())
                y = self._shifted_integers(x_int, w_int, call, options)
                y = y * self._per_output(x_scale * w_scale.expand(weight.shape[0]), y)
                if bias is not None:
                    y = y + self._per_output(bias, y)
        if norm is not None:
            scale, shift = exact.norm_affine(norm.running_mean, norm.running_var, norm.weight, norm.bias, norm.eps)  # type: ignore[arg-type]
            y = exact.affine(y, scale, shift)
        return y

    def _integer_product(
        self,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        call: dict[str, Any],
        norm: nn.Module | None,
    ) -> Tensor:
        multiplier, shift = fold(self.act_scale, self.weight_scale, bias, norm)
        x_q, w_q, zero = self.quantize_input(x), self.integer_weight(weight), self.act_zero
        if zero is None:
            y = self._integers(x_q, w_q, call, self._mvm_options())
        else:
            y = self._integers(x_q, w_q, {**call, "zero": int(zero)}, self._mvm_options())
            y = y + self._per_output(zero_correction(w_q, zero), y).to(y.dtype)
        return y.float() * self._per_output(multiplier, y) + self._per_output(shift, y)

    def _shifted_integers(self, x: Tensor, weight: Tensor, call: dict[str, Any], options: dict[str, Any]) -> Tensor:
        """The crossbar product of integers x and weight; with a zero point z that of x - z, and z * sum(weight)."""
        zero = self.act_zero
        if zero is None:
            return self._integers(x, weight, call, options)
        y = self._integers(x - zero, weight, {**call, "zero": int(zero)}, options)
        return y + self._per_output(zero * weight.flatten(1).sum(1), y)

    @torch.no_grad()
    def integer_weight(self, weight: Tensor | None = None) -> Tensor:
        """The weight as int8, in the layout of `weight`."""
        weight = self.weight if weight is None else weight
        low, high = weight_range(self.weight_bits)
        try:
            return ops.quantize(weight.float(), self.weight_scale, low, high, axis=0, binary=self.weight_bits == 1)
        except ValueError as error:
            raise ValueError(f"layer {self.layer_name!r}, weight: {error}") from None

    def _machine(self) -> Hardware:
        """The machine of the computation that runs now."""
        return self.training_hardware if self.training and self.training_hardware is not None else self.hardware

    def _mvm_options(self) -> dict[str, Any]:
        lo, lsb, seed = None, None, self.chip_seed
        machine = self._machine()
        if needs_ranges(machine):
            entry = self.adc_ranges[self.weight_bits - 1, self.act_bits - 1]
            slices = machine.weight_slices(self.weight_bits)
            lo, lsb = entry[0, :slices].to(torch.int32), entry[1, :slices].clone()
            if bool((lsb > 0).all()):
                if self.adc_lsb is not None:
                    learned = self.adc_lsb[self.weight_bits - 1, self.act_bits - 1, :slices]
                    lsb = learned.detach().clamp_min(SMALLEST_STEP)
            else:
                raise ValueError(
                    f"layer {self.layer_name!r} has no converter range for W{self.weight_bits}A{self.act_bits}; "
                    "call cimq.calibrate(model, loader) first"
                )
        if self.training and machine.varies:
            # A fresh chip in every step, never one of those that evaluation counts from 0.
            seed = _TRAINING_CHIPS + int(self.noise_step)
            self.noise_step += 1
        options = {
            "hardware": machine,
            "weight_bits": self.weight_bits,
            "act_bits": self.act_bits,
            "act_signed": bool(self.act_signed),
            "seed": seed,
            "layer": self.layer_index,
            "adc_lo": lo,
            "adc_lsb": lsb,
        }
        return options if self._probe is None else options | {"probe": partial(self._probe, self)}

    def _training_options(self, x: Tensor, weight: Tensor, call: dict[str, Any], unit: Tensor) -> dict[str, Any]:
        """`_mvm_options` for the differentiable product; `unit` is what the integer 1 is worth in its output."""
        options = self._mvm_options() | {"adc_grad": check_adc_grad(self.adc_grad)}
        machine = self._machine()
        if self.adc_lsb is not None and learns_steps(machine):
            bits = (self.weight_bits, self.act_bits)
            step = self.adc_lsb[bits[0] - 1, bits[1] - 1, : machine.weight_slices(bits[0])]
            options["adc_lsb"] = trained_step(step, machine, *bits, x, weight, call, unit)
        return options

    def _per_output(self, values: Tensor, y: Tensor) -> Tensor:
        raise NotImplementedError

    def extra_repr(self) -> str:
        """Adds the bits to what the layer prints."""
        sign = {None: "not calibrated", True: "signed", False: "unsigned"}[self.act_signed]
        return f"{super().extra_repr()}, weight_bits={self.weight_bits}, act_bits={self.act_bits} ({sign})"

    def __reduce_ex__(self, protocol: Any) -> Any:
        # Classes made for subclasses of nn.Conv2d and nn.Linear have no importable name: rebuild them from their base.
        from cimq.quantization.layers import new_instance

        base = type(self).__dict__.get("_quantised_class")
        return super().__reduce_ex__(protocol) if base is None else (new_instance, (base,), self.__getstate__())

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_observer": None, "_probe": None}


class _ScaleFloor(torch.autograd.Function):
    """max(scale, smallest) with the gradient of the identity: a scale that training drove to zero can come back."""

    @staticmethod
    def forward(ctx: Any, scale: Tensor) -> Tensor:
        return scale.clamp_min(SMALLEST_SCALE)

    @staticmethod
    def backward(ctx: Any, *grad: Any) -> Any:
        return grad[0]
