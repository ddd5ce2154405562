"""Calibration: scales from data; and batch statistics measured anew after training."""

from __future__ import annotations

import itertools
import math
import warnings
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from cimq.errors import CimqWarning, some_names
from cimq.quantization.graph.refusals import check_device, refuse_meta_values
from cimq.quantization.inspection import observing, products_per_sample
from cimq.quantization.layers.fp32_products import Fp32Products
from cimq.quantization.layers.matmul import QuantMatmul
from cimq.quantization.layers.numbering import all_quant_layers, quant_layers
from cimq.quantization.layers.quant_layer import QuantLayer
from cimq.quantization.quantisers.adc_ranges import METHODS as ADC_METHODS
from cimq.quantization.quantisers.adc_ranges import needs_ranges, take_sample
from cimq.torch_tools.batches import ForwardFn, kept_random_state
from cimq.torch_tools.call_arguments import noting_arguments
from cimq.torch_tools.forward import default_forward, noting_batch
from cimq.torch_tools.parallel import refuse_distributed, unwrapped

_METHODS = ("mse", "minmax")
_VALUES_PER_LAYER = 1 << 16


class _Samples:
    """Range and a bounded sample of the values that a layer gets."""

    def __init__(self, batches: int) -> None:
        self.per_batch = max(1024, _VALUES_PER_LAYER // batches)
        self.low = float("inf")
        self.high = float("-inf")
        self.parts: list[Tensor] = []

    def add(self, x: Tensor, generator: torch.Generator) -> None:
        values = x.detach().float().flatten()
        low, high = _ends(values)
        self.low, self.high = min(self.low, low), max(self.high, high)
        if values.numel() > self.per_batch:
            # Drawn on the CPU: the same sample on every device.
            index = torch.randint(values.numel(), (self.per_batch,), generator=generator, device="cpu")
            values = values[index.to(values.device)]
        self.parts.append(values)

    def values(self) -> Tensor:
        """The sample with both ends of the range in it, [1, n]."""
        ends = torch.tensor([self.low, self.high], device=self.parts[0].device)
        return torch.cat([*self.parts, ends]).reshape(1, -1)


def calibrate(
    model: nn.Module,
    loader: Iterable[Any],
    *,
    batches: int = 8,
    method: str = "mse",
    adc_method: str = "percentile",
    forward_fn: ForwardFn | None = None,
) -> None:
    """Sets the scales of a prepared model: activations from data run through the fp32 network, weights from themselves.

    Scales of all bit widths are made at once, so that `set_policy` needs nothing more. Also finds out which inputs are
    never negative; they are quantised without a sign. On a machine with calibrated or learned converters their ranges
    are found too, per layer and weight slice (learned: where training starts). The user's random state is not touched.
    Layers that the model does not call in evaluation (heads for training alone, weights that other code reads) stay
    fp32, with one warning that names them.

    Args:
        model: A prepared model; its train/eval mode is kept.
        loader: Batches `(x, target)`, dicts or lists; see `forward_fn`.
        batches: How many batches to use at most.
        method: "mse": scales with the smallest mean squared error; "minmax": nothing seen is clipped.
        adc_method: "percentile" or "mse": how converter ranges are found, see `ops.calibrate_adc`; also for bits that
            `set_policy` chooses later.
        forward_fn: `forward_fn(model, batch)` runs the model on a batch; default: on the batch's first item (a dict
            without targets is passed as keyword arguments).

    Raises:
        ValueError: If the loader is empty, no layer is ever called, or the input of one is not finite; names it. For a
            model in DistributedDataParallel: calibrate before, so that all processes have the same scales.

    Example:
        >>> import torch, cimq
        >>> q = cimq.prepare(torch.nn.Linear(4, 2))
        >>> cimq.calibrate(q, [(torch.rand(8, 4), None)])
        >>> q.act_signed
        False
    """
    if method not in _METHODS:
        raise ValueError(f"calibrate: method must be one of {', '.join(_METHODS)}, got {method!r}")
    if adc_method not in ADC_METHODS:
        raise ValueError(f"calibrate: adc_method must be one of {', '.join(ADC_METHODS)}, got {adc_method!r}")
    if batches < 1:
        raise ValueError(f"calibrate: batches must be at least 1, got {batches}")
    refuse_distributed(model, "calibrate")
    model = unwrapped(model)
    quant_layers(model)  # refuses a model that is not prepared
    check_device(model, "calibrate")
    layers = all_quant_layers(model)
    samples: dict[int, _Samples] = {}
    operands: dict[int, _Samples] = {}  # what attention writes to crossbars
    products: dict[int, int] = {}  # of the first batch: what the latency model counts
    generator = torch.Generator("cpu").manual_seed(0)

    def observe(layer: QuantLayer, x: Tensor, call: dict[str, Any], product: Callable[[], Tensor]) -> Tensor:
        operand = call.get("operand")
        call = _observed_call("calibrate", layer, x, call)
        if operand is not None:
            operands.setdefault(id(layer), _Samples(batches)).add(operand, generator)
        if id(layer) not in samples:
            samples[id(layer)] = _Samples(batches)
            layer._adc_sample = take_sample(x, call, adc_method) if needs_ranges(layer.hardware) else None
        samples[id(layer)].add(x, generator)
        with calls.paused():
            y = product()
        if used == 0 and x.shape[0] > 0:
            products[id(layer)] = products.get(id(layer), 0) + products_per_sample(layer, x, y, batch_size[0])
        return y

    used = 0
    forward = forward_fn or default_forward
    calls = Fp32Products(model)
    observed = observing(model, observe, [layer for _, layer in layers])
    state, arguments = kept_random_state(model, loaders=[loader]), noting_arguments(model)
    with observed, state, arguments, noting_batch(model) as batch_size, calls:
        for batch in itertools.islice(loader, batches):
            refuse_meta_values(batch, "calibrate", "a batch")
            forward(model, batch)
            used += 1
    if used == 0:
        raise ValueError("calibrate: the loader is empty")
    unused = [name for name, layer in layers if id(layer) not in samples]
    if len(unused) == len(layers):
        raise ValueError(f"calibrate: the model calls none of its quantised layers: {some_names(unused)}")
    zero = []
    for name, layer in layers:
        if id(layer) not in samples:
            layer.leave_fp32()
            continue
        layer._products = products.get(id(layer), 0)
        seen = samples[id(layer)]
        if seen.low == seen.high == 0:
            zero.append(name)
        layer.calibrate_input(seen.values(), seen.low < 0, method)
        if isinstance(layer, QuantMatmul):
            layer.calibrate_operand(operands[id(layer)].values())
        layer.calibrate_weight()
        layer.forget_adc_ranges()
        layer.ensure_adc_range()
    calls.warn(stacklevel=2)
    if zero:
        warnings.warn(
            f"calibrate: the input of these layers is zero in all {used} batches: {some_names(zero)}. Their activation "
            "scales are 1 and they count as unsigned; calibrate with data that reaches them",
            CimqWarning,
            stacklevel=2,
        )
    if unused:
        warnings.warn(
            f"calibrate: the model calls these layers for none of the {used} batches, in evaluation: "
            f"{some_names(unused)}. They stay fp32 and have no entry in the policy; prepare(..., exclude=[...]) leaves "
            "them out from the start",
            CimqWarning,
            stacklevel=2,
        )


def _ends(values: Tensor) -> tuple[float, float]:
    """Smallest and largest value, with one question to the device; NaN if there is one."""
    low, high = torch.stack(torch.aminmax(values)).tolist()
    return low, high


@torch.no_grad()
def calibrate_converters(
    model: nn.Module,
    loader: Iterable[Any],
    *,
    adc_method: str = "percentile",
    forward_fn: ForwardFn | None = None,
) -> None:
    """Finds the converter ranges of a model whose scales stay as they are: a trained one that moved to another machine.

    Args:
        model: A prepared and calibrated (or trained) model on a machine with calibrated or learned converters; its
            train/eval mode is kept.
        loader: Batches; the first is used.
        adc_method: As in `calibrate`.
        forward_fn: As in `calibrate`.

    Raises:
        ValueError: If the loader is empty, no layer's converter takes its range from data, a layer is not called or
            not calibrated, or its input is not finite; names the layer.

    Example:
        >>> import torch, cimq
        >>> x = torch.rand(8, 4)
        >>> q = cimq.prepare(torch.nn.Linear(4, 2))
        >>> cimq.calibrate(q, [x])
        >>> cimq.quantization.set_hardware(
        ...     q, cimq.Hardware.preset("paper").replace(adc={"bits": 6, "range": "calibrated"}))
        >>> cimq.quantization.calibrate_converters(q, [x])
    """
    if adc_method not in ADC_METHODS:
        raise ValueError(
            f"calibrate_converters: adc_method must be one of {', '.join(ADC_METHODS)}, got {adc_method!r}"
        )
    layers = [(name, layer) for name, layer in quant_layers(model) if needs_ranges(layer.hardware)]
    if not layers:
        raise ValueError("calibrate_converters: no layer's machine has adc.range calibrated or learned")
    missing = [name for name, layer in layers if layer.act_signed is None]
    if missing:
        raise ValueError(f"calibrate_converters: not calibrated: {', '.join(missing)}; call calibrate first")
    samples = {}

    def observe(layer: QuantLayer, x: Tensor, call: dict[str, Any], product: Callable[[], Tensor]) -> Tensor:
        call = _observed_call("calibrate_converters", layer, x, call)
        if id(layer) not in samples and needs_ranges(layer.hardware):
            samples[id(layer)] = take_sample(x, call, adc_method)
        return product()

    with observing(model, observe), kept_random_state(model, loaders=[loader]):
        for batch in itertools.islice(loader, 1):
            (forward_fn or default_forward)(model, batch)
    unused = [name for name, layer in layers if id(layer) not in samples]
    if unused:
        raise ValueError(f"calibrate_converters: the loader is empty or does not reach {', '.join(unused)}")
    for _, layer in layers:
        layer._adc_sample = samples[id(layer)]
        layer.forget_adc_ranges()
        layer.ensure_adc_range()


def _observed_call(function: str, layer: QuantLayer, x: Tensor, call: dict[str, Any]) -> dict[str, Any]:
    """The arguments to keep of an observed product (of an operand its first sample), if its input is finite."""
    if x.numel() == 0:
        raise ValueError(f"{function}: the input of layer {layer.layer_name!r} is empty, {[*x.shape]}")
    refuse_meta_values(x, function, f"the input of layer {layer.layer_name!r}")
    if not all(map(math.isfinite, _ends(x))):
        raise ValueError(f"{function}: the input of layer {layer.layer_name!r} holds NaN or infinite values")
    return {**call, "operand": call["operand"][:1].clone()} if isinstance(layer, QuantMatmul) else call
