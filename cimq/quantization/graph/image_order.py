"""The order of images in training: channels-last inside a model whose operations do not depend on it.

Convolutions and batch normalisations on a CPU are quicker in channels-last order. A tensor in that order has the same
values, but `view` and `stride` tell the orders apart, and a loss may take a view of what the model returns. Therefore
the first convolution changes the order only where the graph of the model has no such operation, and outputs get back
the order that the inputs have. A part of the model that is called by itself gives its images in channels-last order.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from cimq.quantization.graph.tracing import trace
from cimq.quantization.layers.quant_layer import QuantLayer
from cimq.quantization.layers.weighted import QuantConv2d
from cimq.torch_tools.call_arguments import default_arguments
from cimq.torch_tools.private_names import FUNCTION_LIBRARIES, UNSAFE_VIEW, tree_leaves, tree_map

# What shows the order of a tensor in memory, or needs a certain one.
_ORDERED = {
    "view", "view_as", UNSAFE_VIEW, "as_strided", "as_strided_", "stride", "is_contiguous", "storage", "data_ptr",
    "untyped_storage", "storage_offset", "set_", "resize_", "resize_as_", "numpy", "view_as_real", "view_as_complex",
}  # fmt: skip


def check_memory_format(memory_format: torch.memory_format | None) -> None:
    """Raises ValueError for what `choose` does not take."""
    if memory_format not in (None, torch.channels_last, torch.preserve_format):
        raise ValueError(
            f"prepare: memory_format must be torch.channels_last, torch.preserve_format or None, got {memory_format}"
        )


def choose(root: nn.Module, memory_format: torch.memory_format | None) -> None:
    """Sets the order of images in the training of `root`: see `prepare`."""
    layers = [module for module in root.modules() if isinstance(module, QuantConv2d)]
    if not layers or memory_format == torch.preserve_format:
        return
    if memory_format is None and not does_not_depend_on_order(root):
        return
    for layer in layers:
        layer.channels_last = True
    root.register_forward_hook(_restore_order, with_kwargs=True)


def does_not_depend_on_order(root: nn.Module) -> bool:
    """Whether the graph of `root` in training shows that nothing in it depends on the order of images in memory."""
    fixed: list[dict[str, Any] | None] = [None]
    optional = default_arguments(root)
    if optional:
        fixed.append(optional)  # without them the forward may take another way
    if any(
        isinstance(module, nn.Conv2d) and module.groups > 1 and max(module.dilation) > 1 for module in root.modules()
    ):
        return False  # oneDNN (as of PyTorch 2.13) is wrong about these in bf16 and channels-last order
    try:
        return all(_is_free(root, trace(root, fixed=arguments, training=True)) for arguments in fixed)
    except Exception:
        return False


def _is_free(root: nn.Module, graph: fx.Graph) -> bool:
    return all(_is_free_node(root, node) for node in graph.nodes)


def _is_free_node(root: nn.Module, node: fx.Node) -> bool:
    if node.op == "call_module":
        module = root.get_submodule(str(node.target))
        if isinstance(module, QuantLayer):
            return not module._intercepts  # a forward of its own
        return type(module).__module__.startswith("torch.nn.modules")
    if node.op == "call_function":
        known = getattr(node.target, "__module__", None) in FUNCTION_LIBRARIES
        return known and getattr(node.target, "__name__", "") not in _ORDERED and not _names_order(node)
    if node.op == "call_method":
        return node.target not in _ORDERED or (node.target == "view" and _has_one_order(root, node.args[0]))
    return True


def _names_order(node: fx.Node) -> bool:
    return node.target is getattr and node.args[1] in _ORDERED


def _has_one_order(root: nn.Module, value: Any) -> bool:
    """Whether it is certainly a matrix, or images of one pixel: in both orders the same."""
    if not isinstance(value, fx.Node):
        return False
    if value.op == "call_module":
        module = root.get_submodule(str(value.target))
        if isinstance(module, nn.Flatten):
            return (module.start_dim, module.end_dim) == (1, -1)
        return _is_one(getattr(module, "output_size", None))
    first: Any = value.args[1] if len(value.args) > 1 else None
    if value.target in (torch.flatten, "flatten"):
        start: Any = value.kwargs.get("start_dim", first)
        return bool(start == 1) and len(value.args) < 3 and "end_dim" not in value.kwargs
    if value.target in (torch.mean, "mean"):
        dims = value.kwargs.get("dim", first)
        return isinstance(dims, (list, tuple)) and {d % 4 for d in dims} == {2, 3}
    return value.target is F.adaptive_avg_pool2d and _is_one(value.kwargs.get("output_size", first))


def _is_one(size: Any) -> bool:
    return size in (1, (1, 1), [1, 1])


def _restore_order(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:
    if any(_is_channels_last(value) for value in tree_leaves((args, kwargs))):
        return output
    return tree_map(lambda value: value.contiguous() if _is_reordered(value) else value, output)


def _is_channels_last(value: Any) -> bool:
    return (
        isinstance(value, Tensor)
        and not isinstance(value, fx.Proxy)
        and value.dim() == 4
        and not value.is_contiguous()
        and value.is_contiguous(memory_format=torch.channels_last)
    )


def _is_reordered(value: Any) -> bool:
    """Images in channels-last order, or a part or a view of such; what is expanded stays small."""
    return (
        isinstance(value, Tensor)
        and not isinstance(value, fx.Proxy)
        and value.layout == torch.strided
        and not value.is_contiguous()
        and 0 not in value.stride()
    )
