"""What converters do with given inputs: clipping, use of their codes, and the error they leave in the result."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cimq.hardware import Hardware, resolve
from cimq.mapping import CONDUCTANCE_UNIT, mapping_facts
from cimq.ops.crossbar_call import CONV2D, CONV2D_CONVERSIONS, GEOMETRY, MVM, MVM_CONVERSIONS, CrossbarCall
from cimq.ops.geometry import four_paddings, pair


@dataclasses.dataclass
class ConversionCounts:
    """Sums over any number of products of one layer, on the CPU; per weight slice where `[n_w]` stands.

    Attributes:
        code_histogram: int64 `[n_w, L]`, how often each code was given, the smallest code first.
        clipped: int64 `[n_w, 2]`, conversions whose code was raised to the smallest or lowered to the largest.
        currents: float64 `[n_w, 2]`, smallest and largest current in level steps.
        conversion_error: float64 `[n_w]`, sum of the squared differences of `lo + lsb * code` and the current, in
            squared level steps.
        results: Number of results compared with the digital value.
        squared_error: Sum of (result - digital value)^2.
        squared_signal: Sum of (digital value)^2.
        largest_error: Largest |result - digital value|.
    """

    code_histogram: Tensor
    clipped: Tensor
    currents: Tensor
    conversion_error: Tensor
    results: int
    squared_error: float
    squared_signal: float
    largest_error: float

    def add(self, other: ConversionCounts) -> None:
        """Takes in the counts of another product of the same layer."""
        if int(other.code_histogram.sum()) > 0:
            empty = int(self.code_histogram.sum()) == 0
            low, high = self.currents.unbind(1)
            other_low, other_high = other.currents.unbind(1)
            lows = other_low if empty else torch.minimum(low, other_low)
            highs = other_high if empty else torch.maximum(high, other_high)
            self.currents = torch.stack([lows, highs], dim=1)
        self.code_histogram = self.code_histogram + other.code_histogram
        self.clipped = self.clipped + other.clipped
        self.conversion_error = self.conversion_error + other.conversion_error
        self.results += other.results
        self.squared_error += other.squared_error
        self.squared_signal += other.squared_signal
        self.largest_error = max(self.largest_error, other.largest_error)

    @property
    def conversions(self) -> int:
        """Conversions of each weight slice."""
        return int(self.code_histogram[0].sum())

    @property
    def clip_low(self) -> Tensor:
        """Share of the conversions whose code was raised to the smallest, float64 `[n_w]`."""
        return self.clipped[:, 0].double() / max(1, self.conversions)

    @property
    def clip_high(self) -> Tensor:
        """Share of the conversions whose code was lowered to the largest, float64 `[n_w]`."""
        return self.clipped[:, 1].double() / max(1, self.conversions)

    @property
    def used_codes(self) -> Tensor:
        """Share of the codes that occur, float64 `[n_w]`."""
        return (self.code_histogram > 0).double().mean(dim=1)

    @property
    def conversion_mse(self) -> Tensor:
        """Mean squared error of a conversion in squared level steps, float64 `[n_w]`."""
        return self.conversion_error / max(1, self.conversions)

    @property
    def mse(self) -> float:
        """Mean squared difference of the result and the digital value."""
        return self.squared_error / max(1, self.results)

    @property
    def sqnr_db(self) -> float:
        """10 * log10(sum of digital^2 / sum of squared differences); inf without a difference."""
        if self.squared_error == 0.0:
            return math.inf
        return 10 * math.log10(self.squared_signal / self.squared_error) if self.squared_signal > 0 else -math.inf


@dataclasses.dataclass
class AdcDiagnostics(ConversionCounts):
    """`ConversionCounts` of one product, and its result.

    Attributes:
        y: What `crossbar_mvm` or `crossbar_conv2d` returns.
        code_min: Code of the first column of `code_histogram`.
    """

    y: Tensor
    code_min: int


def crossbar_diagnostics(
    x_q: Tensor,
    w_q: Tensor,
    hardware: Hardware | str | Path,
    *,
    weight_bits: int,
    act_bits: int,
    act_signed: bool = False,
    stride: int | tuple[int, int] = 1,
    padding: int | tuple[int, int] | tuple[int, int, int, int] = 0,
    dilation: int | tuple[int, int] = 1,
    groups: int = 1,
    chips: int | None = None,
    seed: int = 0,
    layer: int = 0,
    adc_lo: Tensor | None = None,
    adc_lsb: Tensor | None = None,
    first_access: int = 0,
) -> AdcDiagnostics:
    """A crossbar product, and what its converters did in it.

    Every conversion is counted: of each sample (or output pixel), output, row tile, input digit and chip, and of both
    columns of a pair that are converted on their own. Counts are exact integers and the same for every instruction set
    and number of threads. Counting costs about five products more, twelve where cells vary (docs/performance.md).

    Args:
        x_q: Activations `[..., n]`, or `[N, C, H, W]` with a kernel.
        w_q: Weights `[m, n]`, or a kernel `[O, C/groups, kh, kw]`.
        hardware: Machine with a converter (`adc.bits` not None), name of a preset, file, or canonical JSON.
        weight_bits: 1 to 8.
        act_bits: 1 to 8.
        act_signed: Activations are two's complement.
        stride: Of a convolution; as in `crossbar_conv2d`.
        padding: Of a convolution.
        dilation: Of a convolution.
        groups: Of a convolution.
        chips: Number of chips; None for one chip without the leading dimension of `y`.
        seed: Seed of all variation.
        layer: Number of the layer.
        adc_lo: As in `crossbar_mvm`.
        adc_lsb: As in `crossbar_mvm`.
        first_access: As in `crossbar_mvm`.

    Returns:
        Result, counts and errors; the digital value is the integer product without variation.

    Raises:
        ValueError: As the products, and for an ideal converter or geometry without a kernel.
        TypeError: As the products.

    Example:
        >>> import torch, cimq
        >>> hw = cimq.Hardware.preset("paper").replace(rows=4, adc={"bits": 4})
        >>> x, w = torch.tensor([[15, 0, 15, 1]]), torch.tensor([[7, 7, 7, -7]])
        >>> found = cimq.ops.crossbar_diagnostics(x, w, hw, weight_bits=4, act_bits=4)
        >>> found.conversions, found.clip_high.tolist(), found.currents.tolist()
        (4, [0.0], [[7.0, 14.0]])
    """
    machine = resolve(hardware)
    call = CrossbarCall(
        x_q.detach(), w_q.detach(), machine.to_json(), weight_bits=weight_bits, act_bits=act_bits,
        act_signed=act_signed, stride=pair(stride, "stride"), padding=four_paddings(padding),
        dilation=pair(dilation, "dilation"), groups=groups, chips=chips, seed=seed, layer=layer, adc_lo=adc_lo,
        adc_lsb=None if adc_lsb is None else adc_lsb.detach(), first_access=first_access,
    )  # fmt: skip
    if not call.is_convolution and any(getattr(call, name) != getattr(CrossbarCall, name) for name in GEOMETRY):
        raise ValueError(
            "crossbar_diagnostics: stride, padding, dilation and groups belong to a convolution, whose w_q is "
            f"[O, C/groups, kh, kw]; got w_q {list(w_q.shape)}"
        )
    y = _product(call)
    return AdcDiagnostics(**vars(_counts(call, machine, y)), y=y, code_min=_code_min(machine))


def count_product(
    x_q: Tensor, w_q: Tensor, machine: Hardware, arguments: dict[str, Any], y: Tensor
) -> ConversionCounts:
    """Counts of a product that was `y` with these arguments of `crossbar_mvm`, or of `crossbar_conv2d` for a kernel."""
    return _counts(CrossbarCall(x_q, w_q, machine.to_json(), **arguments), machine, y)


def _counts(call: CrossbarCall, machine: Hardware, y: Tensor) -> ConversionCounts:
    conversions = CONV2D_CONVERSIONS if call.is_convolution else MVM_CONVERSIONS
    histogram, clipped, currents, error = conversions(call)
    wanted = _digital_value(call, machine).double()
    difference = y.double() - wanted
    largest = difference.abs().max() if y.numel() else difference.sum()
    squared_error, squared_signal, largest_error = torch.stack(
        [difference.square().sum(), wanted.square().sum(), largest]
    ).tolist()  # at once: it waits for the device
    return ConversionCounts(
        code_histogram=histogram.cpu(),
        clipped=clipped.cpu(),
        currents=currents.cpu().double() / (CONDUCTANCE_UNIT if machine.fractional else 1),
        conversion_error=error.cpu(),
        results=y.numel(),
        squared_error=squared_error,
        squared_signal=squared_signal * (y.numel() / max(1, wanted.numel())),
        largest_error=largest_error,
    )


def _product(call: CrossbarCall) -> Tensor:
    result: Tensor = CONV2D(call) if call.is_convolution else MVM(call)
    return result


def _digital_value(call: CrossbarCall, machine: Hardware) -> Tensor:
    ideal = Hardware(
        rows=machine.rows, cols=machine.cols, cell_bits=machine.cell_bits, dac_bits=machine.dac_bits
    )  # no converter, nothing varies
    return _product(dataclasses.replace(call, hardware=ideal.to_json(), chips=None, adc_lo=None, adc_lsb=None))


def _code_min(machine: Hardware) -> int:
    codes = mapping_facts(machine).codes
    assert codes is not None  # the operators refuse an ideal converter
    return codes[1]
