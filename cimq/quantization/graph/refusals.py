"""Models that cannot be prepared, calibrated or converted, said before any work: without values, layers or a whole."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx, nn

from cimq.ops.devices import has_kernels
from cimq.quantization.exact import exact_mode
from cimq.quantization.layers.quant_layer import QuantLayer
from cimq.torch_tools.devices import devices_of
from cimq.torch_tools.private_names import AnyConstantPad, AnyDropout, AtenOverload, tree_leaves

# Plain rearrangement and comparison: the same bits whoever computes them.
_SAME_BITS = (
    nn.Identity, nn.Flatten, nn.Unflatten, nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.PReLU, nn.Hardtanh, nn.Threshold,
    nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d, nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d, AnyDropout,
    nn.PixelShuffle, nn.ChannelShuffle, AnyConstantPad, nn.ModuleList, nn.ModuleDict, nn.Sequential,
)  # fmt: skip
_DEFINED_MODULES = (
    nn.AvgPool1d, nn.AvgPool2d, nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.Upsample, nn.Sigmoid, nn.SiLU,
    nn.Hardsigmoid, nn.Hardswish, nn.Tanh, nn.GELU, nn.ELU,
    nn.Softmax, nn.Softmax2d, nn.LogSoftmax, nn.Softmin, nn.LayerNorm, nn.GroupNorm,
)  # fmt: skip


def check_device(model: nn.Module, caller: str) -> None:
    """Refuses a model without values, one that lies on several devices, or on one for which there are no kernels.

    Raises:
        ValueError: Names the device, and the first parameter or buffer on it.
    """
    devices = devices_of(model)
    for device, name in devices.items():
        if device.type == "meta":
            raise ValueError(
                f"{caller}: {name} is on the meta device and has no values; give the model memory "
                "(model.to_empty(device='cpu')) and load its weights first"
            )
    if len(devices) > 1:
        (one, first), (other, second) = list(devices.items())[:2]
        raise ValueError(
            f"{caller}: the model must lie on one device, got {first} on {one} and {second} on {other}; move all of "
            f"it, e.g. model.to({str(one)!r})"
        )
    for device, name in devices.items():
        if device.type == "cuda" and not has_kernels(device):
            raise ValueError(
                f"{caller}: {name} is on {device}, and this build of cimq has no CUDA kernels (`cimq info` shows what "
                "was built): call model.cpu(), or build cimq where nvcc and a CUDA build of torch are installed"
            )
        if not has_kernels(device):
            raise ValueError(
                f"{caller}: {name} is on {device}, for which cimq has no kernels: it has them for the CPU and for "
                "CUDA; call model.cpu()"
            )


def check_device_of_quantised(model: nn.Module, caller: str) -> None:
    """`check_device` of a model with quantised layers; any other model may lie wherever PyTorch computes.

    Raises:
        ValueError: As there.
    """
    if any(isinstance(module, QuantLayer) or hasattr(module, "weight_q") for module in model.modules()):
        check_device(model, caller)


def refuse_meta_values(values: Any, caller: str, what: str) -> None:
    """Refuses inputs without values.

    Raises:
        ValueError: For a tensor on the meta device.
    """
    if any(isinstance(value, Tensor) and value.device.type == "meta" for value in tree_leaves(values)):
        raise ValueError(f"{caller}: {what} is on the meta device and has no values; pass real data")


def refuse_no_module(model: Any, caller: str) -> None:
    """Refuses what is no module, and modules of TorchScript, which hide their layers.

    Raises:
        TypeError: For what is no nn.Module.
        ValueError: For a module of TorchScript.
    """
    if not isinstance(model, nn.Module):
        kind = type(model)
        hint = (
            ", a graph of operations without layers; prepare the module that it was exported from"
            if kind.__name__ == "ExportedProgram" and kind.__module__.startswith("torch.")
            else ""
        )
        raise TypeError(f"{caller} takes an nn.Module, got {kind.__name__}{hint}")
    if isinstance(model, torch.jit.ScriptModule):
        raise ValueError(
            f"{caller}: the model is TorchScript ({type(model).__name__}), whose layers cannot be replaced; prepare "
            "the module that it was scripted or traced from"
        )


def exported_products(module: nn.Module) -> list[str]:
    """Products that a graph of torch.export makes by operations of ATen; empty for any other module."""
    if not isinstance(module, fx.GraphModule):
        return []
    targets = [node.target for node in module.graph.nodes if isinstance(node.target, AtenOverload)]
    names = {str(target.overloadpacket.__name__) for target in targets if target.namespace == "aten"}
    return sorted(name for name in names if name in _ATEN_PRODUCTS)


_ATEN_PRODUCTS = {
    "conv1d", "conv2d", "conv3d", "convolution", "linear", "mm", "addmm", "bmm", "baddbmm", "matmul",
    "scaled_dot_product_attention",
}  # fmt: skip


def refuse_parts_outside(model: nn.Module, graph: fx.Graph | None) -> None:
    """Refuses to convert a model of which only a part was prepared, and the rest computes with other bits.

    The evaluation of what `prepare` returned is defined to the bit; that of an ordinary layer around it is not.

    Raises:
        ValueError: Names the modules and calls outside of the prepared parts.
    """
    if exact_mode.folded_pairs(model) is not None:
        return
    named = list(model.named_modules())
    roots = {name for name, module in named if exact_mode.folded_pairs(module) is not None}
    inside = {id(inner) for name in roots for inner in model.get_submodule(name).modules()}
    outside = [f"{name} ({type(module).__name__})" for name, module in named if name and _computes(module, inside)]
    for node in [] if graph is None else graph.nodes:
        called = node.op in ("call_function", "call_method")
        stack = node.meta.get("nn_module_stack") or {}
        if called and not roots & set(stack) and exact_mode.is_defined(node.target):
            outside.append(f"the call {getattr(node.target, '__name__', node.target)}")
    if outside:
        prepared = f"only {', '.join(sorted(roots))} was prepared" if roots else "it was taken out of a prepared model"
        raise ValueError(
            f"convert: {type(model).__name__} is not what cimq.prepare returned, {prepared}, and the evaluation of "
            f"{', '.join(outside[:8])} around it has no defined order of additions; call cimq.prepare on the whole "
            "model"
        )


def _computes(module: nn.Module, inside: set[int]) -> bool:
    if id(module) in inside or isinstance(module, (QuantLayer, *_SAME_BITS)):
        return False
    own = any(True for _ in module.parameters(recurse=False)) or any(True for _ in module.buffers(recurse=False))
    return own or isinstance(module, _DEFINED_MODULES)
