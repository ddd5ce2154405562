"""Quantised layers: `QuantConv2d` and `QuantLinear`, which take the place of `nn.Conv2d` and `nn.Linear`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn
from torch.overrides import TorchFunctionMode

from cimq import ops
from cimq.hardware import Hardware
from cimq.quantization import exact
from cimq.quantization.exact import conv2d_args, folded_norm
from cimq.quantization.products import (
    collapses,
    conv2d_product,
    fake_quantize_act,
    fold,
    linear_product,
    quantize_act,
)
from cimq.quantization.quantizers import MAX_BITS, SMALLEST_SCALE, act_range, mse_scales, weight_range

# Called instead of the quantised product: (layer, input, function of the fp32 product) -> output.
Observer = Callable[["QuantLayer", Tensor, Callable[[], Tensor]], Tensor]


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
        weight_scales: Parameter [8, O] (or [8, 1] per tensor): row w-1 is the scale of w bits; 0 where not made yet.
        act_scales: Parameter [8]: entry a-1 is the scale of a bits; 0 before `calibrate`.
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
    weight_scales: nn.Parameter
    act_scales: nn.Parameter
    act_signed_state: Tensor  # uint8 []: 0 unsigned, 1 signed, 2 unknown; in the state_dict
    adc_ranges: dict[tuple[int, int], tuple[Any, Any]]
    chip_seed: int
    _observer: Observer | None
    _scaled_widths: set[int]
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

    def _attach(self, name: str, index: int, hardware: Hardware, per_channel: bool, intercepts: bool) -> None:
        """Adds what a quantised layer has to a module that so far is an ordinary layer."""
        self.layer_name = name
        self.layer_index = index
        self.hardware = hardware
        self.act_signed = None
        self.adc_ranges = {}
        self.chip_seed = 0
        self._observer = None
        self._scaled_widths = set()
        self._intercepts = intercepts
        weight = self.weight
        rows = weight.shape[0] if per_channel else 1
        self.weight_scales = nn.Parameter(torch.zeros(MAX_BITS, rows, device=weight.device), weight.requires_grad)
        self.act_scales = nn.Parameter(torch.zeros(MAX_BITS, device=weight.device), weight.requires_grad)
        state = torch.tensor(2, dtype=torch.uint8, device=weight.device)
        self.register_buffer("act_signed_state", state)

    def set_bits(self, weight_bits: int, act_bits: int) -> None:
        """Switches to other bits; the weight scale of a width that is new to this layer is searched now."""
        self.ensure_weight_scale(weight_bits)
        self.weight_bits = weight_bits
        self.act_bits = act_bits

    @torch.no_grad()
    def ensure_weight_scale(self, bits: int, *, again: bool = False) -> None:
        """Searches the weight scale of this width unless it is there (or `again`)."""
        if bits in self._scaled_widths and not again:
            return
        rows = self.weight_scales.shape[1]
        found = mse_scales(self.weight.reshape(rows, -1), *weight_range(bits), binary=bits == 1)
        self.weight_scales[bits - 1].copy_(found)
        self._scaled_widths.add(bits)

    @torch.no_grad()
    def set_act_scales(self, scales: Tensor, signed: bool) -> None:
        """Scales of all widths, float [8], and whether the input has a sign."""
        self.act_scales.copy_(scales.reshape(MAX_BITS))
        self._set_act_signed(signed)

    def _set_act_signed(self, signed: bool | None) -> None:
        self.act_signed = signed
        self.act_signed_state.fill_(2 if signed is None else int(signed))

    def act_limits(self) -> tuple[int, int]:
        """Smallest and largest integer of the input.

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
        own = [prefix + key for key in ("weight_scales", "act_scales", "act_signed_state")]
        given = [key for key in own if key in state_dict]
        missing: list[str] = []
        super()._load_from_state_dict(state_dict, prefix, local_metadata, strict, missing, unexpected_keys, error_msgs)
        missing_keys.extend(key for key in missing if key not in own or given)
        with torch.no_grad():
            if given:
                state = int(self.act_signed_state)
                self.act_signed = None if state == 2 else bool(state)
                self._scaled_widths = {b + 1 for b, row in enumerate(self.weight_scales) if bool((row > 0).all())}
            elif any(key.startswith(prefix) and "weight" in key for key in state_dict):
                # Other weights, and nothing about their scales: search anew, and ask for calibration.
                self._scaled_widths = set()
                self.weight_scales.zero_()
                self.act_scales.zero_()
                self._set_act_signed(None)
                self.adc_ranges = {}
            self.ensure_weight_scale(self.weight_bits)

    # ---- computation ----

    def _product(self, x: Tensor, weight: Tensor, bias: Tensor | None, call: dict[str, Any]) -> Tensor:
        """The quantised product in place of conv2d / linear; `call` has stride, padding, dilation, groups."""
        if isinstance(x, fx.Proxy):
            return x.tracer.quantised_product(self, x, call)
        if self._observer is not None:
            return self._observer(self, x, lambda: self._float_product(x, weight, bias, call))
        limits = self.act_limits()
        if self.training:
            return self._training_product(x, weight, bias, call, limits, None)
        norm = folded_norm(self)
        with torch.no_grad(), torch.autocast(x.device.type, enabled=False):
            y = self._integer_product(x, weight, bias, call, limits, norm)
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
        x_hat = fake_quantize_act(x, x_scale, *limits)
        low, high = weight_range(self.weight_bits)
        w_hat = ops.fake_quantize(
            weight,
            w_scale.reshape(()) if per_tensor else w_scale,
            low,
            high,
            axis=None if per_tensor else 0,
            binary=self.weight_bits == 1,
        )
        if collapses(self.hardware):
            y = self._float_product(x_hat, w_hat, bias, call)
        else:
            x_scale, w_scale = x_scale.detach(), w_scale.detach()
            column = w_scale.reshape((-1,) + (1,) * (weight.dim() - 1))
            with torch.autocast(x.device.type, enabled=False):
                x_int = _Integers.apply(x_hat.float(), x_scale)  # type: ignore[no-untyped-call]
                w_int = _Integers.apply(w_hat.float(), column)  # type: ignore[no-untyped-call]
                y = self._integers(x_int, w_int, call, self._mvm_options())
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
        limits: tuple[int, int],
        norm: nn.Module | None,
    ) -> Tensor:
        multiplier, shift = fold(self.act_scale, self.weight_scale, bias, norm)
        try:
            x_q = quantize_act(x, self.act_scale, *limits)
        except ValueError as error:
            raise ValueError(f"layer {self.layer_name!r}: {error}") from None
        y = self._integers(x_q, self.integer_weight(weight), call, self._mvm_options())
        return y.float() * self._per_output(multiplier, y) + self._per_output(shift, y)

    @torch.no_grad()
    def integer_weight(self, weight: Tensor | None = None) -> Tensor:
        """The weight as int8, in the layout of `weight`."""
        weight = self.weight if weight is None else weight
        low, high = weight_range(self.weight_bits)
        try:
            return ops.quantize(weight.float(), self.weight_scale, low, high, axis=0, binary=self.weight_bits == 1)
        except ValueError as error:
            raise ValueError(f"layer {self.layer_name!r}, weight: {error}") from None

    def _mvm_options(self) -> dict[str, Any]:
        lo, lsb = self.adc_ranges.get((self.weight_bits, self.act_bits), (None, None))
        return {
            "hardware": self.hardware,
            "weight_bits": self.weight_bits,
            "act_bits": self.act_bits,
            "act_signed": bool(self.act_signed),
            "seed": self.chip_seed,
            "layer": self.layer_index,
            "adc_lo": lo,
            "adc_lsb": lsb,
        }

    def _per_output(self, values: Tensor, y: Tensor) -> Tensor:
        raise NotImplementedError

    def extra_repr(self) -> str:
        """Adds the bits to what the layer prints."""
        sign = {None: "not calibrated", True: "signed", False: "unsigned"}[self.act_signed]
        return f"{super().extra_repr()}, weight_bits={self.weight_bits}, act_bits={self.act_bits} ({sign})"

    def __reduce_ex__(self, protocol: Any) -> Any:
        # Classes made for subclasses of nn.Conv2d and nn.Linear have no importable name: rebuild them from their base.
        cls = type(self)
        if cls in (QuantConv2d, QuantLinear):
            return super().__reduce_ex__(protocol)
        return _new_instance, (cls.__bases__[1],), self.__getstate__()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_observer": None}


