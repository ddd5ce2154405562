"""Looking at and switching the quantised layers of a prepared model."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from cimq.cost_model.shapes import LayerShape
from cimq.errors import CimqWarning, some_names
from cimq.hardware import Hardware, resolve
from cimq.layer_machine import layer_hardware
from cimq.policy import Policy
from cimq.quantization.conversion.converted import ConvertedObserver, CrossbarLayer
from cimq.quantization.exact import exact_mode
from cimq.quantization.layers.matmul import QuantMatmul
from cimq.quantization.layers.numbering import all_quant_layers, quant_layers, tell_apart
from cimq.quantization.layers.quant_layer import Observer, QuantLayer
from cimq.quantization.layers.weighted import QuantConv1d, QuantConv2d
from cimq.torch_tools.forward import noting_batch, run_sample
from cimq.torch_tools.modes import in_evaluation
from cimq.torch_tools.private_names import compiler_is_loaded


def set_policy(model: nn.Module, policy: Policy | str | Path) -> None:
    """Switches the bits of every layer of a prepared model, and what layers choose of the machine.

    Nothing is copied or searched for widths seen before. Converter ranges from data belong to the bits of a converter
    and to a mapping: those of a choice that is new to a layer are found from the sample that `calibrate` kept.

    Args:
        model: A prepared model.
        policy: Bits per layer (any policy that fits), or a file of them.

    Raises:
        ValueError: If the model is not prepared, the policy does not fit its layers, or it chooses what the machine
            cannot have.
    """
    layers = quant_layers(model)
    if not isinstance(policy, Policy):
        policy = Policy.load(policy)
    bound = policy.bind([name for name, _ in layers])
    chosen = list(zip((layer for _, layer in layers), bound.values(), bound.machines(), strict=True))
    for layer, _, machine in chosen:
        layer.check_machine(machine)
    for layer, bits, machine in chosen:
        layer.set_bits(*bits, machine)


def get_policy(model: nn.Module) -> Policy:
    """The bits that a prepared model has now, and what its layers choose of the machine."""
    return Policy(
        {name: (layer.weight_bits, layer.act_bits, *layer.layer_machine) for name, layer in quant_layers(model)}
    )


def set_hardware(
    model: nn.Module, hardware: Hardware | str | Path, *, training: Hardware | str | Path | None = None
) -> None:
    """Moves a prepared model to another machine; converter ranges from data are worked out anew.

    What layers choose of a machine stays.

    Args:
        model: A prepared model.
        hardware: The machine.
        training: What training computes with instead, for instance the same machine with more noise; None: `hardware`.

    Raises:
        ValueError: If the model is not prepared, the converter range of `training` is from data and not that of
            `hardware`, whose ranges it would use, or the machine cannot have what a layer chooses.
    """
    machine = resolve(hardware)
    trained_on = None if training is None else resolve(training)
    quant_layers(model)  # refuses a model that is not prepared
    for name, layer in all_quant_layers(model):
        layer_hardware(machine, layer.layer_machine, name)
    for _, layer in all_quant_layers(model):
        layer.set_hardware(machine, trained_on)
    warn_of_shared_ranges(model, stacklevel=3)


def warn_of_shared_ranges(model: nn.Module, stacklevel: int) -> None:
    """Names the products of attention where the machine asks for converter ranges per column, which they do not get."""
    names = [
        name
        for name, layer in quant_layers(model)
        if isinstance(layer, QuantMatmul) and layer.hardware.adc.granularity == "column"
    ]
    if names:
        warnings.warn(
            f"adc.granularity is column, and {some_names(names)} keep one converter range per weight slice: their "
            "columns are written anew for every input",
            CimqWarning,
            stacklevel=stacklevel,
        )


def set_chip(model: nn.Module, seed: int) -> None:
    """Chooses the chip (one draw of all cell variation) that evaluation uses; of a prepared or a converted model."""
    for layer in chip_seeds(model):
        layer.chip_seed = int(seed)


def chip_seeds(model: nn.Module) -> dict[QuantLayer | CrossbarLayer, int]:
    """The quantised or converted layers with the seed of the chip that each is on.

    Raises:
        ValueError: If there are none.
    """
    tell_apart(model, stacklevel=4)
    layers = {module: module.chip_seed for module in model.modules() if isinstance(module, (QuantLayer, CrossbarLayer))}
    if not layers:
        raise ValueError(f"{type(model).__name__} has no quantised layers; call cimq.prepare(model) first")
    return layers


def param_groups(model: nn.Module, lr: float, weight_decay: float = 0.0) -> list[dict[str, Any]]:
    """Parameter groups for an optimiser: scales and converter steps apart: a tenth of the rate, no weight decay.

    Frozen parameters are left out. A model without quantised layers has one group.

    Example:
        >>> import torch, cimq
        >>> q = cimq.prepare(torch.nn.Linear(4, 2))
        >>> optimizer = torch.optim.SGD(cimq.param_groups(q, lr=0.01, weight_decay=1e-4), momentum=0.9)
        >>> [(g["lr"], g["weight_decay"]) for g in optimizer.param_groups]
        [(0.01, 0.0001), (0.001, 0.0)]
    """
    scale_ids = {
        id(scales)
        for module in model.modules()
        if isinstance(module, QuantLayer)
        for scales in (module.weight_scales, module.act_scales, module.act_offsets, module.adc_lsb)
        if scales is not None
    }
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {
            "params": [p for p in trained if id(p) not in scale_ids],
            "lr": lr,
            "weight_decay": weight_decay,
            "name": "weights",
        },
        {"params": [p for p in trained if id(p) in scale_ids], "lr": lr * 0.1, "weight_decay": 0.0, "name": "scales"},
    ]
    return [group for group in groups if group["params"]]


@contextmanager
def observing(model: nn.Module, observer: Observer, layers: Sequence[QuantLayer] | None = None) -> Iterator[None]:
    """The model runs in fp32, evaluation and uncompiled; `observer` sees the input of every quantised layer.

    Or of `layers`.
    """
    if layers is None:
        layers = [layer for _, layer in quant_layers(model)]
    with _observed(model, layers, observer), exact_mode.suspended():
        yield


@contextmanager
def _observed(model: nn.Module, layers: Sequence[Any], observer: Any) -> Iterator[None]:
    """The model runs in evaluation, uncompiled and without gradients; `layers` call `observer`."""
    for layer in layers:
        layer._observer = observer
    try:
        with in_evaluation(model), torch.no_grad(), _uncompiled():
            yield
    finally:
        for layer in layers:
            layer._observer = None


def _uncompiled() -> AbstractContextManager[Any]:
    """Compiled modules run as they were written; the compiler is not imported (for seconds) where it is not in use."""
    return torch.compiler.set_stance("force_eager") if compiler_is_loaded() else nullcontext()


def converted_layers(model: nn.Module) -> list[tuple[str, CrossbarLayer]]:
    """The crossbar layers of a converted model as (name, module), in policy order; none for another model."""
    layers = [module for module in model.modules() if isinstance(module, CrossbarLayer)]
    return [(layer.layer_name, layer) for layer in sorted(layers, key=lambda layer: layer.layer_index)]


@contextmanager
def observing_converted(model: nn.Module, observer: ConvertedObserver) -> Iterator[None]:
    """`observing` of a converted model: what `observer` gets for the fp32 product has the quantised weight."""
    with _observed(model, [layer for _, layer in converted_layers(model)], observer):
        yield


def products_per_sample(layer: QuantLayer, x: Tensor, y: Tensor, batch: int = 0) -> int:
    """Input vectors of one call for one sample: output pixels of a convolution, tokens of any other layer.

    Args:
        layer: The layer.
        x: Its input, whose first dimension is the batch or, of a model that folds tokens or parts of images into it,
            a multiple of it.
        y: Its output.
        batch: Samples that the model got, 0 if not known.
    """
    parts = x.shape[0] // batch if batch and x.shape[0] % batch == 0 else 1
    if isinstance(layer, (QuantConv2d, QuantConv1d)):
        return math.prod(y.shape[2:]) * parts
    products = math.prod(y.shape[:-1]) // x.shape[0] * parts
    return products // x.shape[1] if isinstance(layer, QuantMatmul) else products  # per matrix: head


def layer_shapes(model: nn.Module, sample_input: Any = None) -> list[LayerShape]:
    """Shapes of the quantised layers as matrices: what `cimq.latency` needs.

    Args:
        model: A prepared model.
        sample_input: An input [N, ...], a tuple of inputs, or a dict of keyword arguments, for one run in fp32. Counts
            are per sample. None: the counts are those of calibration.

    Returns:
        One LayerShape per quantised layer in policy order; a convolution with g groups is g matrices (`repeats`), a
        product of attention with h heads is h matrices, written anew for every inference.

    Raises:
        ValueError: If a layer is not called; names it. If there is neither an input nor calibration.
    """
    layers = quant_layers(model)
    invocations: dict[int, int] = {}

    def count(layer: QuantLayer, x: Tensor, call: dict[str, Any], product: Callable[[], Tensor]) -> Tensor:
        y = product()
        invocations[id(layer)] = invocations.get(id(layer), 0) + products_per_sample(layer, x, y, batch[0])
        return y

    batch = [0]
    if sample_input is None:
        unseen = [name for name, layer in layers if not layer._products]
        if unseen:
            raise ValueError(
                "a model that is not calibrated needs sample_input=, one input, to learn how often each layer runs: "
                f"not known of {', '.join(unseen)}"
            )
        invocations = {id(layer): layer._products for _, layer in layers}
    else:
        with observing(model, count), noting_batch(model) as batch:
            run_sample(model, sample_input)
    unused = [name for name, layer in layers if id(layer) not in invocations]
    if unused:
        raise ValueError(
            f"the model does not call {', '.join(unused)}; calibrate leaves such layers in fp32, "
            "prepare(..., exclude=[...]) leaves them out from the start"
        )
    shapes = []
    for name, layer in layers:
        kind, (repeats, outputs, inputs) = _matrices(layer)
        shapes.append(LayerShape(name, kind, outputs, inputs, invocations[id(layer)], repeats))
    return shapes


def _matrices(layer: QuantLayer) -> tuple[str, tuple[int, int, int]]:
    """What kind of layer it is, and its (matrices, outputs, inputs)."""
    if isinstance(layer, QuantMatmul):
        assert layer.matrix is not None  # it was called
        return "matmul", layer.matrix
    if isinstance(layer, (QuantConv2d, QuantConv1d)):
        kind = "conv2d" if isinstance(layer, QuantConv2d) else "conv1d"
        return kind, (layer.groups, layer.weight.shape[0] // layer.groups, layer.weight[0].numel())
    return "linear", (1, layer.weight.shape[0], layer.weight.shape[1])
