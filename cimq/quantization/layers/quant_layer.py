"""What every quantised layer computes, in training and in evaluation; `layer_scales` has its scales."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn.utils.parametrize import is_parametrized

from cimq import ops
from cimq.hardware import Hardware
from cimq.mapping import weight_range
from cimq.quantization.exact import exact_mode, operations
from cimq.quantization.exact.exact_mode import folded_norm, keep_apart
from cimq.quantization.layers.layer_scales import LayerScales
from cimq.quantization.layers.products import (
    fake_quantize_act,
    fold,
    integers_of_grid,
)
from cimq.quantization.quantisers.adc_ranges import (
    SMALLEST_STEP,
    check_adc_grad,
    learns_steps,
    needs_ranges,
    trained_step,
)
from cimq.quantization.quantisers.lsq_offset import fake_quantize_offset, zero_correction
from cimq.torch_tools.private_names import in_backward, without_modes

# Called instead of the quantised product: (layer, input, geometry, function of the fp32 product) -> output.
Observer = Callable[["QuantLayer", Tensor, dict[str, Any], Callable[[], Tensor]], Tensor]
# Sees every crossbar product: (layer, input, weight, machine, other arguments of the operator, result).
LayerProbe = Callable[["QuantLayer", Tensor, Tensor, Hardware, dict[str, Any], Tensor], None]

_TRAINING_CHIPS = 1 << 32


class QuantLayer(LayerScales):
    """What quantised layers have in common. Made by `prepare`, not by a constructor.

    Training: input and weight are fake-quantised (LSQ), then multiplied in floating point, or by the crossbar operator
    where the hardware changes the result. Evaluation: integers, as `convert` and the executor compute them.

    Attributes:
        layer_name: Name within the prepared model: the key in a policy.
        layer_index: Position in the policy order; tells layers apart in the noise.
        weight_bits: Bits of the weight, 1 to 8; set by `set_policy`.
        act_bits: Bits of the input, 1 to 8; set by `set_policy`.
        act_signed: Whether the input is quantised with a sign; None before `calibrate`.
        left_fp32: Calibration saw no call of this layer: it computes in fp32 and has no entry in the policy.
        hardware: The crossbar machine.
        training_hardware: The machine that training computes with; None: `hardware`.
        weight_scales: Parameter [8, O] (or [8, 1] per tensor): row w-1 is the scale of w bits; 0 where not made yet.
        act_scales: Parameter [8]: entry a-1 is the scale of a bits; 0 before `calibrate`.
        act_offsets: Parameter [8] with `prepare(..., act_offset=True)`, else None: entry a-1 rounds to the zero point z
            of a bits, x = act_scale * (q + z) with q unsigned; see cimq.quantization.quantisers.lsq_offset.
        adc_lsb: Parameter [8, 8, 8] where the converter's range is learned, else None: the step of each slice in level
            steps at w bits and a bits is entry (w-1, a-1); 0 before `calibrate`. With `adc.granularity` column
            [8, 8, slices of 8 bits, O].
        adc_grad: "identity" or "clip": whether gradients pass conversions that the range clips (docs/numbers.md).
        chip_seed: Seed of the cell variation of the evaluated chip.
    """

    bias: Any
    layer_index: int
    _products: int  # matrix-vector products per sample, seen in calibration; 0: not seen
    chip_seed: int
    _observer: Observer | None
    _probe: LayerProbe | None
    _intercepts: bool

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
        self.adc_grad = "identity"
        self._products = 0
        self.chip_seed = 0
        self._observer = None
        self._probe = None
        self._intercepts = intercepts
        self._make_scales(per_channel, act_offset)
        self.set_hardware(hardware, training_hardware)

    def _product(self, x: Tensor, weight: Tensor, bias: Tensor | None, call: dict[str, Any]) -> Tensor:
        """The quantised product in place of conv2d / linear; `call` has stride, padding, dilation, groups."""
        if isinstance(x, fx.Proxy):
            return x.tracer.quantised_product(self, x, call)
        if self._observer is not None:
            return self._observer(self, x, call, lambda: self._float_product(x, weight, bias, call))
        if self.left_fp32:
            keep_apart(self)
            return self._float_product(x, weight, bias, call)
        limits = self.act_limits()
        if not x.is_floating_point() or x.dtype == torch.float64:
            raise TypeError(f"layer {self.layer_name!r} takes float32 (or half precision in autocast), got {x.dtype}")
        if self.training:
            return self._training_product(x, weight, bias, call, limits, None)
        norm = folded_norm(self)
        with torch.no_grad(), torch.autocast(x.device.type, enabled=False):
            y = self._integer_product(x, weight, bias, call, norm)
        if not torch.is_grad_enabled():
            return y
        with without_modes():
            return exact_mode.with_gradient_of(y, self._training_product, x, weight, bias, call, limits, norm)

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
            y = self._lossless_product(x, x_scale, w_hat, w_scale.detach(), bias, call, limits)
        else:
            x_hat = self._input_on_grid(x, x_scale, limits)
            x_scale, w_scale = x_scale.detach(), w_scale.detach()
            column = w_scale.reshape((-1,) + (1,) * (weight.dim() - 1))
            with torch.autocast(x.device.type, enabled=False):
                x_int = integers_of_grid(x_hat.float(), x_scale)
                w_int = integers_of_grid(w_hat.float(), column)
                options = self._training_options(x, weight, call, x_scale * w_scale)
                y = self._shifted_integers(x_int, w_int, call, options)
                y = y * self._per_output(x_scale * w_scale.expand(weight.shape[0]), y)
                if bias is not None:
                    y = y + self._per_output(bias, y)
        if norm is not None:
            scale, shift = operations.affine_of(norm)
            y = operations.affine(y, scale, shift)
        return y

    def _input_on_grid(self, x: Tensor, x_scale: Tensor, limits: tuple[int, int]) -> Tensor:
        if self.act_offsets is None:
            return fake_quantize_act(x, x_scale, *limits)
        return fake_quantize_offset(x, x_scale, self.act_offsets[self.act_bits - 1], self.act_bits)

    def _lossless_product(
        self,
        x: Tensor,
        x_scale: Tensor,
        w_hat: Tensor,
        w_scale: Tensor,
        bias: Tensor | None,
        call: dict[str, Any],
        limits: tuple[int, int],
    ) -> Tensor:
        """The product of training where the crossbars add nothing to it; w_hat = w_scale times integers."""
        return self._float_product(self._input_on_grid(x, x_scale, limits), w_hat, bias, call)

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
            # A backward pass computes a checkpointed forward again, which must meet the same chip.
            if not in_backward():
                self.noise_step += 1
            seed = _TRAINING_CHIPS + int(self.noise_step) - 1
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
        """`_mvm_options` for the differentiable product; `unit` is what the integer 1 is worth in every output."""
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
        if self.left_fp32:
            return f"{super().extra_repr()}, fp32"
        sign = {None: "not calibrated", True: "signed", False: "unsigned"}[self.act_signed]
        return f"{super().extra_repr()}, weight_bits={self.weight_bits}, act_bits={self.act_bits} ({sign})"

    def __reduce_ex__(self, protocol: Any) -> Any:
        if is_parametrized(self):
            raise RuntimeError(
                f"layer {self.layer_name!r} has parametrizations, with which PyTorch does not pickle modules: save its "
                "state_dict, or call torch.nn.utils.parametrize.remove_parametrizations before"
            )
        made_by = type(self).__dict__.get("_made_by")
        return super().__reduce_ex__(protocol) if made_by is None else (*made_by, self.__getstate__())

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_observer": None, "_probe": None}
