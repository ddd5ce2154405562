"""Cases of the operators that multiply on programmed crossbars."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from _cases import Case, Operands
from torch import Tensor

from cimq import Hardware
from cimq.mapping import act_range, weight_range

PRODUCT = ("crossbar_product", "pack_cells", "sum_weights", "narrow_values")
LOSSY = {"bits": 8}
NOISE = {"programming": {"model": "gaussian", "sigma_levels": 0.1}}
READS = {"read": {"model": "constant", "sigma_levels": 0.1}}
WINDOW = {"g_min_microsiemens": 1.0, "g_max_microsiemens": 100.0}
WIRES = {"word_line_ohm": 1.0, "bit_line_ohm": 1.0, "mean_activity": 0.5}


@dataclass(frozen=True)
class Layer:
    """A matrix [outputs, inputs] and the rows that it gets, or a convolution, of w-bit weights and a-bit inputs."""

    batch: int
    inputs: int
    outputs: int
    hardware: Hardware
    kernel: int = 0  # 0: no convolution
    size: int = 1
    weight_bits: int = 8
    act_bits: int = 8

    @property
    def rows(self) -> int:
        """Input vectors. Convolutions here have stride 1 and keep the size."""
        return self.batch * self.size**2

    @property
    def products(self) -> int:
        """Multiply-adds of the layer itself."""
        return self.rows * self.outputs * self.inputs * max(1, self.kernel) ** 2

    @property
    def sliced_products(self) -> int:
        """Multiply-adds as the machine does them: one of all for every input digit and weight slice."""
        return self.products * self.hardware.input_digits(self.act_bits) * self.hardware.weight_slices(self.weight_bits)

    @property
    def text(self) -> str:
        kernel = f" {self.kernel}x{self.kernel} on {self.size}x{self.size}" if self.kernel else ""
        return f"{self.batch}x{self.inputs}x{self.outputs}{kernel}"

    def operands(self) -> tuple[Tensor, Tensor]:
        """Random activations (uint8) and weights (int8), the same at every call."""
        generator = torch.Generator().manual_seed(0)
        image = (self.size, self.size) if self.kernel else ()
        window = (self.kernel, self.kernel) if self.kernel else ()
        low, high = act_range(self.act_bits, False)
        x = torch.randint(low, high + 1, (self.batch, self.inputs, *image), generator=generator, dtype=torch.uint8)
        low, high = weight_range(self.weight_bits)
        w = torch.randint(low, high + 1, (self.outputs, self.inputs, *window), generator=generator, dtype=torch.int8)
        return x, w

    def call(self) -> tuple[object, ...]:
        """What follows the operands in the schemas, as far as it has no default."""
        given: tuple[object, ...] = (self.hardware.to_json(), self.weight_bits, self.act_bits)
        if self.kernel:
            pad = self.kernel // 2
            given += (False, [1, 1], [pad] * 4)
        return given


def machine(**fields: object) -> Hardware:
    return Hardware.preset("paper").replace(**fields)


# The layer of the claims on the crossbar product.
CLAIMED = Layer(16384, 1152, 512, machine(adc=LOSSY))


def small_of(layer: Layer) -> Layer:
    """Few values, and tails in every dimension; crossbars so small that there are several row tiles."""
    hardware = layer.hardware.replace(rows=16)
    if layer.kernel:
        return replace(layer, batch=2, inputs=5, outputs=9, size=5, hardware=hardware)
    return replace(layer, batch=19, inputs=45, outputs=37, hardware=hardware)


def _forward(layer: Layer, small: bool) -> Operands:
    layer = small_of(layer) if small else layer
    sliced = layer.hardware.adc.bits is not None
    operations = {"int8": 2 * (layer.sliced_products if sliced else layer.products)}
    return Operands((*layer.operands(), *layer.call()), layer.text, operations)


def _conversions(layer: Layer, small: bool) -> Operands:
    layer = small_of(layer) if small else layer
    return Operands((*layer.operands(), *layer.call()), layer.text, {"int8": 2 * layer.sliced_products})


def _backward(layer: Layer, small: bool) -> Operands:
    """Gradients that know what was clamped: all currents again, and two products of floats for every slice."""
    layer = small_of(layer) if small else layer
    x, w = layer.operands()
    spatial = (layer.size, layer.size) if layer.kernel else ()
    generator = torch.Generator().manual_seed(1)
    # Small integers: their sums are exact in any order, so that bits can be compared.
    grad = torch.randint(-2, 3, (layer.batch, layer.outputs, *spatial), generator=generator).float()
    slices = layer.hardware.weight_slices(layer.weight_bits)
    lsb = torch.full((slices,), 3.0)
    call = layer.call() if layer.kernel else (*layer.call(), False)
    tail: tuple[object, ...] = ([1, 1], 1) if layer.kernel else ()
    chips, seed, number, lo = None, 0, 0, torch.zeros(slices, dtype=torch.int32)
    arguments = (grad, x.float(), w.float(), *call, *tail, chips, seed, number, lo, lsb, 0, "clip", [True, True, True])
    operations = {"int8": 2 * layer.sliced_products, "float32": 2 * 2 * slices * layer.products}
    return Operands(arguments, layer.text, operations)


def _gradient_slack(arguments: object, results: object) -> list[Tensor | None]:
    """Gradients are sums of floats, whose order a device chooses: 1e-5 of the largest value."""
    assert isinstance(results, list)
    return [1e-5 * result.abs().max().double() if result.numel() else None for result in results]


def _error_slack(arguments: object, results: object) -> list[Tensor | None]:
    """Squared errors are sums of floats: 1e-11 of them (docs/cuda.md). Counts are exact."""
    assert isinstance(results, list)
    return [None, None, None, 1e-11 * results[3]]


def _programmed_levels(small: bool, **fields: object) -> Operands:
    layer = CLAIMED if not small else small_of(CLAIMED)
    _, w = layer.operands()
    hardware = layer.hardware.replace(**fields)
    return Operands((w, hardware.to_json(), layer.weight_bits), f"{layer.inputs}x{layer.outputs}")


_CONV = Layer(64, 128, 128, machine(adc=LOSSY), kernel=3, size=28)
_LEARNED = {"bits": 4, "range": "learned"}
_MATRICES = {
    "lossy 8-bit ADC": CLAIMED,
    "ideal ADC": replace(CLAIMED, hardware=machine()),
    "lossy, noisy cells": replace(CLAIMED, hardware=machine(adc=LOSSY, cell=NOISE)),
    "lossy, read noise": replace(CLAIMED, hardware=machine(adc=LOSSY, cell=READS)),
    "lossy, 128 rows, 2-bit cells": replace(CLAIMED, hardware=machine(adc=LOSSY, rows=128, cell_bits=2)),
    "lossy, offset mapping": replace(CLAIMED, hardware=machine(adc=LOSSY, mapping="offset")),
    "lossy, one batch": replace(CLAIMED, batch=256, inputs=512),
}
_IMAGES = {
    "lossy, ResNet-18 layer 2": _CONV,
    "ideal, ResNet-18 layer 2": replace(_CONV, hardware=machine()),
}


def _product(name: str, operator: str, layer: Layer) -> Case:
    kernels = (*PRODUCT, "sample_programmed_cells") if layer.hardware.varies else PRODUCT
    return Case(f"{operator}: {name}", operator, kernels, lambda small: _forward(layer, small))


_CLIPPED = replace(CLAIMED, hardware=machine(adc=_LEARNED))
_CLIPPED_CONV = replace(_CONV, hardware=machine(adc=_LEARNED))
CASES = [
    *(_product(name, "crossbar_mvm", layer) for name, layer in _MATRICES.items()),
    *(_product(name, "crossbar_conv2d", layer) for name, layer in _IMAGES.items()),
    Case(
        "crossbar_mvm_backward: clip, learned steps",
        "crossbar_mvm_backward",
        ("conversion_shares",),
        lambda small: _backward(_CLIPPED, small),
        _gradient_slack,  # type: ignore[arg-type]
    ),
    Case(
        "crossbar_conv2d_backward: clip, learned steps",
        "crossbar_conv2d_backward",
        ("conversion_shares",),
        lambda small: _backward(_CLIPPED_CONV, small),
        _gradient_slack,  # type: ignore[arg-type]
    ),
    Case(
        "crossbar_mvm_conversions",
        "crossbar_mvm_conversions",
        ("conversion_counts", "sum_errors"),
        lambda small: _conversions(CLAIMED, small),
        _error_slack,  # type: ignore[arg-type]
    ),
    Case(
        "crossbar_conv2d_conversions",
        "crossbar_conv2d_conversions",
        ("conversion_counts", "sum_errors"),
        lambda small: _conversions(_CONV, small),
        _error_slack,  # type: ignore[arg-type]
    ),
    Case(
        "programmed_levels: Gaussian noise",
        "programmed_levels",
        ("sample_programmed_cells", "level_cells", "narrow_values"),
        lambda small: _programmed_levels(small, cell=NOISE),
    ),
    Case(
        "programmed_levels: Gaussian noise, wires",
        "programmed_levels",
        ("sample_programmed_cells", "sum_word_lines", "attenuate_bit_lines", "narrow_values"),
        lambda small: _programmed_levels(small, cell=NOISE | WINDOW, wires=WIRES),
    ),
]