class QuantConv2d(QuantLayer, nn.Conv2d):
    """A quantised `nn.Conv2d`; see `QuantLayer` for what it adds."""

    def forward(self, input: Tensor) -> Tensor:
        """As nn.Conv2d: [N, C, H, W] or [C, H, W]."""
        if self._intercepts:
            with _Intercept(self, F.conv2d):
                result: Tensor = super().forward(input)
                return result
        if self.padding_mode != "zeros":
            x = F.pad(input, self._reversed_padding_repeated_twice, mode=self.padding_mode)
            return self._call(x, self.weight, self.bias, self.stride, 0, self.dilation, self.groups)
        return self._call(input, self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups)

    def _call(
        self,
        input: Tensor,
        weight: Tensor,
        bias: Tensor | None = None,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        groups: int = 1,
    ) -> Tensor:
        stride, sides, dilation = conv2d_args(self.kernel_size, stride, padding, dilation)
        call = {"stride": stride, "padding": sides, "dilation": dilation, "groups": groups}
        if not isinstance(input, fx.Proxy) and input.dim() == 3:
            return self._product(input.unsqueeze(0), weight, bias, call).squeeze(0)
        return self._product(input, weight, bias, call)

    def _float_product(self, x: Tensor, weight: Tensor, bias: Tensor | None, call: dict[str, Any]) -> Tensor:
        left, right, top, bottom = sides = call["padding"]
        if left == right and top == bottom:
            return F.conv2d(x, weight, bias, call["stride"], (top, left), call["dilation"], call["groups"])
        return F.conv2d(F.pad(x, sides), weight, bias, call["stride"], 0, call["dilation"], call["groups"])

    def _integers(self, x: Tensor, weight: Tensor, call: dict[str, Any], options: dict[str, Any]) -> Tensor:
        return conv2d_product(x, weight, **call, **options)

    def _per_output(self, values: Tensor, y: Tensor) -> Tensor:
        return values.reshape(-1, 1, 1)


