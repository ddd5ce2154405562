"""What every quantised layer computes, in training and in evaluation; `layer_scales` has its scales."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn.utils.parametrize import is_parametrized

from cimq.hardware import Hardware
from cimq.policy_rows import AS_THE_MACHINE, LayerMachine
from cimq.quantization.exact import exact_mode, operations
from cimq.quantization.exact.exact_mode import folded_norm, keep_apart
from cimq.quantization.layers.layer_scales import LayerScales
from cimq.quantization.layers.products import crossbar_options, fold, scaled, zero_correction
from cimq.quantization.quantisers.adc_ranges import (
    SMALLEST_STEP,
    check_adc_grad,
    learns_steps,
    needs_ranges,
    trained_step,
)
from cimq.quantization.quantisers.lsq import Lsq
from cimq.quantization.quantisers.quantiser import Quantiser, integers_of_grid
from cimq.torch_tools.devices import without_autocast
from cimq.torch_tools.host_values import note_on_host, on_host
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
        network_hardware: The crossbar machine of the network.
        layer_machine: What the layer has otherwise (a `cimq.policy.LayerMachine`); set by `set_policy`.
        hardware: Both together: the machine that the layer computes with.
        training_hardware: The machine that training computes with, with the same choice; None: `hardware`.
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
    _first_input = 1  # dimension of a weight from which on it counts the inputs of an output

    def _attach(
        self,
        name: str,
        index: int,
        hardware: Hardware,
        per_channel: bool,
        intercepts: bool = False,
        act_offset: bool = False,
        training_hardware: Hardware | None = None,
        machine: LayerMachine = AS_THE_MACHINE,
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
        self.set_hardware(hardware, training_hardware, machine)

    def _product(self, x: Tensor, weight: Tensor, bias: Tensor | None, call: dict[str, Any]) -> Tensor:
        """The quantised product in place of conv2d / linear; `call` has stride, padding, dilation, groups."""
        if isinstance(x, fx.Proxy):
            return x.tracer.quantised_product(self, x, call)
        if self._observer is not None:
            return self._observer(self, x, call, lambda: self._float_product(x, weight, bias, call))
        if self.left_fp32:
            keep_apart(self)
            return self._float_product(x, weight, bias, call)
        self.act_limits()  # refuses a layer that was not calibrated
        if not x.is_floating_point() or x.dtype == torch.float64:
            raise TypeError(f"layer {self.layer_name!r} takes float32 (or half precision in autocast), got {x.dtype}")
        if self.training:
            return self._training_product(x, weight, bias, call, None)
        norm = folded_norm(self)
        with torch.no_grad(), without_autocast(x.device):
            y = self._integer_product(x, weight, bias, call, norm)
        if not torch.is_grad_enabled():
            return y
        with without_modes():
            return exact_mode.with_gradient_of(y, self._training_product, x, weight, bias, call, norm)

    def _float_product(self, x: Tensor, weight: Tensor, bias: Tensor | None, call: dict[str, Any]) -> Tensor:
        raise NotImplementedError

    def _integers(
        self, x: Tensor, weight: Tensor, call: dict[str, Any], options: dict[str, Any]
    ) -> Tensor:  # pragma: no cover
        raise NotImplementedError

    def _training_product(
        self, x: Tensor, weight: Tensor, bias: Tensor | None, call: dict[str, Any], norm: nn.Module | None
    ) -> Tensor:
        inputs, weights = self.input_quantiser(), self.weight_quantiser()
        w_hat = weights.fake(weight)
        if self._machine().lossless:
            y = self._lossless_product(x, inputs, w_hat, weights, bias, call)
        else:
            x_hat = inputs.fake(x)
            x_scale, w_scale = inputs.scale.detach(), weights.scale.detach()
            with without_autocast(x.device):
                x_int = integers_of_grid(x_hat.float(), x_scale)
                w_int = integers_of_grid(w_hat.float(), weights.scale_for(weight).detach())
                multiplier = self._worth(x_scale * w_scale, call)
                options = self._training_options(x, weight, call, multiplier.abs())
                zero = inputs.zero
                x_int = x_int if zero is None else x_int - zero
                y = self._product_of_integers(x_int, w_int, zero, multiplier, bias, call, options)
        if norm is not None:
            y = operations.affine(y, *operations.affine_of(norm))
        return y

    def _lossless_product(
        self, x: Tensor, inputs: Quantiser, w_hat: Tensor, weights: Lsq, bias: Tensor | None, call: dict[str, Any]
    ) -> Tensor:
        """The product of training where the crossbars add nothing to it; `w_hat` is on the grid of `weights`."""
        return self._float_product(inputs.fake(x), w_hat, bias, call)

    def _integer_product(
        self, x: Tensor, weight: Tensor, bias: Tensor | None, call: dict[str, Any], norm: nn.Module | None
    ) -> Tensor:
        multiplier, shift = self._multiplier_and_shift(bias, norm, call)
        x_q, w_q = self.quantize_input(x), self.integer_weight(weight)
        return self._product_of_integers(x_q, w_q, self.act_zero, multiplier, shift, call, self._mvm_options())

    def _product_of_integers(
        self,
        x: Tensor,
        weight: Tensor,
        zero: Tensor | None,
        multiplier: Tensor,
        bias: Tensor | None,
        call: dict[str, Any],
        options: dict[str, Any],
    ) -> Tensor:
        """The layer's output from integers; x counted from the zero point."""
        correction = None
        if zero is not None:
            if any(call.get("padding", ())):  # what the padding applies; the host asks the device for nothing else
                call = {**call, "zero": int(zero)}
            correction = self._per_output(zero_correction(weight, zero, self._first_input))
        Y = self._integers(x, weight, call, options)
        shift = None if bias is None else self._per_output(bias)
        return scaled(Y, correction, self._per_output(multiplier), shift)

    def _multiplier_and_shift(
        self, bias: Tensor | None, norm: nn.Module | None, call: dict[str, Any]
    ) -> tuple[Tensor, Tensor | None]:
        return fold(self.act_scale, self.weight_scale, bias, norm)

    def _worth(self, scale: Tensor, call: dict[str, Any]) -> Tensor:
        """What the integer 1 of the product is worth, for the product of both scales."""
        return scale

    def _machine(self) -> Hardware:
        """The machine of the computation that runs now."""
        return self.training_hardware if self.training and self.training_hardware is not None else self.hardware

    def _mvm_options(self, learned: Tensor | None = None) -> dict[str, Any]:
        """What the product gets beside operands and geometry.

        Args:
            learned: Steps of the converters in place of the layer's own, for training.
        """
        lo, lsb, seed = None, None, self.chip_seed
        machine = self._machine()
        if needs_ranges(machine):
            lo, lsb = self._ranges(machine, learned)
        if self.training and machine.varies:
            seed = _TRAINING_CHIPS + self._training_step() - 1
        return crossbar_options(self, machine, seed, lo, lsb)

    def _ranges(self, machine: Hardware, learned: Tensor | None) -> tuple[Tensor, Tensor]:
        """Lowest currents and steps, on the CPU, where calls read them without waiting; steps in training as given."""
        entry = on_host(self.adc_ranges)[self.weight_bits - 1, self.act_bits - 1]
        slices = machine.weight_slices(self.weight_bits)
        lo, lsb = entry[0, :slices].to(torch.int32), entry[1, :slices].clone()
        if not bool((lsb > 0).all()):
            raise ValueError(
                f"layer {self.layer_name!r} has no converter range for W{self.weight_bits}A{self.act_bits}; "
                "call cimq.calibrate(model, loader) first"
            )
        if learned is not None:
            return lo, learned
        if self.adc_lsb is not None:
            steps = on_host(self.adc_lsb)[self.weight_bits - 1, self.act_bits - 1, :slices]
            lsb = steps.clamp_min(SMALLEST_STEP)
        return lo, lsb

    def _training_step(self) -> int:
        """The number of the step that runs: a fresh chip in each, never one of those that evaluation counts from 0."""
        before = on_host(self.noise_step)
        if in_backward():  # a checkpointed forward is computed again, and must meet the same chip
            return int(before)
        step = int(before) + 1
        self.noise_step += 1
        note_on_host(self.noise_step, torch.tensor(step, device="cpu"))
        return step

    def _training_options(self, x: Tensor, weight: Tensor, call: dict[str, Any], unit: Tensor) -> dict[str, Any]:
        """`_mvm_options` for the differentiable product; `unit` is what the integer 1 is worth in every output."""
        machine = self._machine()
        learned: Tensor | None = None
        if self.adc_lsb is not None and learns_steps(machine):
            bits = (self.weight_bits, self.act_bits)
            step = self.adc_lsb[bits[0] - 1, bits[1] - 1, : machine.weight_slices(bits[0])]
            learned = trained_step(step, machine, *bits, x, weight, call, unit)
        return self._mvm_options(learned) | {"adc_grad": check_adc_grad(self.adc_grad)}

    def _per_output(self, values: Tensor) -> Tensor:
        """Values of outputs, or one for all, in a shape that broadcasts against the product."""
        raise NotImplementedError

    def extra_repr(self) -> str:
        """Adds the bits to what the layer prints."""
        if self.left_fp32:
            return f"{super().extra_repr()}, fp32"
        sign = {None: "not calibrated", True: "signed", False: "unsigned"}[self.act_signed]
        chosen = "".join(f", {key}={value}" for key, value in self.layer_machine.given().items())
        return f"{super().extra_repr()}, weight_bits={self.weight_bits}, act_bits={self.act_bits} ({sign}){chosen}"

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
