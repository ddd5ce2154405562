"""`prepare`: quantised layers in the place of convolutions and linear layers, in a model otherwise left alone."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from cimq.errors import CimqWarning, some_names
from cimq.hardware import Hardware, resolve
from cimq.layer_machine import layer_hardware
from cimq.policy import Policy
from cimq.quantization.calibration import calibrate
from cimq.quantization.conversion.converted import CrossbarLayer
from cimq.quantization.exact import exact_mode
from cimq.quantization.graph import image_order
from cimq.quantization.graph.refusals import check_device, exported_products, refuse_no_module
from cimq.quantization.graph.tracing import followers, trace
from cimq.quantization.inspection import warn_of_shared_ranges
from cimq.quantization.layers.attention import quantise_attention, why_not
from cimq.quantization.layers.fp32_products import note_known
from cimq.quantization.layers.hosts import Product, find_products, layer_names, quantise_host
from cimq.quantization.layers.numbering import ROOT
from cimq.quantization.layers.own_forward import check_own_forward
from cimq.quantization.layers.quant_layer import QuantLayer
from cimq.quantization.layers.weighted import quant_class
from cimq.quantization.quantisers.adc_ranges import check_adc_grad
from cimq.torch_tools.call_arguments import default_arguments
from cimq.torch_tools.forward import run_sample
from cimq.torch_tools.parallel import refuse_distributed
from cimq.torch_tools.private_names import convolves_by_itself, has_own_convolution
from cimq.torch_tools.recomputed import copied
from cimq.torch_tools.replaced_forwards import has_replaced_forward

_OTHER_PRODUCTS = (
    nn.Conv3d,
    nn.ConvTranspose1d,
    nn.ConvTranspose2d,
    nn.ConvTranspose3d,
    nn.Bilinear,
    nn.RNNBase,
    nn.RNNCellBase,
)


def prepare(
    model: nn.Module,
    policy: Policy | str | Path | None = None,
    hardware: Hardware | str | Path = "paper",
    *,
    exclude: Iterable[str] | str = (),
    inplace: bool = False,
    per_channel: bool = True,
    act_offset: bool = False,
    adc_grad: str = "identity",
    example_inputs: Any = None,
    training_hardware: Hardware | str | Path | None = None,
    memory_format: torch.memory_format | None = None,
) -> nn.Module:
    """Makes a model ready for calibration and quantisation-aware training.

    Every nn.Conv2d, nn.Conv1d and nn.Linear becomes a `QuantConv2d`, `QuantConv1d` or `QuantLinear`, an instance of the
    class it was, with the same parameters: names in the state_dict stay, fp32 state_dicts load (also strictly) before
    and after. A subclass with a forward of its own keeps it; only the product inside is quantised, with the weight that
    the forward computes from its parameters (weight standardisation, gains). An
    nn.MultiheadAttention has four layers: `in_proj`, `qk` (Q K^T), `av` (A V) and `out_proj`. Calls of F.linear and
    F.conv2d with a parameter as weight, and of F.scaled_dot_product_attention (`qk` and `av`), are quantised where
    torch.fx can trace the forward that makes them. What cannot be quantised stays fp32, with one `CimqWarning` that
    names it.

    Args:
        model: Any nn.Module.
        policy: Bits per layer, and what layers choose of the machine, or a file of them; None is 8 bits everywhere.
        hardware: The crossbar machine: a Hardware, a preset's name or a file.
        exclude: Glob patterns of layer names that stay fp32 (`"*.head"`); a name excludes what is inside it.
        inplace: Changes `model` itself instead of a deep copy.
        per_channel: One weight scale per output channel; False: one per layer. A weight that several layers share has
            one set of scales.
        act_offset: Inputs get a learned offset beside their scale (LSQ+: Bhalgat et al., CVPR-W 2020), rounded to an
            integer zero point: unsigned integers on the crossbar even for inputs like those after SiLU or GELU, which
            are a little negative; and one digital addition per output.
        adc_grad: "identity" or "clip": whether gradients pass conversions that a converter's range clips
            (docs/numbers.md, "Gradients"); every layer has it as an attribute.
        example_inputs: One input (or a tuple of inputs, or a mapping of keyword arguments) to calibrate with at once;
            else call `calibrate`.
        memory_format: Order of images between convolutions in training: torch.channels_last, in which CPUs are quicker;
            torch.preserve_format, as nn.Conv2d has it; None: channels-last where torch.fx can trace the model and shows
            that nothing in it depends on the order. Images and outputs of the model may have any order.
        training_hardware: The machine that training computes with, for instance `hardware` with more noise; None:
            `hardware`. Evaluation, conversion and export use `hardware`.

    Returns:
        The prepared model, in the train/eval mode of `model`.

    Raises:
        TypeError: If `model` is no nn.Module.
        ValueError: If the model is TorchScript, on the meta device, on several devices or on one without kernels of
            cimq (it has them for the CPU and CUDA), nothing can be quantised, a pattern of `exclude` matches nothing,
            the model is prepared already or in DistributedDataParallel, or the policy does not fit; names what is
            wrong.

    Example:
        >>> import torch, cimq
        >>> net = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.ReLU(), torch.nn.Flatten())
        >>> q = cimq.prepare(net, cimq.Policy.uniform(4, 4))
        >>> q[0].weight_bits, type(q[0]).__name__, type(net[0]).__name__
        (4, 'QuantConv2d', 'Conv2d')
    """
    refuse_no_module(model, "prepare")
    refuse_distributed(model, "prepare")
    check_device(model, "prepare")
    if any(isinstance(module, QuantLayer) for module in model.modules()):
        raise ValueError("prepare: the model is prepared already; use cimq.set_policy to change its bits")
    if any(isinstance(module, CrossbarLayer) for module in model.modules()):
        raise ValueError("prepare: the model is converted; prepare the model that it was made from")
    machine = resolve(hardware)
    trained_on = None if training_hardware is None else resolve(training_hardware)
    check_adc_grad(adc_grad)
    image_order.check_memory_format(memory_format)
    if not isinstance(policy, Policy):
        policy = Policy.uniform(8, 8) if policy is None else Policy.load(policy)
    excluded = _excluded_names(model, [exclude] if isinstance(exclude, str) else list(exclude))
    chosen, left_out, known = _choose(model, excluded)
    if not chosen:
        reasons = f" ({'; '.join(left_out)})" if left_out else ""
        raise ValueError(f"prepare: {type(model).__name__} has no nn.Conv2d or nn.Linear to quantise{reasons}")
    bound = policy.bind([name for choice in chosen for name in choice.layer_names()])
    for name, own in zip(bound, bound.machines(), strict=True):
        layer_hardware(machine, own, name)  # refuses before `model` is changed what the machine cannot have
    if left_out:
        warnings.warn(f"stays fp32: {'; '.join(left_out)}", CimqWarning, stacklevel=2)

    result = model if inplace else copied(model)
    owners: dict[int, tuple[Any, QuantLayer]] = {}  # of weights, by identity: tied ones have one owner
    index = 0
    for choice in chosen:
        # The object stays and changes its class, so that every reference to it (shared modules, hooks) holds.
        module: Any = result.get_submodule(choice.module)
        for name, layer in zip(choice.layer_names(), choice.quantise(module), strict=True):
            own = bound.machine(name)
            layer._attach(name, index, machine, per_channel, choice.intercepts, act_offset, trained_on, own)
            layer.adc_grad = adc_grad
            weight = layer.operands()[0] if hasattr(layer, "weight") else None
            if id(weight) in owners:
                layer.share_weight_scales(owners[id(weight)][1])
            if weight is not None:  # kept, as one that is computed at every access would leave its identity to another
                owners.setdefault(id(weight), (weight, layer))
            layer.set_bits(*bound[name], own)
            index += 1
    for name, calls in known.items():
        note_known(result.get_submodule(name), calls)
    for module in result.modules():
        _leave_fused_path(module)
    exact_mode.attach(result, _folded(result))
    with exact_mode.suspended():
        image_order.choose(result, memory_format)
    warn_of_shared_ranges(result, stacklevel=3)
    if example_inputs is not None:
        inputs = example_inputs if isinstance(example_inputs, (tuple, Mapping)) else (example_inputs,)
        calibrate(result, [inputs], batches=1, forward_fn=run_sample)
    return result


def _folded(model: nn.Module) -> list[tuple[str, str]]:
    """Pairs to fold; none where the model cannot be traced (its normalisations are then computed on their own).

    They must be pairs with all arguments of the forward given and, where that can be traced, with none of the optional.
    """
    with exact_mode.suspended():
        try:
            pairs = followers(model, trace(model))
        except Exception:
            return []
        optional = default_arguments(model)
        if not optional:
            return pairs
        try:
            without = followers(model, trace(model, fixed=optional))
        except Exception:
            return pairs
    return [pair for pair in pairs if pair in without]


def _excluded_names(model: nn.Module, patterns: list[str]) -> set[str]:
    names = [name for name, _ in model.named_modules(remove_duplicate=False) if name]
    excluded: set[str] = set()
    for pattern in patterns:
        hits = [name for name in names if fnmatchcase(name, pattern)]
        if not hits:
            raise ValueError(f"prepare: exclude pattern {pattern!r} matches no module; there are: {some_names(names)}")
        excluded.update(inner for inner in names for hit in hits if inner == hit or inner.startswith(hit + "."))
    return excluded


class _Choice(NamedTuple):
    """A module to quantise. `intercepts`: it is a layer with a forward of its own."""

    module: str
    intercepts: bool = False
    products: tuple[Product, ...] | None = None  # of a host
    attention: bool = False

    def layer_names(self) -> list[str]:
        """Names in the policy."""
        within: list[str] = []
        if self.products is not None:
            within = layer_names(list(self.products))
        elif self.attention:
            within = ["in_proj", "qk", "av", "out_proj"]
        prefix = f"{self.module}." if self.module else ""
        return [prefix + name for name in within] or [self.module or ROOT]

    def quantise(self, module: nn.Module) -> list[QuantLayer]:
        """Changes the class of `module`; its layers, not attached yet."""
        if self.products is not None:
            return quantise_host(module, list(self.products))
        if isinstance(module, nn.MultiheadAttention):
            out_proj: Any = module.out_proj
            out_proj.__class__ = quant_class(type(out_proj))
            return quantise_attention(module)
        module.__class__ = quant_class(type(module))
        layer: Any = module
        return [layer]


def _choose(model: nn.Module, excluded: set[str]) -> tuple[list[_Choice], list[str], dict[str, Iterable[str] | None]]:
    """What to quantise, sentences about what is left in fp32, and the same by module for `note_known`."""
    chosen: list[_Choice] = []
    left_out: list[str] = []
    known: dict[str, Iterable[str] | None] = dict.fromkeys(excluded)
    excluded_ids = {id(model.get_submodule(name)) for name in excluded}
    hidden: set[int] = set()  # inside attentions
    for name, module in model.named_modules():
        if id(module) in excluded_ids or id(module) in hidden:
            continue
        title = f"{name or 'the model'} ({type(module).__name__})"
        if isinstance(module, (nn.Conv2d, nn.Conv1d, nn.Linear)):
            reason, own_forward = _check_layer(module)
            if reason is None:
                chosen.append(_Choice(name, own_forward))
            else:
                left_out.append(f"{title}: {reason}")
                known[name] = None
        elif isinstance(module, nn.MultiheadAttention):
            hidden.update(id(inner) for inner in module.modules())
            reason = why_not(module)
            if reason is None:
                chosen.append(_Choice(name, attention=True))
            else:
                left_out.append(f"{title}: {reason}")
                known[name] = None
        elif isinstance(module, _OTHER_PRODUCTS):
            left_out.append(f"{title}: this kind of layer is not quantised")
            known[name] = None
        elif exported := exported_products(module):
            left_out.append(
                f"{title}: it is a graph of torch.export, which makes {', '.join(exported)} without layers; prepare "
                "the module that it was exported from"
            )
            known[name] = None
        else:
            products, others = find_products(module)
            if products:
                chosen.append(_Choice(name, products=tuple(products)))
            left_out += [f"{title}: its call of {other}" for other in others]
            if others:
                known[name] = [other.split()[0] for other in others]
    return chosen, left_out, known


def _leave_fused_path(module: nn.Module) -> None:
    """In evaluation PyTorch's transformer layers would read the weights from fused code, not by calling the layers."""
    if isinstance(module, nn.TransformerEncoderLayer):
        module.activation_relu_or_gelu = 0
    if isinstance(module, nn.TransformerEncoder):
        module.use_nested_tensor = module.enable_nested_tensor = False


def _check_layer(module: nn.Conv2d | nn.Conv1d | nn.Linear) -> tuple[str | None, bool]:
    """(why it cannot be quantised or None, whether it has a forward of its own)."""
    base: Any = next(kind for kind in (nn.Conv2d, nn.Conv1d, nn.Linear) if isinstance(module, kind))
    if isinstance(module, nn.modules.lazy.LazyModuleMixin) and module.has_uninitialized_params():
        return "it is lazy; run the model once before prepare", False
    if module.weight.dtype != torch.float32:
        return f"its weight is {str(module.weight.dtype).removeprefix('torch.')}, not float32", False
    if not bool(torch.isfinite(module.weight).all()):
        return "its weight holds NaN or infinite values", False
    if has_replaced_forward(module) or has_own_convolution(module):
        return "its forward was set on the object; one of its class, or of a subclass, can be quantised", False
    cls: Any = type(module)
    own = cls.forward is not base.forward or (base is not nn.Linear and convolves_by_itself(cls, base))
    return (check_own_forward(module) if own else None), own