class QuantLinear(QuantLayer, nn.Linear):
    """A quantised `nn.Linear`; see `QuantLayer` for what it adds."""

    def forward(self, input: Tensor) -> Tensor:
        """As nn.Linear: [..., in_features]."""
        if self._intercepts:
            with _Intercept(self, F.linear):
                result: Tensor = super().forward(input)
                return result
        return self._call(input, self.weight, self.bias)

    def _call(self, input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        if not isinstance(input, fx.Proxy) and input.dim() == 1:
            return self._product(input.unsqueeze(0), weight, bias, {}).squeeze(0)
        return self._product(input, weight, bias, {})

    def _float_product(self, x: Tensor, weight: Tensor, bias: Tensor | None, call: dict[str, Any]) -> Tensor:
        return F.linear(x, weight, bias)

    def _integers(self, x: Tensor, weight: Tensor, call: dict[str, Any], options: dict[str, Any]) -> Tensor:
        return linear_product(x, weight, **options)

    def _per_output(self, values: Tensor, y: Tensor) -> Tensor:
        return values


class _Intercept(TorchFunctionMode):
    """Runs a subclass's own forward with its product (a call of `target` on its weight) quantised."""

    def __init__(self, layer: QuantConv2d | QuantLinear, target: Any) -> None:
        super().__init__()
        self.layer = layer
        self.target = target

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is self.target:
            return self.layer._call(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))


class _ScaleFloor(torch.autograd.Function):
    """max(scale, smallest) with the gradient of the identity: a scale that training drove to zero can come back."""

    @staticmethod
    def forward(ctx: Any, scale: Tensor) -> Tensor:
        return scale.clamp_min(SMALLEST_SCALE)

    @staticmethod
    def backward(ctx: Any, *grad: Any) -> Any:
        return grad[0]


class _Integers(torch.autograd.Function):
    """rint(values / scale) of values that lie on the grid; gradient that of the division."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, scale: Tensor) -> Tensor:
        ctx.save_for_backward(scale)
        return torch.round(values / scale)

    @staticmethod
    def backward(ctx: Any, *grad: Any) -> Any:
        (scale,) = ctx.saved_tensors
        return grad[0] / scale, None


_derived: dict[type, type] = {}


def quant_class(cls: type[nn.Module]) -> type[nn.Module]:
    """The quantised class of nn.Conv2d, nn.Linear or a subclass: an instance of both."""
    base = QuantConv2d if issubclass(cls, nn.Conv2d) else QuantLinear
    if cls in (nn.Conv2d, nn.Linear):
        return base
    if cls not in _derived:
        _derived[cls] = type(f"Quant{cls.__name__}", (base, cls), {"__module__": cls.__module__})
    return _derived[cls]


def _new_instance(cls: type[nn.Module]) -> nn.Module:
    derived = quant_class(cls)
    return derived.__new__(derived)
